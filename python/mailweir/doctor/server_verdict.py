"""What is wrong with a server, by what was heard of it. Pure: the time is an argument."""

from collections.abc import Iterator, Mapping

from mailweir.config.units import format_duration
from mailweir.config.words import Proxy
from mailweir.doctor import advice
from mailweir.doctor.certificates import wrong_with
from mailweir.doctor.findings import Ailment, Diagnosis
from mailweir.doctor.opening import IP
from mailweir.doctor.sessions_heard import (
    RECIPIENT,
    Heard,
    Looked,
    is_about_headers,
    is_about_limit,
    is_about_name,
)
from mailweir.doctor.subject import Subject
from mailweir.foreign import shown


def findings(
    subject: Subject, looked: Looked, names: Mapping[IP, str], now: float
) -> Iterator[Diagnosis]:
    """All of them. `names` are those that DNS has for addresses; `now` is in seconds since 1970."""
    if not looked.configured.serves:
        yield _not_served(subject, looked)
    else:
        yield from _clients(subject, looked)
        yield from _relay(subject, looked)
        yield from _limit(subject, looked)
        yield from _greeting(subject, looked.configured)
        yield from _name(subject, looked.configured, names)
    yield from _certificate(subject, looked.configured, now)


def _not_served(subject: Subject, looked: Looked) -> Diagnosis:
    """Why no client comes to its mail there."""
    first = looked.configured
    if first.broken and first.broken.step == "connect":
        return Diagnosis(
            subject.where,
            Ailment.CONNECT,
            f"nobody can connect ({first.broken.how})",
            "start the server, have its firewall let this machine in, or correct"
            f" here {subject.key('address')}",
        )
    if is_about_headers(subject.proxy, first):
        found = _header(subject, looked)
        if found is not None:
            return found
    greets = first.greeting is not None and first.greeting.good
    if first.greeting is not None and is_about_limit(first.greeting):
        said = str(first.greeting)
        return Diagnosis(
            subject.where,
            Ailment.CLIENT_LIMIT,
            f"takes no more sessions now ({said})",
            advice.raise_limit(first.mta, first.own, said),
        )
    # By 4yz a server can't serve for now, unless it says that it is for the name: so does Exim, for
    # one that it can't look up.
    hello = first.hello
    if greets and hello is not None and (hello.code // 100 == 5 or is_about_name(hello)):
        return _helo(subject, first, str(hello), "at EHLO, so its checks fail")
    hint = ""
    if subject.speaks == "smtp" and first.greeting is None and subject.address.port == 465:
        hint = "; port 465 begins with TLS: a listener with protocol: smtps"
    refuses = first.greeting is not None and not greets
    change = advice.let_in(first.mta, first.own) if refuses else advice.serve(subject, first.own)
    tried = ", with and without PROXY headers" if looked.others else ""
    return Diagnosis(
        subject.where,
        Ailment.GREETING,
        f"no session begins there{tried} ({first.last_words})",
        change + hint,
    )


def _header(subject: Subject, looked: Looked) -> Diagnosis | None:
    """Which header is wrong, where it is that."""
    first, client4, plain = looked.configured, looked.client4, looked.plain
    other = next((one for one in looked.others if one.serves), None)
    said = first.last_words
    if client4 is not None and client4.serves:
        wrong = f"takes headers that name a client, but not those of checks: LOCAL ({said})"
        change = advice.take_local(subject)
    elif plain is not None and plain.serves:
        wrong = (
            f"doesn't expect the PROXY {subject.proxy} header: it greets without, and takes the"
            f" header for commands ({said})"
        )
        change = advice.expect_header(plain.mta, first.own, subject)
    elif other is not None and subject.proxy is Proxy.OFF:
        wrong = f"expects a PROXY header, and is sent none ({said})"
        change = advice.send_header(other.mta, other.opening.kind, subject)
    elif other is not None:
        kind = other.opening.kind
        wrong = f"expects a PROXY header of version {kind}, and is sent {subject.proxy} ({said})"
        change = advice.other_version(kind, subject)
    else:
        return None
    return Diagnosis(subject.where, Ailment.PROXY, wrong, change)


def _clients(subject: Subject, looked: Looked) -> Iterator[Diagnosis]:
    """Clients that servers with PROXY don't take, or can't tell from each other without."""
    who = looked.configured.mta
    if subject.proxy is Proxy.OFF and who.postscreen:
        yield Diagnosis(
            subject.where,
            Ailment.PROXY,
            f"postscreen judges all clients by our address, {looked.configured.own}: one that talks"
            " early or is listed has all of them refused",
            advice.postscreen_sees_clients(subject),
        )
    client4, client6 = looked.client4, looked.client6
    if client4 is not None and client4.greeting is None:
        yield Diagnosis(
            subject.where,
            Ailment.PROXY,
            f"takes the headers of checks, but none that names a client ({client4.last_words})",
            advice.expect_header(who, looked.configured.own, subject),
        )
    elif client6 is not None and _is_gone(client6) and client4 is not None and client4.serves:
        yield Diagnosis(
            subject.where,
            Ailment.PROXY,
            f"takes no headers that name IPv6 clients ({client6.last_words})",
            advice.take_ipv6(who),
        )


def _is_gone(heard: Heard) -> bool:
    """Whether a server gave up on a header, by silence, a close or 421; not for being full."""
    greeting, hello = heard.greeting, heard.hello
    if greeting is None:
        return True
    if greeting.code == 421:
        return not is_about_limit(greeting)
    return hello is not None and hello.code in (421, 503)


def _relay(subject: Subject, looked: Looked) -> Iterator[Diagnosis]:
    """Who takes mail for anywhere; and who didn't say, for want of a name that checks can have."""
    heard = looked.configured if subject.proxy is Proxy.OFF else looked.client4
    if heard is None or heard.recipient is None:
        return
    # What a client is called in a header is ours alone: no setting of checks changes it.
    if subject.proxy is Proxy.OFF and is_about_name(heard.recipient):
        when = "at RCPT, so whether it relays for us can't be seen"
        yield _helo(subject, heard, str(heard.recipient), when)
    if not heard.recipient.good or not subject.admits_anybody:
        return
    if subject.proxy is Proxy.OFF:
        wrong = (
            f"an open relay through us: it takes mail for {RECIPIENT} from {heard.own}, which"
            " every client is to it"
        )
        change = advice.relay_not(heard.mta, heard.own, subject)
    else:
        wrong = f"an open relay: it takes mail for {RECIPIENT} from {heard.opening.client}"
        change = advice.relay_for_nobody(heard.mta)
    yield Diagnosis(subject.where, Ailment.RELAY, wrong, change)


def _limit(subject: Subject, looked: Looked) -> Iterator[Diagnosis]:
    """How many sessions at a time it takes of us."""
    at_once = looked.at_once
    if at_once is None or at_once.refused is None or not at_once.opened:
        return
    said = str(at_once.refused)
    heard = looked.configured
    change = advice.raise_limit(heard.mta, heard.own, said)
    # Checks are sessions too: with as many of clients as it takes, they are refused.
    left = at_once.opened - subject.checks
    if left > 0:
        change += f"; or here {subject.key('max_sessions')}: {left}"
    if left > 0 and subject.checks:
        change += ", which leaves room for checks"
    whose = ", and all clients' are ours" if subject.proxy is Proxy.OFF else ""
    yield Diagnosis(
        subject.where,
        Ailment.CLIENT_LIMIT,
        f"takes {at_once.opened} sessions of ours at a time{whose} ({said})",
        change,
    )


def _greeting(subject: Subject, heard: Heard) -> Iterator[Diagnosis]:
    """Greetings that come too late for clients or for checks."""
    greeting = heard.greeting
    if greeting is None:
        return
    for took, limit, checks in (
        (greeting.first, subject.greeting, False),
        (greeting.first + greeting.paused, subject.check_timeout, True),
    ):
        if took > limit:
            whom = "its checks fail" if checks else "clients wait for another server"
            seconds = int(took * 2) + 1
            yield Diagnosis(
                subject.where,
                Ailment.SLOW_GREETING,
                f"greets after {took:.1f} s, and {format_duration(limit)} is waited: {whom}",
                advice.wait_longer(subject, seconds, checks=checks),
            )
            return


def _name(subject: Subject, heard: Heard, names: Mapping[IP, str]) -> Iterator[Diagnosis]:
    """What it calls itself, and what its clients' address is called in DNS."""
    for address in subject.reached_at:
        known = names.get(address, "").rstrip(".").lower()
        if known and heard.name and known != heard.name.lower():
            yield Diagnosis(
                subject.where,
                Ailment.GREETING_NAME,
                f"greets as {heard.name}, and {address}, which clients connect to, is"
                f" {shown(known)} in DNS",
                advice.name_itself(heard.mta, shown(known)),
            )


def _certificate(subject: Subject, heard: Heard, now: float) -> Iterator[Diagnosis]:
    wrong = wrong_with(heard.certificate, heard.name, now)
    if not wrong and heard.broken and heard.broken.step == "starttls":
        wrong = f"offers STARTTLS, and it fails ({heard.broken.how})"
    if wrong:
        yield Diagnosis(subject.where, Ailment.CERTIFICATE, wrong, advice.renew(heard.mta))


def _helo(subject: Subject, heard: Heard, said: str, when: str) -> Diagnosis:
    return Diagnosis(
        subject.where,
        Ailment.HELO,
        f"refuses the name {heard.helo} {when} ({said})",
        advice.take_name(heard.mta, heard.own, subject),
    )
