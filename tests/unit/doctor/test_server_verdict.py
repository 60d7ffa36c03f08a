"""What is found of a server by what was heard of it. Real servers are in the scenarios."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from mailweir.config.words import Proxy
from mailweir.doctor.certificates import BadChain, Certificate
from mailweir.doctor.findings import Ailment
from mailweir.doctor.opening import CLIENT4, CLIENT6, Opening
from mailweir.doctor.reply_words import TimedReply
from mailweir.doctor.sessions_heard import AtOnce, Broken, Looked, is_about_headers, is_about_relay
from unit.doctor.subjects import CLOSED, GREETING, OWN, closed, found, heard, subject

TAKEN = TimedReply(250, ("2.1.5 Ok",))
DENIED = TimedReply(554, ("5.7.1 <x@example.com>: Relay access denied",))
FOREIGN = Opening(Proxy.V2, CLIENT4)
FOREIGN6 = Opening(Proxy.V2, CLIENT6)
DAY = 86400.0


def test_nothing_is_wrong() -> None:
    assert found(subject(), Looked(heard(recipient=DENIED))) == []
    client = heard("v2", opening=FOREIGN, recipient=DENIED)
    six = heard("v2", opening=FOREIGN6)
    assert found(subject("v2"), Looked(heard("v2"), client, six)) == []


def test_nobody_can_connect() -> None:
    looked = Looked(heard(greeting=None, hello=None, broken=Broken("connect", "refused")))
    [one] = found(subject(), looked)
    assert one.ailment is Ailment.CONNECT
    assert "pools.farm.servers.a.address" in one.change
    assert one.where == "farm/a (10.0.0.1:25)"


def test_the_other_version() -> None:
    looked = Looked(
        closed("v2"), closed("v2", opening=FOREIGN), plain=closed(), others=(heard("v1"),)
    )
    [one] = found(subject("v2"), looked)
    assert (one.ailment, one.change.split(";")[0]) == (
        Ailment.PROXY,
        "here pools.farm.servers.a.proxy: v1",
    )
    assert "of version v1, and is sent v2" in one.wrong


def test_no_header_where_one_is_expected() -> None:
    [one] = found(subject(), Looked(closed(), others=(closed("v2"), heard("v1"))))
    assert one.change.startswith("here pools.farm.servers.a.proxy: v1; or Postfix: ")


def test_local_is_not_taken() -> None:
    [one] = found(subject("v2"), Looked(closed("v2"), heard("v2", opening=FOREIGN)))
    assert "but not those of checks: LOCAL" in one.wrong
    assert "pools.farm.servers.a.proxy: v1" in one.change


def test_no_header_with_a_client_is_taken() -> None:
    [one] = found(subject("v2"), Looked(heard("v2"), closed("v2", opening=FOREIGN)))
    assert (one.ailment, "none that names a client" in one.wrong) == (Ailment.PROXY, True)


def test_a_client_that_is_refused_by_its_name_is_no_fault() -> None:
    refused = heard("v2", opening=FOREIGN, greeting=TimedReply(554, ("listed",)), hello=None)
    assert found(subject("v2"), Looked(heard("v2"), refused)) == []


def test_ipv6_is_told_apart_from_all() -> None:
    six = closed("v2", opening=FOREIGN6)
    client = heard("v2", opening=FOREIGN)
    [one] = found(subject("v2"), Looked(heard("v2"), client, six))
    assert "IPv6" in one.wrong
    [one] = found(subject("v2"), Looked(heard("v2"), closed("v2", opening=FOREIGN), six))
    assert "IPv6" not in one.wrong


def test_a_server_that_is_full_takes_ipv6_clients_all_the_same() -> None:
    full = TimedReply(421, ("Too many concurrent SMTP connections; please try again later.",))
    six = heard("v2", opening=FOREIGN6, greeting=full, hello=None)
    assert found(subject("v2"), Looked(heard("v2"), heard("v2", opening=FOREIGN), six)) == []
    gone = replace(six, greeting=TimedReply(421, ("4.3.0 error",)))
    assert found(subject("v2"), Looked(heard("v2"), heard("v2", opening=FOREIGN), gone)) != []


def test_a_name_that_only_headers_have_is_nothing_to_change() -> None:
    refused = TimedReply(504, ("5.5.2 <[192.0.2.1]>: Helo command rejected",))
    client = heard("v2", opening=FOREIGN, recipient=refused)
    assert found(subject("v2"), Looked(heard("v2"), client)) == []
    [one] = found(subject(), Looked(heard(recipient=refused)))
    assert one.ailment is Ailment.HELO


def test_a_relay_is_meant_where_strangers_are_kept_out() -> None:
    looked = Looked(heard(recipient=TAKEN))
    assert [one.ailment for one in found(subject(), looked)] == [Ailment.RELAY]
    assert found(subject(admits_anybody=False), looked) == []


def test_a_relay_for_a_client_from_outside() -> None:
    client = heard("v2", opening=FOREIGN, recipient=TAKEN)
    [one] = found(subject("v2"), Looked(heard("v2"), client))
    assert "from 192.0.2.1" in one.wrong
    # That our own address is a friend's says nothing of clients.
    denied = replace(client, recipient=DENIED)
    assert found(subject("v2"), Looked(heard("v2", recipient=TAKEN), denied)) == []


def test_a_limit_that_was_not_met() -> None:
    looked = Looked(heard(recipient=DENIED))
    assert found(subject(), replace(looked, at_once=AtOnce(51, 51, None))) == []
    said = TimedReply(421, ("4.7.0 mx Error: too many connections from 10.0.0.25",))
    [one] = found(subject(), replace(looked, at_once=AtOnce(51, 10, said)))
    # With ten clients' sessions there would be none for the check.
    assert "pools.farm.servers.a.max_sessions: 9, which leaves room for checks" in one.change
    [one] = found(subject(checks=0), replace(looked, at_once=AtOnce(51, 10, said)))
    assert one.change.endswith("pools.farm.servers.a.max_sessions: 10")
    [one] = found(subject(), replace(looked, at_once=AtOnce(51, 1, said)))
    assert "max_sessions" not in one.change
    # It refuses everybody now: no limit of ours.
    assert found(subject(), replace(looked, at_once=AtOnce(51, 0, said))) == []


@pytest.mark.parametrize(
    ("first", "paused", "key"),
    [
        (16.0, 0.0, "listeners.mx.timeouts.greeting: 33s"),
        (1.0, 16.0, "pools.farm.check.timeout: 35s"),
        (14.0, 0.5, ""),
    ],
)
def test_late_greetings(first: float, paused: float, key: str) -> None:
    # Not a teaser's pause, which is another finding: by an Exim.
    slow = TimedReply(220, ("mx.farm.test ESMTP Exim",), first, paused)
    keys = [one.change for one in found(subject(), Looked(heard(greeting=slow)))]
    assert keys == ([f"here {key}"] if key else [])


def test_postscreen_that_sees_one_client() -> None:
    teased = TimedReply(220, ("wait", "mx.farm.test ESMTP Postfix"), 0.0, 6.0)
    [one] = found(subject(), Looked(heard(greeting=teased)))
    assert "postscreen_upstream_proxy_protocol = haproxy" in one.change
    with_header = Looked(heard("v2", greeting=teased), heard("v2", opening=FOREIGN))
    assert found(subject("v2"), with_header) == []


@pytest.mark.parametrize("name", ["mx.farm.test", "MX.Farm.Test."])
def test_the_name_of_its_address(name: str) -> None:
    reached = subject(reached_at=(IPv4Address("203.0.114.7"),))
    for said in ("mx.farm.test ESMTP", "MX.FARM.TEST ESMTP"):
        assert found(reached, Looked(heard(greeting=TimedReply(220, (said,)))), name=name) == []
    [one] = found(reached, Looked(heard()), name="other.test")
    assert (one.ailment, "other.test ESMTP" in one.change) == (Ailment.GREETING_NAME, True)


def test_certificates() -> None:
    good = Certificate(("mx.farm.test",), 90 * DAY)
    assert found(subject(), Looked(heard(certificate=good))) == []
    for bad in (
        replace(good, ends=DAY),
        replace(good, names=("other.test",)),
        BadChain(18, "self-signed certificate"),
    ):
        [one] = found(subject(), Looked(heard(certificate=bad)))
        assert one.ailment is Ailment.CERTIFICATE
    # Of a server whose TLS comes first, and which says no more.
    ended = closed(certificate=BadChain(10, "certificate has expired"))
    ailments = [one.ailment for one in found(subject(), Looked(ended))]
    assert ailments == [Ailment.GREETING, Ailment.CERTIFICATE]


@pytest.mark.parametrize(
    "how", ["no answer within 20s", "connection closed by the server", "no SMTP: HTTP/1.1 400"]
)
def test_a_server_that_says_nothing_of_smtp(how: str) -> None:
    """No setting of Postfix or Exim makes it do so."""
    [one] = found(subject(), Looked(replace(closed(), broken=Broken("greeting", how))))
    assert one.change == (
        f"see what the server's log says of {OWN}, and start it again where it hangs; or correct"
        " here pools.farm.servers.a.address: it may be another program's port"
    )


def test_a_server_that_refuses_us() -> None:
    said = TimedReply(554, ("5.7.1 <lb>: Client host rejected",))
    unlike = heard(greeting=said, hello=None)
    [one] = found(subject(), Looked(unlike))
    assert f"smtpd_client_restrictions = check_client_access inline:{{{OWN}=OK}}" in one.change


@pytest.mark.parametrize("proxy", ["off", "v2"])
def test_a_server_that_has_too_many_sessions(proxy: str) -> None:
    said = TimedReply(421, ("4.7.0 mx.farm.test Error: too many connections from 10.0.0.25",))
    full = heard(proxy, greeting=said, hello=None)
    [one] = found(subject(proxy), Looked(full))
    assert (one.ailment, "too many connections" in one.wrong) == (Ailment.CLIENT_LIMIT, True)
    assert "smtpd_client_event_limit_exceptions = $mynetworks, 10.0.0.25" in one.change


def test_a_server_that_can_not_serve_for_now_has_nothing_against_a_name() -> None:
    later = heard(hello=TimedReply(451, ("4.3.0 Temporary lookup failure",)))
    [one] = found(subject(), Looked(later))
    assert (one.ailment, "451 4.3.0 Temporary" in one.wrong) == (Ailment.GREETING, True)
    # Exim's, for a name that no name server answers for.
    unlike = heard(hello=TimedReply(451, ("EHLO argument does not match calling host",)))
    [one] = found(subject(), Looked(unlike))
    assert one.ailment is Ailment.HELO


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ("250 2.1.5 Ok", True),
        ("454 4.7.1 <x@example.com>: Relay access denied", True),
        ("550 5.7.1 Relaying denied", True),
        ("554 5.7.1 <lb>: Client host rejected: Access denied", False),
        ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using dnsbl.test", False),
        ("554 5.7.1 <x@example.com>: Relay access denied", True),
        ("550 relay not permitted", True),
        ("550 Invalid recipient: <x@example.com>", True),
        ("550 5.1.1 <x@example.com>: no such user", False),
        ("450 4.7.1 Client host rejected: cannot find your hostname", False),
        ("451 4.7.1 Greylisting in action", False),
    ],
)
def test_what_says_whether_it_relays(said: str, about: bool) -> None:
    code, _, words = said.partition(" ")
    assert is_about_relay(TimedReply(int(code), (words,))) is about


def test_an_unknown_server_is_told_in_the_words_of_the_likely_ones() -> None:
    unknown = heard(greeting=TimedReply(220, ("ready",)), recipient=TAKEN)
    [one] = found(subject(), Looked(unknown))
    assert "Postfix: main.cf: mynetworks without 10.0.0.25" in one.change
    assert "Exim: hostlist relay_from_hosts" in one.change


@pytest.mark.parametrize(
    ("proxy", "heard_so", "about"),
    [
        ("off", closed(), True),
        ("v2", closed("v2"), True),
        ("off", heard(greeting=TimedReply(554, ("no",)), hello=None), False),
        ("v1", heard("v1", greeting=TimedReply(554, ("synchronization error",)), hello=None), True),
        ("off", heard(greeting=TimedReply(421, ("4.3.0 error",)), hello=None), True),
        ("off", heard(hello=TimedReply(503, ("required Proxy negotiation failed",))), True),
        ("off", heard(hello=TimedReply(550, ("no",))), False),
        ("v2", heard("v2", hello=TimedReply(550, ("EHLO argument does not match",))), False),
        ("v2", heard("v2", hello=TimedReply(500, ("bad syntax",))), True),
        ("v2", heard("v2", greeting=TimedReply(421, ("Too many of you",)), hello=None), False),
        ("v2", heard("v2", broken=Broken("connect", "refused"), greeting=None, hello=None), False),
    ],
)
def test_what_may_be_about_headers(proxy: str, heard_so: object, about: bool) -> None:
    assert is_about_headers(Proxy(proxy), heard_so) is about  # type: ignore[arg-type]


def test_a_known_server_never_hears_the_words_of_others() -> None:
    for name in ("OpenSMTPD", "Exim 4.96", "Postfix"):
        named = TimedReply(220, (f"mx.farm.test ESMTP {name}",))
        six = closed("v2", opening=FOREIGN6)
        looks = (
            (subject(), Looked(heard(greeting=named, recipient=TAKEN))),
            (subject(), Looked(heard(greeting=named, hello=TimedReply(550, ("EHLO no",))))),
            (subject("v2"), Looked(heard("v2", greeting=named), heard("v2", opening=FOREIGN), six)),
            (subject("v2"), Looked(closed("v2"), plain=heard(greeting=named))),
        )
        for of, looked in looks:
            [one] = found(of, looked)
            told = {word for word in ("OpenSMTPD:", "Exim:", "Postfix:") if word in one.change}
            assert told == {f"{name.split(' ')[0]}:"}, one.change


def test_ipv6_addresses_are_written_as_each_server_has_them() -> None:
    taken = heard(own="2001:db8::25", recipient=TAKEN, greeting=TimedReply(220, ("ready",)))
    [one] = found(subject(), Looked(taken))
    assert "mynetworks without [2001:db8::25]" in one.change
    refused = heard(own="2001:db8::25", hello=TimedReply(550, ("EHLO refused",)))
    exim = replace(refused, greeting=TimedReply(220, ("mx.farm.test ESMTP Exim",)))
    [one] = found(subject(), Looked(exim))
    assert "helo_verify_hosts = <; ! 2001:db8::25 ; *" in one.change


def test_port_465_without_a_word() -> None:
    address = subject().server.address
    server = subject().server.model_copy(update={"address": replace(address, port=465)})
    [one] = found(subject(server=server), Looked(closed(), others=(closed("v2"), closed("v1"))))
    assert "protocol: smtps" in one.change
    assert CLOSED.how in one.wrong
    assert GREETING.good
