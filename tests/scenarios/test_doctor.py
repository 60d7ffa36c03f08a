"""`mailweir doctor` with real servers that are set up wrongly: each gives the one finding that it
should, with the line to change; those that are set up well give none, and neither do the wrong ones
once the line is changed.

All of them are servers of one configuration, a pool each, and are examined at once: one Postfix
has a service for each set-up, Exim a configuration. In a network of the test's own, where 192.0.2.1
is nobody and DNS answers nothing.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from harness.mailweir.run import COMMAND, Tree, configuration, write
from harness.needs import program
from harness.networks.own import own_network
from harness.process import run
from harness.programs.authority import Authority, authority
from harness.programs.exim import HEAVY_LIBRARIES, exim
from harness.programs.postfix import DOMAIN, postfix

Counted = Callable[[str], None]
Findings = dict[str, list[Tree]]

pytestmark = pytest.mark.needs("postfix", "openssl", "iproute2", *HEAVY_LIBRARIES)

_UNKNOWN = "no-such-name.invalid"  # no name server knows it
# An address of the internet that the test's network has nothing of but this name.
_PUBLIC, _PUBLIC_NAME = "203.0.114.7", "mail.farm.example"
_COMPLAINTS = re.compile(
    "haproxy read|improper|lost connection|timeout|SSL_accept|PREGREET|HANGUP|warning|error|fatal"
)
_PORT = 2525  # of each address of the network, which is the test's own
_POSTFIX = {
    "mynetworks": "10.0.0.0/8",
    "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
    "smtpd_client_event_limit_exceptions": "127.0.0.1",
    "smtpd_peername_lookup": "no",
    "inet_protocols": "all",
}
_HAPROXY = {"smtpd_upstream_proxy_protocol": "haproxy"}
_WRAPPED = {"smtpd_tls_wrappermode": "yes"}
# What postscreen hands on to.
_BEHIND = (
    "smtpd      pass   - - n - -     smtpd",
    "tlsproxy   unix   - - n - 0     tlsproxy",
    "dnsblog    unix   - - n - 0     dnsblog",
)
_TEASER = {
    "postscreen_greet_banner": "wait for it",
    "postscreen_greet_wait": "2s",
    "postscreen_greet_action": "enforce",
    "postscreen_access_list": "",
    "postscreen_cache_map": "",  # several can't share one
}
_EXIM = """\
domainlist local_domains = farm.test
acl_smtp_rcpt = acl_rcpt
tls_certificate = {certificate}
tls_privatekey = {key}
"""
_ROOM = "smtp_accept_max = 200\n"
_RELAYS_NOT = """
begin acl
acl_rcpt:
  require message = relay not permitted
          domains = +local_domains
  accept
"""
_RELAYS = """
begin acl
acl_rcpt:
  accept
"""
_ACL_CONNECT = """
acl_connect:
{}  deny
"""


@dataclass(frozen=True)
class SetUp:
    """A server, what mailweir is told of it, and the finding that comes of both.

    `ailment` is empty for none; each of `change` stands in what to change, and `mended` has what of
    this set-up is otherwise once that is done. `certificate` is a host's name and days.
    """

    name: str
    ailment: str = ""
    change: tuple[str, ...] = ()
    mended: Mapping[str, Any] = field(default_factory=dict)
    proxy: str = "off"
    # Few sessions at a time are enough where nobody counts them.
    server: Mapping[str, object] = field(default_factory=lambda: {"max_sessions": 3})
    check: Mapping[str, str] = field(default_factory=dict)
    listener: Mapping[str, object] = field(default_factory=dict)
    certificate: tuple[str, int] = (f"mx.{DOMAIN}", 90)
    # Of Postfix.
    settings: Mapping[str, str] = field(default_factory=dict)
    service: str = "smtpd"
    # Of Exim.
    lines: str = ""
    acl: str = _RELAYS_NOT
    daemon: bool = False


# What doctor says of names that are refused.
_LETS_IN = "check_client_access inline:{127.0.0.1=OK}"
_BOTH = {"bind": ["127.0.0.1:0", "[::1]:0"]}
_POOL = "pools.POOL"
_SERVER = f"{_POOL}.servers.a"

_POSTFIXES = [
    SetUp("plain"),
    SetUp("with PROXY", proxy="v2", settings=_HAPROXY, listener=_BOTH),
    SetUp(
        "postscreen with PROXY",
        proxy="v1",
        settings={**_TEASER, "postscreen_upstream_proxy_protocol": "haproxy"},
        service="postscreen",
    ),
    SetUp(
        "a header that it doesn't expect",
        "proxy",
        ("Postfix: main.cf: smtpd_upstream_proxy_protocol = haproxy", f"here {_SERVER}.proxy: off"),
        {"settings": _HAPROXY},
        proxy="v2",
    ),
    SetUp(
        "no header, which it expects",
        "proxy",
        (f"here {_SERVER}.proxy: v2", "Postfix: main.cf: smtpd_upstream_proxy_protocol = (empty)"),
        {"settings": {"smtpd_upstream_proxy_protocol": ""}},
        settings=_HAPROXY,
    ),
    SetUp(
        "postscreen doesn't expect a header",
        "proxy",
        ("Postfix, main.cf: postscreen_upstream_proxy_protocol = haproxy",),
        {"settings": {**_TEASER, "postscreen_upstream_proxy_protocol": "haproxy"}},
        proxy="v2",
        settings=_TEASER,
        service="postscreen",
    ),
    SetUp(
        "postscreen sees one client for all",
        "proxy",
        ("postscreen_upstream_proxy_protocol = haproxy", f"here {_SERVER}.proxy: v2"),
        {
            "settings": {**_TEASER, "postscreen_upstream_proxy_protocol": "haproxy"},
            "proxy": "v2",
        },
        settings=_TEASER,
        service="postscreen",
    ),
    SetUp(
        "no clients of IPv6",
        "proxy",
        ("Postfix: main.cf: inet_protocols = all",),
        {"settings": {**_HAPROXY, "inet_protocols": "all"}},
        proxy="v2",
        settings={**_HAPROXY, "inet_protocols": "ipv4"},
        listener=_BOTH,
    ),
    SetUp(
        "the balancer in mynetworks",
        "relay",
        ("Postfix: main.cf: mynetworks without 127.0.0.1", f"{_SERVER}.proxy: v2"),
        {"settings": {"mynetworks": "10.0.0.0/8"}},
        settings={"mynetworks": "127.0.0.0/8"},
    ),
    SetUp(
        "everybody in mynetworks",
        "relay",
        ("Postfix: main.cf: smtpd_relay_restrictions = permit_mynetworks",),
        {"settings": {**_HAPROXY, "mynetworks": "10.0.0.0/8"}},
        proxy="v2",
        settings={**_HAPROXY, "mynetworks": "0.0.0.0/0"},
    ),
    SetUp(
        "its limit by client",
        "client_limit",
        (
            "Postfix: main.cf: smtpd_client_event_limit_exceptions = $mynetworks, 127.0.0.1",
            f"here {_SERVER}.max_sessions: 49, which leaves room for checks",
        ),
        {"settings": {"smtpd_client_event_limit_exceptions": "$mynetworks, 127.0.0.1"}},
        settings={"smtpd_client_event_limit_exceptions": ""},
        server={},
    ),
    SetUp(
        "a name that it refuses",
        "helo",
        (f"here {_POOL}.check.helo: auto", _LETS_IN),
        {"settings": {"smtpd_helo_restrictions": _LETS_IN, "smtpd_delay_reject": "no"}},
        check={"helo": "lb"},
        settings={
            "smtpd_helo_restrictions": "reject_non_fqdn_helo_hostname",
            "smtpd_delay_reject": "no",
        },
    ),
    SetUp(
        "a name that it refuses at RCPT",
        "helo",
        (f"here {_POOL}.check.helo: auto", _LETS_IN),
        {"check": {"helo": "auto"}},
        check={"helo": "lb"},
        settings={"smtpd_helo_restrictions": "reject_non_fqdn_helo_hostname"},
    ),
    SetUp(
        "a late greeting",
        "slow_greeting",
        ("here listeners.POOL.timeouts.greeting: ",),
        {"listener": {"timeouts": {"greeting": "7s"}}},
        settings={"smtpd_client_restrictions": "sleep 3", "smtpd_delay_reject": "no"},
        listener={"timeouts": {"greeting": "2s"}},
    ),
    SetUp(
        "a certificate that has ended",
        "certificate",
        ("Postfix: main.cf: smtpd_tls_chain_files",),
        certificate=(f"mx.{DOMAIN}", -1),
    ),
    SetUp("TLS first", settings=_WRAPPED, listener={"protocol": "smtps"}),
    SetUp(
        "TLS first, by a certificate that has ended",
        "certificate",
        ("Postfix: main.cf: smtpd_tls_chain_files",),
        settings=_WRAPPED,
        listener={"protocol": "smtps"},
        certificate=(f"mx.{DOMAIN}", -1),
    ),
    SetUp(
        "a relay for whoever asks for TLS",
        "relay",
        ("Postfix: main.cf: mynetworks without 127.0.0.1",),
        settings={"smtpd_tls_security_level": "encrypt", "mynetworks": "127.0.0.0/8"},
    ),
    SetUp(
        "a relay for any client that asks for TLS",
        "relay",
        ("Postfix: main.cf: smtpd_relay_restrictions = permit_mynetworks",),
        proxy="v2",
        settings={
            **_HAPROXY,
            "smtpd_tls_security_level": "encrypt",
            "mynetworks": "0.0.0.0/0",
        },
    ),
    SetUp(
        "a certificate that ends soon",
        "certificate",
        ("Postfix: main.cf: smtpd_tls_chain_files",),
        proxy="v1",
        settings=_HAPROXY,
        certificate=(f"mx.{DOMAIN}", 7),
    ),
]
_EXIMS = [
    SetUp("plain"),
    SetUp("with PROXY", proxy="v1", lines=_ROOM + "hosts_proxy = 127.0.0.1", daemon=True),
    SetUp(
        "a header that it doesn't expect",
        "proxy",
        ("Exim: hosts_proxy = 127.0.0.1", f"here {_SERVER}.proxy: off"),
        {"proxy": "off"},
        proxy="v1",
    ),
    SetUp(
        "no header, which it expects",
        "proxy",
        (f"here {_SERVER}.proxy: v2", "Exim: hosts_proxy = (empty)"),
        {"proxy": "v2"},
        lines=_ROOM + "hosts_proxy = *",
        daemon=True,
    ),
    SetUp(
        "an open relay",
        "relay",
        ("Exim: hostlist relay_from_hosts without 127.0.0.1",),
        {"acl": _RELAYS_NOT},
        acl=_RELAYS,
    ),
    SetUp(
        "its limit by client",
        "client_limit",
        ("Exim: smtp_accept_max_per_host = 0", f"here {_SERVER}.max_sessions: 3"),
        {"server": {"max_sessions": 3}},
        lines="smtp_accept_max_per_host = 4",
        server={},
        daemon=True,
    ),
    SetUp(
        "its limit of all",
        "client_limit",
        ("Exim: smtp_accept_max = 0", f"here {_SERVER}.max_sessions: 19"),
        {"lines": "smtp_accept_max = 0"},
        server={},
        daemon=True,
    ),
    SetUp(
        "a name that it refuses",
        "helo",
        (f"here {_POOL}.check.helo: auto", "Exim: helo_verify_hosts = ! 127.0.0.1 : *"),
        {"lines": "helo_verify_hosts = ! 127.0.0.1 : *"},
        check={"helo": _UNKNOWN},
        lines="helo_verify_hosts = *",
    ),
    SetUp(
        "it refuses us",
        "greeting",
        ("Exim: in the ACL of acl_smtp_connect, first: accept hosts = 127.0.0.1",),
        {"acl": _RELAYS_NOT + _ACL_CONNECT.format("  accept hosts = 127.0.0.1\n")},
        lines="acl_smtp_connect = acl_connect",
        acl=_RELAYS_NOT + _ACL_CONNECT.format(""),
    ),
    SetUp(
        "a certificate for another host",
        "certificate",
        ("Exim: tls_certificate = FILE",),
        certificate=("other.farm.test", 90),
    ),
    SetUp(
        "another name than its address has in DNS",
        "greeting_name",
        (f"Exim: smtp_banner = {_PUBLIC_NAME} ESMTP",),
        {
            "lines": f"smtp_banner = {_PUBLIC_NAME} ESMTP Exim",
            "certificate": (_PUBLIC_NAME, 90),
            "listener": {"bind": [f"{_PUBLIC}:26"]},
        },
        listener={"bind": [f"{_PUBLIC}:25"]},
    ),
]


def _mended(wrong: list[SetUp]) -> list[SetUp]:
    """The same servers, once what doctor says is done."""
    return [
        replace(one, name=f"{one.name}, mended", ailment="", change=(), **one.mended)
        for one in wrong
        if one.mended
    ]


@pytest.fixture
def issuer() -> Iterator[Authority]:
    """Whom the balancer trusts."""
    with authority() as made:
        yield made


_ALL_POSTFIXES = {f"p{n}": one for n, one in enumerate([*_POSTFIXES, *_mended(_POSTFIXES)])}
_ALL_EXIMS = {f"e{n}": one for n, one in enumerate([*_EXIMS, *_mended(_EXIMS)])}


def test_postfix(tmp_path: Path, issuer: Authority, counted: Counted) -> None:
    addresses = {pool: f"127.0.0.{n}:{_PORT}" for n, pool in enumerate(_ALL_POSTFIXES, 10)}
    services = [_service(pool, addresses[pool], issuer) for pool in _ALL_POSTFIXES]
    settings = {**_POSTFIX, **_files(SetUp.certificate, issuer)}
    with (
        own_network(),
        postfix(tmp_path, services=[*services, *_BEHIND], settings=settings) as server,
    ):
        found = _examined(tmp_path, issuer, _ALL_POSTFIXES, addresses)
        # No mail came of it, and no complaint of those that are set up well.
        assert "status=" not in server.log
        assert "postfix/cleanup" not in server.log
        complaints = [line for line in server.log.splitlines() if _COMPLAINTS.search(line)]
        of_pools = {pool for pool in _ALL_POSTFIXES for line in complaints if f"/{pool}/" in line}
        assert {bool(_ALL_POSTFIXES[pool].ailment) for pool in of_pools} == {True}
        counted(f"Postfix complains in its log of {len(of_pools)} set-ups, all of them wrong")
    _are_as_wanted(found, _ALL_POSTFIXES, counted)


def test_exim(tmp_path: Path, issuer: Authority, counted: Counted) -> None:
    addresses = {}
    with ExitStack() as exits:
        server = exits.enter_context(exim(package="exim4-daemon-heavy"))
        exits.enter_context(own_network())
        for n, (pool, one) in enumerate(_ALL_EXIMS.items(), 10):
            cert, key = issuer.certificate(*one.certificate)
            lines = _EXIM.format(certificate=cert, key=key)
            if "smtp_banner" not in one.lines:
                lines += "smtp_banner = mx.farm.test ESMTP Exim\n"
            settings = f"{lines}{one.lines}\n{one.acl}"
            if one.daemon:
                at = f"127.0.0.{n}:{_PORT}"
                addresses[pool] = exits.enter_context(
                    server.listening(tmp_path, pool, settings, at)
                )
            else:
                addresses[pool] = exits.enter_context(server.serving(pool, settings))
        found = _examined(tmp_path, issuer, _ALL_EXIMS, addresses)
    _are_as_wanted(found, _ALL_EXIMS, counted)


def _service(pool: str, address: str, issuer: Authority) -> str:
    """Its line of master.cf; it is known by its pool in the log."""
    one = _ALL_POSTFIXES[pool]
    named = {"syslog_name": f"postfix/{pool}"}
    settings = {**named, **_files(one.certificate, issuer), **one.settings}
    options = (f"-o {{ {name} = {value} }}" for name, value in settings.items())
    processes = "1" if one.service == "postscreen" else "-"
    return f"{address} inet n - n - {processes} {one.service} {' '.join(options)}"


def _files(certificate: tuple[str, int], issuer: Authority) -> dict[str, str]:
    cert, key = issuer.certificate(*certificate)
    return {"smtpd_tls_cert_file": str(cert), "smtpd_tls_key_file": str(key)}


def _examined(
    directory: Path, issuer: Authority, wanted: Mapping[str, SetUp], addresses: Mapping[str, str]
) -> Findings:
    """What doctor says of them, by pool. How it ends tells good from bad, too."""
    config = configuration(directory, {})
    config["listeners"], config["pools"] = {}, {}
    for pool, one in wanted.items():
        server = {"address": addresses[pool], "proxy": one.proxy, **one.server}
        config["pools"][pool] = {"servers": {"a": server}, "check": dict(one.check)}
        config["listeners"][pool] = {"bind": ["127.0.0.1:0"], "pool": pool, **one.listener}
    file, hosts = directory / "mailweir.yaml", directory / "hosts"
    write(file, config)
    hosts.write_text(f"127.0.0.1 localhost\n{_PUBLIC} {_PUBLIC_NAME}\n")
    known = [program("unshare"), "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"']
    command = [*known, str(hosts), *COMMAND, "doctor", "-c", str(file), "--json"]
    trusting = {**os.environ, "SSL_CERT_FILE": str(issuer.root)}
    done = run(command, limit=100, env=trusting)
    assert (done.stderr, done.returncode) == ("", 1)
    good = next(pool for pool, one in wanted.items() if not one.ailment)
    well = run([*command, "--pool", good], limit=100, env=trusting)
    assert (well.stderr, well.returncode) == ("", 0), well.stdout
    found: Findings = {pool: [] for pool in wanted}
    for one in json.loads(done.stdout)["findings"]:
        found.get(one["where"].partition("/")[0], []).append(one)
    return found


def _are_as_wanted(found: Findings, wanted: Mapping[str, SetUp], counted: Counted) -> None:
    wrong = {}
    for pool, one in wanted.items():
        findings = found[pool]
        for told in findings:
            counted(f"{one.name}: {told['ailment']}: {told['wrong']}")
        if not findings:
            counted(f"{one.name}: nothing")
        right = [told["ailment"] for told in findings] == ([one.ailment] if one.ailment else [])
        changes = " ".join(told["change"] for told in findings)
        if not (right and all(words.replace("POOL", pool) in changes for words in one.change)):
            wrong[one.name] = findings
    assert not wrong
