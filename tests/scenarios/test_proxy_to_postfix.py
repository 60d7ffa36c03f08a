"""PROXY headers to a real Postfix: its log has the clients' own addresses, and no complaints.

In a network of the test's own, so that each session has an address that no other has. A
client with an IPv4-mapped address can't be had: listeners on IPv6 take IPv6 alone.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from harness.clients.dialogue import Address
from harness.mailweir.run import Mailweir, configuration
from harness.networks.own import CLIENTS6, ClientFrom, own_network
from harness.programs.postfix import POSTSCREEN, POSTSCREEN_SETTINGS, Postfix, postfix
from harness.scale import count
from harness.waiting import LIMIT, until
from scenarios.capture import capturing
from scenarios.conftest import Start
from scenarios.proxy_header import header

_SESSIONS = count(40, 1000)
_PROBES = count(5, 500)
_PARALLEL = 8
_SERVICES = ("127.0.0.1:0 inet n - n - - smtpd", "[::1]:0 inet n - n - - smtpd")
_SETTINGS = {
    "smtpd_upstream_proxy_protocol": "haproxy",
    "inet_protocols": "all",
    "inet_interfaces": "127.0.0.1, [::1]",
    "smtpd_peername_lookup": "no",
}
_COMPLAINTS = re.compile(
    r"haproxy read|improper|lost connection|timeout|smtpd\[\d+\]: (warning|error|fatal)"
)

pytestmark = pytest.mark.needs("postfix", "openssl", "tcpdump", "iproute2")


def test_postfix_sees_who_the_client_is(
    tmp_path: Path, start: Start, counted: Callable[[str], None]
) -> None:
    with _rig(tmp_path, start, every="1h") as (server, balancer, clients):
        versions = {("127.0.0.1", server.ports[0]): "v1", ("::1", server.ports[1]): "v2"}
        to_each = (f"dst host {host} and tcp dst port {port}" for host, port in versions)
        with capturing(tmp_path, " or ".join(f"({to})" for to in to_each)) as capture:
            seen = _sessions(balancer, clients)
            segments = capture.first_segments(_SESSIONS)
            capture.end()

        until(lambda: _in_log(server, "disconnect").keys() >= set(clients), "all in the log")
        for what in ("connect", "disconnect"):
            logged = _in_log(server, what)
            assert {client: logged[client] for client in clients} == dict.fromkeys(clients, 1)
        assert not _complaints(server)
        until(lambda: len(balancer.session_log()) >= _SESSIONS, "all in mailweir's log")
        ids = {line["id"]: line["client"] for line in balancer.session_log()}

    headers = [header(segment.payload) for segment in segments]
    # Each is told to one server: by which client, over which listener.
    assert {one.client: one.listener for one in headers} == seen
    for segment, one in zip(segments, headers, strict=True):
        assert one.version == versions[segment.destination]
        if one.version == "v2":
            assert ids[one.unique_id] == _text(one.client)
    kinds = Counter((one.version, ip_address(one.client[0]).version) for one in headers)
    assert len(kinds) == 4
    counted(
        f"{_SESSIONS} sessions, PROXY version and IP version {dict(kinds)}: all in Postfix's"
        " log by the client's address; each header alone in the first segment"
    )


def test_checks_leave_a_clean_log(
    tmp_path: Path, start: Start, counted: Callable[[str], None]
) -> None:
    with _rig(tmp_path, start, every="1s") as (server, balancer, _):
        until(
            lambda: sum(_probes(server)) >= _PROBES,
            f"{_PROBES} checks in the log",
            limit=_PROBES + LIMIT,
        )
        counted(f"{_probes(server)} checks by PROXY v1 and v2")
        assert min(_probes(server)) >= _PROBES / 3
        assert all(balancer.server_is(name, "up") for name in ("v1", "v2"))
        assert not _complaints(server)


@pytest.mark.parametrize(
    ("services", "settings", "said"),
    [
        (_SERVICES[:1], _SETTINGS, r"421 4\.3\.0 mx\.\S+ Server local error"),
        (POSTSCREEN, POSTSCREEN_SETTINGS, r"421 4\.3\.2 No system resources"),
    ],
    ids=["smtpd", "postscreen"],
)
def test_a_check_without_a_header_asks_whether_one_is_missing(
    tmp_path: Path, start: Start, services: Sequence[str], settings: Mapping[str, str], said: str
) -> None:
    with postfix(tmp_path, services=services, settings=settings) as server:
        servers = {"a": {"address": f"127.0.0.1:{server.ports[0]}", "proxy": "off"}}
        # Postfix waits for a header for 5 s.
        balancer = start(configuration(tmp_path, servers, check={"kind": "ehlo", "every": "1h"}))
        until(lambda: balancer.servers()["a"]["check"] is not None, "a check", limit=LIMIT)
        row = balancer.servers()["a"]
        assert re.fullmatch(
            said + r" \(does it expect a PROXY header\? then write `proxy: v2`\)",
            row["check"]["detail"],
        )
        assert row["by_checks"] == f"check: {row['check']['detail']}"
        assert row["check"]["detail"] in balancer.command("servers").stdout


@contextmanager
def _rig(
    directory: Path, start: Start, *, every: str
) -> Iterator[tuple[Postfix, Mailweir, list[str]]]:
    """Postfix with a server for each version behind mailweir, and addresses of clients."""
    with ExitStack() as exits:
        exits.enter_context(own_network())
        server = exits.enter_context(postfix(directory, services=_SERVICES, settings=_SETTINGS))
        first, second = server.ports
        servers = {
            "v1": {"address": f"127.0.0.1:{first}", "proxy": "v1"},
            "v2": {"address": f"[::1]:{second}", "proxy": "v2"},
        }
        config = configuration(directory, servers, check={"kind": "ehlo", "every": every})
        config["listeners"]["mx"]["bind"] = ["127.0.0.1:0", "[::1]:0"]
        balancer = start(config)
        until(
            lambda: all(balancer.server_is(name, "up") for name in servers), "the servers to be up"
        )
        # In pairs, since servers take turns.
        yield server, balancer, [_client(number) for number in range(_SESSIONS)]


def _client(number: int) -> str:
    """An address that no other session has, in pairs of IPv4 and of IPv6."""
    if number // 2 % 2:
        return str(CLIENTS6[number + 1])
    return f"127.1.{number // 250}.{number % 250 + 1}"


def _sessions(balancer: Mailweir, clients: list[str]) -> dict[Address, Address]:
    """A session of each client: what it is to the listener, and where that listens."""
    listening = {}
    for text in balancer.status()["listeners"][0]["addresses"]:
        host, _, port = text.rpartition(":")
        ip = ip_address(host.strip("[]"))
        listening[ip.version] = str(ip), int(port)

    def one(source: str) -> tuple[Address, Address]:
        with ClientFrom(source, listening[ip_address(source).version]) as client:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            client.expect("221", "QUIT")
            assert client.rest() == b""
            return client.socket.getsockname()[:2], client.socket.getpeername()[:2]

    with ThreadPoolExecutor(_PARALLEL) as pool:
        return dict(pool.map(one, clients))


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _in_log(server: Postfix, what: str) -> Counter[str]:
    """Addresses that Postfix says it was connected from, or disconnected from."""
    return Counter(re.findall(rf": {what} from unknown\[(.+?)\]", server.log))


def _probes(server: Postfix) -> tuple[int, int]:
    """Checks that said EHLO and QUIT and nothing else, by the server's IP version."""
    said = server.log.count
    return (
        said("disconnect from unknown[127.0.0.1] ehlo=1 quit=1 commands=2\n"),
        said("disconnect from unknown[::1] ehlo=1 quit=1 commands=2\n"),
    )


def _complaints(server: Postfix) -> list[str]:
    return [line for line in server.log.splitlines() if _COMPLAINTS.search(line)]
