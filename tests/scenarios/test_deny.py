"""Denies: an operator's count at once, end when they were to, and outlive any end of the process;
those of the configuration are swapped under load by the hundred thousand.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.clients.smtpload import Smtpload
from harness.clients.sources import DENIED, IN, answer, at_once
from harness.mailweir.kernel_rig import PORT, polite, rig_before
from harness.mailweir.run import Mailweir, configuration, mailweir
from harness.networks.row import CLIENT, LISTENER
from harness.scale import count
from harness.servers.crowd import crowd
from harness.waiting import LIMIT, until
from scenarios.conftest import Start

_SPAMMER, _OTHER = "127.0.9.1", "127.0.10.1"
_NET = "127.0.9.0/24"
_FOR = 2  # seconds
_PREFIXES = 100_000
_SECONDS = count(8, 60)  # of load
_RATE = 300  # new sessions each second

Counted = Callable[[str], None]


def test_it_ends_by_itself(tmp_path: Path, start: Start, counted: Counted) -> None:
    with _server(tmp_path) as server:
        balancer = _up(start(configuration(tmp_path, {"a": server})))
        address, began = balancer.address(), time.monotonic()
        assert answer(address, _SPAMMER) == IN
        said = _say(balancer, "deny", _SPAMMER, "--for", f"{_FOR}s")
        assert answer(address, _SPAMMER) == DENIED
        assert (said, answer(address, _OTHER)) == (f"{_SPAMMER}/32 is denied (for 2s)\n", IN)
        assert f"deny {_SPAMMER}/32" in balancer.command("status").stdout
        until(lambda: answer(address, _SPAMMER) == IN, "it to end")
        seconds = time.monotonic() - began
        counted(f"a deny for {_FOR} s was over after {seconds:.2f} s")
        assert seconds > _FOR
        assert balancer.status()["operator"]["words"] == []


def test_it_outlives_the_process(tmp_path: Path) -> None:
    """Also one that is killed, and a change of the configuration; until it is taken back."""
    with _server(tmp_path) as server:
        config = configuration(tmp_path, {"a": server})
        with mailweir(tmp_path, config) as balancer:
            _say(_up(balancer), "deny", _NET, "--for", "1h")
            _keeps_out(balancer)
            config["listeners"]["mx"]["allow"] = [_SPAMMER, "127.0.0.0/8"]
            balancer.change(config)
            _keeps_out(balancer)
            balancer.process.send(signal.SIGTERM)
            assert balancer.process.wait() == 0
        with mailweir(tmp_path, config) as balancer:
            _keeps_out(_up(balancer))
            balancer.process.kill()
        with mailweir(tmp_path, config) as balancer:
            _keeps_out(_up(balancer))
            assert _say(balancer, "undeny", _NET) == f"{_NET} is denied by no operator any more\n"
            assert answer(balancer.address(), _SPAMMER) == IN


def test_it_ends_sessions(tmp_path: Path, start: Start) -> None:
    """Where it is told to: all from there and no others."""
    with _server(tmp_path) as server:
        balancer = _up(start(configuration(tmp_path, {"a": server}, workers=4)))
        address = balancer.address()
        with at_once(address, _SPAMMER, 12) as (here, _), Client(address, host=_OTHER) as other:
            other.expect("220")
            _say(balancer, "deny", _NET)
            here[0].expect("250", "EHLO client.test")
            said = _say(balancer, "deny", _NET, "--end")
            assert said == f"{_NET} is denied; 12 sessions told to end\n"
            for client in here:
                assert client.line().startswith("421 4.3.2 ")
                assert client.rest() == b""
                client.close()
            other.expect("250", "EHLO client.test")
            other.expect("221", "QUIT")
        until(lambda: balancer.ended("killed") == 12, "them to be counted")
        assert answer(address, _SPAMMER) == DENIED


@pytest.mark.needs("iproute2", "nftables", "clang")
def test_it_ends_flows(tmp_path: Path) -> None:
    with rig_before(tmp_path, polite) as rig, ExitStack() as exits:
        clients = [exits.enter_context(rig.client()) for _ in range(3)]
        for client in clients:
            client.expect("220")
            client.expect("250", "EHLO client.test")
        until(lambda: rig.flows() == 3, "all to be flows")
        said = _say(rig.balancer, "deny", CLIENT, "--end")
        assert said == f"{CLIENT}/32 is denied; 3 sessions told to end\n"
        for client in clients:
            with pytest.raises(ConnectionResetError):
                client.line()
        until(lambda: rig.flows() == 0, "all to be gone")
        again = rig.networks.inside("c", partial(answer, (LISTENER, PORT), CLIENT))
        assert again.result(LIMIT) == DENIED
        until(lambda: len(rig.balancer.session_log()) == 4, "all in the log")
        ends = [(line["path"], line["end_reason"]) for line in rig.balancer.session_log()]
        assert ends[:3] == [("kernel", "killed")] * 3
        assert rig.balancer.servers()["a"]["active"] == 0


@pytest.mark.timeout(300)
def test_a_long_list_is_swapped_under_load(
    tmp_path: Path, start: Start, smtpload: Smtpload, counted: Counted
) -> None:
    """Each reload brings another list; who isn't in it doesn't notice, who is is kept out."""
    file = tmp_path / "drop.txt"
    _write_list(file, 0)
    with smtpload.sink("a") as sink:
        config = configuration(tmp_path, {"a": sink.addresses[0]})
        config["listeners"]["mx"]["deny"] = [str(file)]
        balancer = _up(start(config))
        address, times = balancer.address(), list[float]()
        options = (f"--duration={_SECONDS}s", f"--rate={_RATE}", "--concurrency=1000")
        with smtpload.source("load", address, *options) as load:
            while not load.ended or len(times) < 2:
                _write_list(file, len(times) + 1)
                began = time.monotonic()
                done = balancer.command("reload")
                times.append(time.monotonic() - began)
                assert done.returncode == 0, done.stderr
                assert answer(address, _listed(len(times))) == DENIED
                assert answer(address, _listed(len(times) + 1)) == IN
            sent = load.sent()
    times.sort()
    median = times[len(times) // 2]
    counted(
        f"{len(times)} reloads, each with {_PREFIXES} other prefixes, in {median:.2f} s (median),"
        f" {times[-1]:.2f} s at most; meanwhile {sent.ok} sessions ok"
        f" ({sent.ok / _SECONDS:.0f}/s), {sent.failed} failed, 99 % in {sent.session_p99_ms:.0f} ms"
    )
    assert (sent.failed, sent.failures) == (0, {})
    assert sent.ok > _SECONDS * _RATE / 2


def _write_list(file: Path, number: int) -> None:
    """All of them differ from those of the one before."""
    net = 10 + number % 2
    prefixes = (f"{net}.{n >> 16}.{n >> 8 & 255}.{n & 255}/32" for n in range(1, _PREFIXES))
    new = file.with_suffix(".new")
    new.write_text("\n".join(["; a list", f"{_listed(number)} ; in every other one", *prefixes]))
    new.replace(file)


def _listed(number: int) -> str:
    return f"127.0.9.{1 + number % 2}"


@contextmanager
def _server(directory: Path) -> Iterator[str]:
    with crowd(directory, "polite") as (_, address):
        yield address


def _up(balancer: Mailweir) -> Mailweir:
    until(lambda: balancer.server_is("a", "up"), "the server to be up")
    return balancer


def _say(balancer: Mailweir, *words: str) -> str:
    said = balancer.command(*words)
    assert (said.returncode, said.stderr) == (0, "")
    return said.stdout


def _keeps_out(balancer: Mailweir) -> None:
    """From the first moment on."""
    address = balancer.address()
    assert answer(address, _SPAMMER) == DENIED
    assert answer(address, _OTHER) == IN
