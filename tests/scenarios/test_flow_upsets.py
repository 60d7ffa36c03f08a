"""What happens to a machine with flows: its process stands still, is killed, drained, told another
configuration, its interfaces and addresses go and come back, its pins are removed; while clients
come back from the same ports, reset, close halves and say nothing. By chance, from a seed.
"""

import os
import random
import secrets
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.mailweir.kernel_rig import (
    PORT,
    Rig,
    kernel_rig,
    polite,
    rig_configuration,
    serving_there,
)
from harness.mailweir.run import Tree
from harness.networks.row import LEGS, LISTENER, Row, pins, row
from harness.scale import LONG, count
from harness.waiting import LIMIT, until

_UPSETS = count(14, 400)
_SENDERS = count(10, 30)
# Each sender has these alone, and comes back from them all the time.
_PORTS = 5
_FLOWS = 40
# Seconds, at most, that something is out: longer than a worker may stand still.
_STILL = count(1.5, 4.0)
_PATIENCE = 5.0  # seconds, of a client for a reply
_LINGER = 60.0  # seconds, of the keys of a flow that is over
_RESET = struct.pack("ii", 1, 0)
_TCP_REPAIR = 19  # linux/tcp.h

pytestmark = [
    pytest.mark.needs("iproute2", "nftables", "clang"),
    pytest.mark.timeout(count(180, 2400), func_only=True),
]


def test_nothing_is_left_of_any_session(tmp_path: Path, counted: Callable[[str], None]) -> None:
    seed = int(os.environ.get("MAILWEIR_SEED", secrets.randbelow(1 << 32)))
    counted(f"MAILWEIR_SEED={seed}")
    config = rig_configuration(tmp_path, max_flows=_FLOWS, drain={"deadline": "1s", "spread": "0s"})
    config["listeners"]["mx"]["timeouts"] = {
        **{"idle_client": "6s", "idle_server": "6s", "half_closed": "3s"},
        "i_accept_duplicates": True,
    }
    with row() as networks, serving_there(networks, polite), ExitStack() as exits:
        upsets = _Upsets(networks, tmp_path, config, random.Random(seed))  # noqa: S311
        exits.callback(upsets.end)
        upsets.begin()
        with _senders(networks, seed) as outcomes:
            for _ in range(_UPSETS):
                upsets.one()
        counted(f"{_UPSETS} upsets {dict(upsets.done)}; clients {dict(outcomes)}")
        _is_as_it_was(upsets.rig)
        log = upsets.rig.balancer.session_log()
    paths = Counter(line["path"] for line in log)
    counted(f"in the log {dict(paths)}, {dict(Counter(line['end_reason'] for line in log))}")
    twice = {one: times for one, times in Counter(line["id"] for line in log).items() if times > 1}
    assert not [line for line in log if line["id"] in twice]
    assert "panicked" not in {line["end_reason"] for line in log}


def _is_as_it_was(rig: Rig) -> None:
    """Nothing is left, and there is room for as many flows as ever."""
    balancer = rig.balancer
    until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
    until(lambda: rig.flows() == 0, "all flows to end")
    until(lambda: balancer.metric("mailweir_kernel_path_places_taken") == 0, "all places")
    assert balancer.servers()["a"]["active"] == 0
    assert balancer.metric("mailweir_kernel_path_restarts_total") == 0
    with ExitStack() as exits:
        for _ in range(_FLOWS):
            exits.enter_context(rig.client()).expect("220")
        until(lambda: rig.flows() == _FLOWS, "as many flows as ever")
    until(lambda: rig.flows() == 0, "these to end")
    if LONG:
        lingering = partial(balancer.metric, "mailweir_kernel_path_lingering")
        until(lambda: lingering() == 0, "no key to be left", limit=_LINGER + LIMIT)


class _Upsets:
    """One after the other, each over when the next one comes."""

    def __init__(self, networks: Row, directory: Path, config: Tree, chance: random.Random) -> None:
        self._networks = networks
        self._directory = directory
        self._config = config
        self._chance = chance
        self._before = pins()
        self._exits = ExitStack()
        self.rig: Rig
        self.done: Counter[str] = Counter()

    def begin(self) -> None:
        """A process, which goes on with what there is."""
        self.rig = self._exits.enter_context(
            kernel_rig(self._networks, self._directory, self._config)
        )

    def end(self) -> None:
        """It ends as one should."""
        self._exits.close()

    def one(self) -> None:
        """Any of them, after a while."""
        time.sleep(self._chance.random() * _STILL / 3)
        upset = self._chance.choice(
            [
                *(self._stands_still, self._is_killed, self._is_killed, self._is_stopped),
                *(self._is_reloaded, self._drains, self._sessions_are_killed),
                *(self._is_down, self._is_deleted, self._has_no_address, self._has_no_pins),
            ]
        )
        self.done[upset.__name__.removeprefix("_")] += 1
        upset()

    def _while(self) -> None:
        time.sleep(self._chance.random() * _STILL)

    def _stands_still(self) -> None:
        self.rig.balancer.process.send(signal.SIGSTOP)
        self._while()
        self.rig.balancer.process.send(signal.SIGCONT)

    def _is_killed(self) -> None:
        self.rig.balancer.process.kill()
        if self._chance.random() < 0.5:
            self._while()
        self.end()
        self.begin()

    def _is_stopped(self) -> None:
        self.end()
        self.begin()

    def _is_reloaded(self) -> None:
        age = self._chance.choice(["0s", "1h", "2h", "3h"])
        self._config["listeners"]["mx"]["max_age"] = age
        self.rig.balancer.write(self._config)
        done = self.rig.balancer.command("reload")
        assert done.returncode == 0, done.stderr

    def _drains(self) -> None:
        assert self.rig.balancer.command("drain", "farm/a").returncode == 0
        self._while()
        assert self.rig.balancer.command("ready", "farm/a").returncode == 0

    def _sessions_are_killed(self) -> None:
        for session in self.rig.sessions():
            if self._chance.random() < 0.3:
                # It may be gone.
                self.rig.balancer.command("kill", session["id"])

    def _is_down(self) -> None:
        leg, *_ = LEGS[self._chance.choice("cs")]
        self._networks.run("l", "ip", "link", "set", leg, "down")
        self._while()
        self._networks.run("l", "ip", "link", "set", leg, "up")

    def _is_deleted(self) -> None:
        network = self._chance.choice("cs")
        leg, *_ = LEGS[network]
        self._networks.run("l", "ip", "link", "delete", leg)
        self._while()
        self._networks.connect(network)

    def _has_no_address(self) -> None:
        leg, here, _ = LEGS[self._chance.choice("cs")]
        self._networks.run("l", "ip", "address", "delete", f"{here}/24", "dev", leg)
        self._while()
        self._networks.run("l", "ip", "address", "add", f"{here}/24", "dev", leg)

    def _has_no_pins(self) -> None:
        for folder in pins() - self._before:
            for file in folder.iterdir():
                if self._chance.random() < 0.5:
                    file.unlink()


@contextmanager
def _senders(networks: Row, seed: int) -> Iterator[Counter[str]]:
    """Clients of every kind, until the block ends; what became of them."""
    over, outcomes = threading.Event(), Counter[str]()
    senders = [
        networks.inside("c", partial(_send, over, random.Random(seed + number), number))  # noqa: S311
        for number in range(1, 1 + _SENDERS)
    ]
    try:
        yield outcomes
    finally:
        over.set()
        for sender in senders:
            outcomes.update(sender.result(2 * LIMIT))


def _send(over: threading.Event, chance: random.Random, number: int) -> Counter[str]:
    outcomes = Counter[str]()
    ports = range(20_000 + _PORTS * number, 20_000 + _PORTS * (number + 1))
    while not over.wait(chance.random() / 20):
        behave = chance.choice([_mails, _mails, _mails, _resets, _closes_a_half, _forgets, _rests])
        try:
            with _from(chance.choice(ports)) as client:
                behave(client, chance)
            outcomes[behave.__name__.removeprefix("_")] += 1
        except (OSError, AssertionError) as error:
            outcomes[type(error).__name__] += 1
    return outcomes


@contextmanager
def _from(port: int) -> Iterator[Client]:
    """A client from this port, whatever connection of it there was."""
    with socket.socket() as mine:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mine.settimeout(_PATIENCE)
        mine.bind(("", port))
        mine.connect((LISTENER, PORT))
        client = Client.of(mine)
        try:
            yield client
        finally:
            with suppress(OSError):
                client.close()


def _mails(client: Client, _: random.Random) -> None:
    client.begin_mail()
    client.expect("250", "Subject: hello\r\n\r\nhello\r\n.")
    client.expect("221", "QUIT")
    assert client.rest() == b""


def _resets(client: Client, chance: random.Random) -> None:
    """At some place of its session, also before it was greeted."""
    if chance.random() < 0.8:
        client.expect("220")
        if chance.random() < 0.5:
            client.expect("250", "EHLO client.test")
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _closes_a_half(client: Client, _: random.Random) -> None:
    client.expect("220")
    client.send(b"EHLO client.test\r\n")
    client.socket.shutdown(socket.SHUT_WR)
    client.rest()


def _forgets(client: Client, _: random.Random) -> None:
    """As a host that was restarted: nobody is told."""
    client.expect("220")
    client.socket.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)


def _rests(client: Client, chance: random.Random) -> None:
    client.expect("220")
    time.sleep(chance.random())
    client.expect("250", "NOOP")
