"""Checks of every kind against real mail servers, again and again: up all the time, and what their
logs have of it is what the documented filters take out. At the default pace for as long as
MAILWEIR_SOAK says, in seconds (`make soak-checks`: an hour): what name servers are asked, too.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from harness.mailweir.run import Mailweir, Tree, configuration
from harness.needs import private_mounts
from harness.networks.own import own_network
from harness.programs.exim import LIBRARIES, exim
from harness.programs.opensmtpd import LIBRARIES as OPENSMTPD_LIBRARIES
from harness.programs.opensmtpd import listening, opensmtpd, opensmtpd_files
from harness.programs.postfix import DOMAIN, POSTSCREEN, POSTSCREEN_SETTINGS, postfix
from harness.scale import count
from harness.servers.certificates import Certificate, certificate
from harness.servers.names import name_server
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

Counted = Callable[[str], None]

_TIMES = count(3, 100)  # checks of each kind
_PACE = {"every": "1s", "fast": "1s", "timeout": "20s"}
_BOX = f"box@{DOMAIN}"
# What a server says of clients that don't behave.
_COMPLAINTS = re.compile(
    r"lost connection|PREGREET|HANGUP|improper|SSL_accept error|haproxy read|TLS error|timeout"
)
_PAGE = Path(__file__).resolve().parents[2] / "docs/checks.md"


def _filters(address: str) -> list[re.Pattern[str]]:
    """Postfix's, Exim's and OpenSMTPD's, as the page has them for rsyslog; of checks from there."""
    return [
        re.compile(one.replace("192[.]0[.]2[.]1", re.escape(address)).replace("[[]", r"\["))
        for one in re.findall(r':rawmsg, ereregex, "(.*)" stop', _PAGE.read_text())
    ]


_POSTFIX_FILTER, _EXIM_FILTER, _OPENSMTPD_FILTER = _filters("127.0.0.1")
# Postfix's own beginning.
_OF_POSTFIX = re.compile(
    r"postfix/(?:postfix-script|master|postlog)\[|postfix/postscreen\[\d+\]: cache "
    # The machine is busy.
    r"|: psc_cache_\w+: \S+ \w+ average delay is \d+ ms$"
)
_POSTSCREEN = (
    *POSTSCREEN,
    "127.0.0.2:0 inet  n - n - -     smtpd -o smtpd_tls_wrappermode=yes"
    " -o smtpd_upstream_proxy_protocol=",
)
# Nobody is remembered: each check waits.
_SETTINGS = {**POSTSCREEN_SETTINGS, "postscreen_greet_ttl": "1s"}


def _checks(certificate_name: str, *, mails: Mapping[str, object]) -> Tree:
    """Every kind that speaks SMTP, but AUTH."""
    tls = {"kind": "starttls", "verify": "none", "name": certificate_name}
    return {
        "connect": {"kind": "tcp", **_PACE},
        "greets": {"kind": "greeting", **_PACE},
        "certificate": {**tls, "decides": "alarm", **_PACE},
        "recipient": {"kind": "rcpt", "rcpt_to": _BOX, **_PACE},
        **({"mail": {"kind": "message", "rcpt_to": _BOX, **_PACE, **mails}} if mails else {}),
    }


def _made(balancer: Mailweir, pool: str, checks: list[str]) -> None:
    """So many of each, all of them up."""
    for name in checks:
        labels = {"pool": pool, "check": name, "verdict": "up"}

        def enough(labels: dict[str, str] = labels) -> bool:
            try:
                return balancer.metric("mailweir_check_results_total", **labels) >= _TIMES
            except AssertionError:
                return False  # none yet

        balancer.process.until(enough, f"checks {pool} {name}", limit=LIMIT + 15 * _TIMES)
    answer = balancer.page("/metrics")
    bad = [
        line
        for line in answer.splitlines()
        if line.startswith("mailweir_check_results_total") and 'verdict="up"' not in line
    ]
    assert bad == []


@pytest.mark.needs("postfix", "openssl")
def test_postfix_with_postscreen(tmp_path: Path, start: Start, counted: Counted) -> None:
    with postfix(tmp_path, services=_POSTSCREEN, settings=_SETTINGS) as server:
        screened, wrapped = (f"127.0.0.{n}:{port}" for n, port in enumerate(server.ports, 1))
        config = configuration(tmp_path, {"a": {"address": screened, "proxy": "v2"}}, check=_PACE)
        config["pools"]["farm"]["more_checks"] = _checks(f"mx.{DOMAIN}", mails={"mail_from": ""})
        checks = {"farm": ["check", *config["pools"]["farm"]["more_checks"]]}
        for pool, kind in (("tls", "ehlo"), ("tls_by_connect", "tcp")):
            config["pools"][pool] = {
                "servers": {"s": {"address": wrapped, "proxy": "off"}},
                "check": {"kind": kind, **_PACE},
                "more_checks": _checks(f"mx.{DOMAIN}", mails={}) if kind == "ehlo" else {},
            }
            checks[pool] = ["check", *config["pools"][pool]["more_checks"]]
            config["listeners"][pool] = {
                "bind": ["127.0.0.1:0"],
                "pool": pool,
                "protocol": "smtps",
            }
        balancer = start(config)
        for pool, names in checks.items():
            _made(balancer, pool, names)
        # While checks go on: those that wait for a greeting when mailweir ends are cut.
        lines = server.log.splitlines()
    assert [line for line in lines if _COMPLAINTS.search(line)] == []
    mails = _of_mails(lines)
    left = [
        line
        for line in lines
        if not (_POSTFIX_FILTER.search(line) or _OF_POSTFIX.search(line) or line in mails)
    ]
    assert left == []
    counted(f"{_TIMES} checks of each kind: {len(lines)} lines, none of them left, no complaint")


_EXIM = """\
log_selector = +smtp_connection
tls_advertise_hosts = *
tls_certificate = {cert}
tls_privatekey = {key}
acl_smtp_rcpt = accept
queue_only

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = ${{if and{{{{eq{{$auth2}}{{check}}}}{{eq{{$auth3}}{{a secret}}}}}}}}
  server_set_id = $auth2
"""


@pytest.mark.needs("openssl", *LIBRARIES)
def test_exim(tmp_path: Path, start: Start, counted: Counted) -> None:
    password = tmp_path / "password"
    password.write_text("a secret\n")
    password.chmod(0o400)
    with exim() as program, _readable("mx.test", 90) as made:
        login = {"user": "check", "password_file": str(password), "ca": str(made.cert)}
        settings = _EXIM.format(cert=made.cert, key=made.key)
        with program.serving("checked", settings) as address:
            config = configuration(tmp_path, {"a": address}, check=_PACE)
            further = _checks("mx.test", mails={"mail_from": "check@client.test"})
            further["login"] = {"kind": "auth", **login, **_PACE}
            config["pools"]["farm"]["more_checks"] = further
            balancer = start(config)
            _made(balancer, "farm", ["check", *further])
            lines = program.log.splitlines()
            shown = balancer.command("config", "show").stdout + balancer.process.err
    assert "a secret" not in shown
    # One for each mail that it took; in syslog its name stands before each line.
    mail = re.compile(r" <= check@client\.test .*\[127\.0\.0\.1\]")
    logged = [f"exim[1]: {line}" for line in lines]
    left = [line for line in logged if not (mail.search(line) or _EXIM_FILTER.search(line))]
    assert left == []
    counted(f"{_TIMES} checks of each kind: {len(lines)} lines, none left but those of mails")


@pytest.mark.needs(*OPENSMTPD_LIBRARIES)
def test_opensmtpd(tmp_path: Path, start: Start, counted: Counted) -> None:
    with opensmtpd(tmp_path) as server:
        config = configuration(tmp_path, {"a": server.address}, check=_PACE)
        further = _checks("mx.test", mails={})
        del further["certificate"]
        config["pools"]["farm"]["more_checks"] = further
        balancer = start(config)
        _made(balancer, "farm", ["check", *further])
        lines = server.log.splitlines()
    assert [line for line in lines if _COMPLAINTS.search(line)] == []
    left = [line for line in lines if not _OPENSMTPD_FILTER.search(line)]
    assert [line for line in left if not line.startswith(("info: ", "warn: purge_task"))] == []
    counted(f"{_TIMES} checks of each kind: {len(lines)} lines, none of them left, no complaint")


_SECONDS = float(os.environ.get("MAILWEIR_SOAK", 20))
_FROM = "127.0.0.25"  # where these checks come from
# Seconds for which "no such name" holds: as short as postscreen_dnsbl_min_ttl.
_TTL = 60
# With all that Debian's main.cf has of it: who is greeted once isn't tested again for a day.
_FARM_SETTINGS = {
    "inet_interfaces": "all",
    "postscreen_access_list": "",
    "postscreen_greet_action": "enforce",
    "postscreen_dnsbl_sites": "dnsbl.test",
    "postscreen_dnsbl_action": "enforce",
    "smtpd_delay_reject": "no",
}
# A farm whose postscreen knows nobody, and at the next address the same with the balancer among
# those that it knows.
_FARM_SERVICES = (
    "127.0.0.2:25 inet   n - n - 1 postscreen",
    "127.0.0.2:587 inet  n - n - - smtpd -o syslog_name=postfix/submission",
    "127.0.0.2:465 inet  n - n - - smtpd -o syslog_name=postfix/smtps -o smtpd_tls_wrappermode=yes",
    "127.0.0.3:25 inet   n - n - 1 postscreen -o syslog_name=postfix/knows"
    " -o postscreen_access_list=permit_mynetworks -o postscreen_dnsbl_sites=knows.test"
    " -o postscreen_cache_map=",
    *POSTSCREEN[1:],  # what postscreen hands on to
)
_FARM_OF_EXIM = """\
daemon_smtp_ports = 25
log_selector = +smtp_connection
tls_on_connect_ports = 465
tls_advertise_hosts = *
tls_certificate = {cert}
tls_privatekey = {key}
"""
_FARM = {
    "mx": ("smtp", {"postfix": "2:25", "knows": "3:25", "exim": "4:25", "opensmtpd": "5:25"}),
    "submission": ("smtp", {"postfix": "2:587", "exim": "4:587", "opensmtpd": "5:587"}),
    "smtps": ("smtps", {"postfix": "2:465", "exim": "4:465"}),
}


@pytest.mark.timeout(_SECONDS + 120, func_only=True)
@pytest.mark.needs("postfix", "openssl", *LIBRARIES, *OPENSMTPD_LIBRARIES)
def test_a_farm_at_the_default_pace(tmp_path: Path, start: Start, counted: Counted) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    before = [*private_mounts(), "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"']
    with ExitStack() as exits:
        mta = exits.enter_context(exim())
        made = exits.enter_context(_readable("mx.test", 90))
        files = exits.enter_context(opensmtpd_files())
        exits.enter_context(own_network())
        names = exits.enter_context(name_server(("127.0.0.1", 53), _TTL))
        postfix_server = exits.enter_context(
            postfix(
                tmp_path,
                services=_FARM_SERVICES,
                settings=_FARM_SETTINGS,
                before=[*before, str(resolver)],
            )
        )
        settings = _FARM_OF_EXIM.format(cert=made.cert, key=made.key)
        places = [f"127.0.0.4:{port}" for port in (25, 587, 465)]
        exits.enter_context(mta.listening(tmp_path, "farm", settings, *places))
        places = [f"127.0.0.5:{port}" for port in (25, 587)]
        opensmtpd_server = exits.enter_context(listening(tmp_path, files, places))
        balancer = start(_farm(tmp_path))
        began = time.monotonic()
        until(lambda: time.monotonic() >= began + _SECONDS, "the end", limit=_SECONDS + 60)
        made_of_each = _all_up(balancer)
        logs = {
            "Postfix": postfix_server.log.splitlines(),
            "Exim": [f"exim[1]: {line}" for line in mta.log.splitlines()],
            "OpenSMTPD": opensmtpd_server.log.splitlines(),
        }
        asked = Counter(names.asked)
    for pool, number in made_of_each.items():
        counted(f"{number} checks of {pool} in {_SECONDS:.0f} s")
    for (program, lines), pattern in zip(logs.items(), _filters(_FROM), strict=True):
        _is_quiet(program, lines, pattern, counted)
    counted(f"name servers were asked: {dict(asked)}")
    backwards = ".".join(reversed(_FROM.split(".")))
    assert asked.keys() <= {f"{backwards}.dnsbl.test", f"{backwards}.in-addr.arpa"}
    assert 1 <= asked[f"{backwards}.dnsbl.test"] <= _SECONDS / _TTL + 1


def _farm(folder: Path) -> Tree:
    """A pool and a listener for each of the three ports, with the default checks."""
    config = configuration(folder, {})
    config["pools"] = {
        pool: {
            "servers": {
                name: {"address": f"127.0.0.{at}", "proxy": "off"} for name, at in servers.items()
            },
            "check": {"source": _FROM},
        }
        for pool, (_, servers) in _FARM.items()
    }
    config["listeners"] = {
        pool: {"bind": ["127.0.0.1:0"], "pool": pool, "protocol": protocol}
        for pool, (protocol, _) in _FARM.items()
    }
    return config


def _all_up(balancer: Mailweir) -> Counter[str]:
    """How many checks each pool has had; all of them found a server that is up."""
    made: Counter[str] = Counter()
    sample = re.compile(
        r'^mailweir_check_results_total{.*pool="(\w+)".*verdict="(\w+)"} (.*)$', re.MULTILINE
    )
    for pool, verdict, number in sample.findall(balancer.page("/metrics")):
        assert verdict == "up", pool
        made[pool] += int(float(number))
    assert made.keys() == _FARM.keys()
    return made


def _is_quiet(program: str, lines: list[str], pattern: re.Pattern[str], counted: Counted) -> None:
    """Nothing is left of checks, and nobody complains."""
    own = re.compile(r"^(info: |warn: purge_task)|exim\[1\]: .* daemon started")
    of_checks = [line for line in lines if not (_OF_POSTFIX.search(line) or own.search(line))]
    assert [line for line in of_checks if _COMPLAINTS.search(line)] == []
    assert [line for line in of_checks if not pattern.search(line)] == []
    counted(f"{program}: {len(of_checks)} lines of checks, none left by the filter, no complaint")


@contextmanager
def _readable(name: str, days: float) -> Iterator[Certificate]:
    """A certificate that a server's own user can read."""
    with TemporaryDirectory(prefix="mailweir-exim-") as folder:
        Path(folder).chmod(0o755)
        made = certificate(Path(folder), name, days=days)
        made.key.chmod(0o644)
        yield made


def _of_mails(lines: list[str]) -> set[str]:
    """What Postfix's other processes say of mails by their numbers: those are mails."""
    return {
        line
        for line in lines
        if re.search(r"postfix/(?:cleanup|qmgr|virtual|smtpd)\[\d+\]: \w+: ", line)
    }
