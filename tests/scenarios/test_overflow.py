"""A pool that has no server for a session sends it to another pool, and has its sessions back once
it has been well for a while.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.clients.dialogue import Address, Client
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.networks.ports import refusing
from harness.programs.alerts import fired
from harness.servers.certificates import certificate
from harness.servers.scripted import Stream, serving
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

Counted = Callable[[str], None]

_CHECK = {"every": "500ms", "fast": "100ms", "rise": 1, "fall": 1}
_STEADY = 10.0  # seconds that a server has to be up before sessions come back
_NOTICED = 10.0  # seconds between two looks at what the log is to say


@dataclass
class _Server:
    """It greets by its name, or refuses everybody; `headers` are first lines of PROXY."""

    name: str
    proxy: bool = False
    is_there: bool = True
    headers: list[bytes] = field(default_factory=list)

    def serve(self, stream: Stream) -> None:
        if self.proxy:
            self.headers.append(stream.line())
        if not self.is_there:
            stream.send(b"554 5.3.2 gone\r\n")
            stream.rest()
            return
        stream.send(f"220 {self.name} ESMTP\r\n".encode())
        for line in iter(stream.line, b""):
            leaves = line.upper().startswith(b"QUIT")
            stream.send(b"221 bye\r\n" if leaves else b"250 ok\r\n")
            if leaves:
                return


@contextmanager
def _farm(folder: Path, start: Start, **own: object) -> Iterator[tuple[Mailweir, _Server, _Server]]:
    """Server `a` of pool `farm`, which overflows into `spare` with its server `s`."""
    a, s = _Server("a"), _Server("s", proxy=True)
    with ExitStack() as exits:
        address = {one.name: exits.enter_context(serving(one.serve)) for one in (a, s)}
        config: Tree = configuration(folder, {"a": {"address": address["a"], **own}}, check=_CHECK)
        config["drain"] = {"spread": "0s"}
        config["pools"]["farm"] |= {"overflow": ["spare"], "slow_start": "0s"}
        config["pools"]["spare"] = {
            "servers": {"s": {"address": address["s"], "proxy": "v1"}},
            "check": _CHECK,
        }
        yield start(config), a, s


def _greeter(address: Address) -> str:
    """Who greets a client that comes now."""
    with Client(address) as client:
        name = client.line().split()[1]
        client.expect("221", "QUIT")
        return name


def _overflow(balancer: Mailweir) -> Tree:
    pools = {pool["name"]: pool for pool in balancer.status()["pools"]}
    assert pools["spare"]["overflow"] is None
    found: Tree = pools["farm"]["overflow"]
    return found


@pytest.mark.needs("prometheus")
def test_sessions_go_elsewhere_and_come_back(
    tmp_path: Path, start: Start, counted: Counted
) -> None:
    with _farm(tmp_path, start) as (balancer, a, s):
        address = balancer.address()
        assert _greeter(address) == "a"
        assert _overflow(balancer)["course"] == "home"

        a.is_there = False
        until(lambda: _overflow(balancer)["course"] == "elsewhere", "it to overflow")
        assert [_greeter(address) for _ in range(5)] == ["s"] * 5
        _is_shown(balancer, s)
        fires = fired("mailweir.rules.yml", balancer.page("/metrics"), tmp_path)
        assert "MailweirPoolOverflows" in fires

        # One that comes and goes brings nobody back. (Once more, and it is held back for a minute.)
        for is_there in (True, False):
            a.is_there = is_there
            until(lambda: _is_up(balancer) == is_there, "the check")  # noqa: B023 - asked at once
            assert _greeter(address) == "s"
        came = time.monotonic()
        a.is_there = True
        until(lambda: _greeter(address) == "a", "sessions to come back", limit=_STEADY + LIMIT)
        took = time.monotonic() - came
        counted(f"a server came back: sessions did after {took:.1f} s")
        assert took >= _STEADY
        assert _overflow(balancer)["course"] == "home"
        assert balancer.metric("mailweir_pool_overflowing", pool="farm") == 0
        assert balancer.metric("mailweir_pool_overflows_total", pool="farm") == 1
        said = (
            "a pool overflows",
            "sessions went to another pool",
            "a pool has its sessions again",
        )
        until(lambda: _are_told(balancer, said), "the events", limit=2 * _NOTICED)


def _are_told(balancer: Mailweir, events: tuple[str, ...]) -> bool:
    told = balancer.command("events").stdout
    return all(event in told for event in events)


def _is_up(balancer: Mailweir) -> bool:
    return bool(balancer.servers()["a"]["state"] == "up")


def _is_shown(balancer: Mailweir, s: _Server) -> None:
    """Everywhere, while sessions go elsewhere."""
    assert balancer.metric("mailweir_pool_overflowing", pool="farm") == 1
    taken = {"pool": "farm", "to": "spare"}
    assert balancer.metric("mailweir_pool_overflowed_sessions_total", **taken) == 5
    status = balancer.command("status").stdout
    said = "pool farm overflows: its sessions go to other pools; overflowed so far: 5 to spare"
    assert said in status.splitlines()
    assert said in balancer.page("/")
    assert balancer.status()["ready"]
    explained = balancer.command("explain", "192.0.2.9").stdout
    assert "would get spare/s" in explained
    assert "overflow: to spare: no server of farm is up, or not for long enough" in explained

    def logged() -> list[Tree]:
        return [one for one in balancer.session_log() if one["overflow_of"]]

    until(lambda: len(logged()) == 5, "the session log")
    where = {(one["pool"], one["server"], one["overflow_of"]) for one in logged()}
    assert where == {("spare", "s", "farm")}
    # By the other pool's own rules.
    assert any(header.startswith(b"PROXY TCP4 127.0.0.1 ") for header in s.headers)


def test_a_full_pool_spills_session_by_session(tmp_path: Path, start: Start) -> None:
    with _farm(tmp_path, start, max_sessions=1) as (balancer, _, _s):
        address = balancer.address()
        with Client(address) as first:
            assert first.line().startswith("220 a ")
            with Client(address) as second:
                assert second.line().startswith("220 s ")
                sessions = balancer.command("sessions").stdout
                assert "spare/s" in sessions
                assert (
                    "every server of farm is full"
                    in balancer.command("explain", "192.0.2.9").stdout
                )
                # What is said of a server counts for all that are there.
                done = balancer.command("drain", "spare/s")
                assert done.returncode == 0, done.stderr
                second.expect("421", "NOOP")
            first.expect("221", "QUIT")
        until(lambda: balancer.servers()["a"]["active"] == 0, "the first one to end")
        assert _greeter(address) == "a"
        assert _overflow(balancer) == {
            "course": "home",
            "share": 1.0,
            "begun": 0,
            "sessions": {"spare": 1},
        }


@pytest.mark.needs("openssl")
def test_where_the_client_begins(tmp_path: Path, start: Start) -> None:
    """A TLS hello is read before a server is sought; that must not wait for the pool's own."""
    made = certificate(tmp_path, "mx.test", days=9)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)

    def greet(stream: Stream) -> None:
        with context.wrap_socket(stream.socket, server_side=True) as inner:
            inner.sendall(b"220 s ESMTP\r\n")
            inner.recv(100)
            inner.sendall(b"221 bye\r\n")

    with refusing() as dead, serving(greet) as spare:
        config = configuration(tmp_path, {"a": dead}, protocol="smtps", check=_CHECK)
        config["pools"]["farm"]["overflow"] = ["spare"]
        servers = {"s": {"address": spare, "proxy": "off"}}
        config["pools"]["spare"] = {"servers": servers, "check": _CHECK}
        balancer = start(config)
        anybody = ssl.create_default_context(cafile=made.cert)
        with (
            socket.create_connection(balancer.address(), timeout=LIMIT) as plain,
            anybody.wrap_socket(plain, server_hostname="mx.test") as client,
        ):
            assert client.recv(100) == b"220 s ESMTP\r\n"
            client.sendall(b"QUIT\r\n")
            assert client.recv(100) == b"221 bye\r\n"
        until(balancer.session_log, "the session log")
        (record,) = balancer.session_log()
        assert (record["pool"], record["overflow_of"]) == ("spare", "farm")


def test_nobody_has_a_server(tmp_path: Path, start: Start) -> None:
    with _farm(tmp_path, start) as (balancer, a, s):
        a.is_there = s.is_there = False
        reason = "pool farm: no server is up, nor does spare take its sessions"
        until(lambda: reason in balancer.status()["reasons"], "it to be not ready")
        with Client(balancer.address()) as client:
            assert client.line().startswith("421 4.3.2 ")
        # Whoever comes back first has the sessions at once: there is nobody else.
        a.is_there = True
        until(lambda: _is_up(balancer), "the check")
        assert _greeter(balancer.address()) == "a"


def test_pools_that_lead_back_are_refused(tmp_path: Path, start: Start) -> None:
    with _farm(tmp_path, start) as (balancer, _, _s):
        text = balancer.file.read_text()
        bad = text.replace("spare:\n", "spare:\n    overflow: [farm, fram]\n")
        balancer.write(bad)
        done = balancer.command("reload")
        assert done.returncode != 0
        said = done.stdout + done.stderr
        assert "pools.spare.overflow.0: sessions of `spare` would come back to it:" in said
        assert "there is no pool `fram`; did you mean `farm`?" in said
        assert _greeter(balancer.address()) == "a"
