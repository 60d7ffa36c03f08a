"""A strict pair and its witness: whoever is active has the word of one of the two others (H8)."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from harness.mailweir.run import COMMAND, Tree
from harness.networks.pair import DEVICES, WITNESS, Node
from harness.pair.configuration import HEARTBEATS, new_key
from harness.pair.holders import Held
from harness.pair.rig import Machine, Rig, other, pair_rig
from harness.process import Running, running
from harness.scale import count
from harness.waiting import until

_INTERVAL, _DEAD, _LEASE = count(0.1, 0.2), count(1, 2), count(2, 3)
# The word of whoever gives leave counts so long for him, `facts.bond`.
_BOND = 2 * _LEASE + 1
# Until a node without leave has let go.
_LATE = 1.0


class Strict:
    """The pair, and its witness while that runs."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig = rig
        self._folder = folder
        self._exits = ExitStack()
        self._starts = 0
        self._process: Running

    def __enter__(self) -> "Strict":
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def start_witness(self) -> None:
        """Until it gives the active node leave, which it does once it knows of no earlier word."""
        self._starts += 1
        file = self.rig.machines["a"].file
        argv: list[str | Path] = [
            *self.rig.networks.before("w"),
            *COMMAND,
            "ha",
            "witness",
            "-c",
            file,
        ]
        name = f"witness-{self._starts}"
        self._process = self._exits.enter_context(running(argv, self._folder, name))
        active = self.rig.machines[self.rig.active()]
        until(lambda: grants(active), "leave by the witness")

    @property
    def process(self) -> Running:
        """The witness's."""
        return self._process

    def kill_witness(self) -> None:
        """It says nothing more."""
        self._process.kill()

    def cut(self, node: Node) -> None:
        """From everybody, and it isn't told."""
        for link in DEVICES:
            self.rig.networks.cut(node, link)

    def heal(self, node: Node) -> None:
        """Undo that."""
        for link in DEVICES:
            self.rig.networks.heal(node, link)


def grants(machine: Machine) -> bool:
    """Whether the witness gives it leave to be active."""
    witness = machine.status().get("witness")
    return bool(witness and witness["grants"])


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strict]:
    folder = tmp_path_factory.mktemp("strict")
    with (
        pair_rig(folder, witness=True, edit=_strictly) as rig,
        Strict(rig, folder) as made,
    ):
        made.start_witness()
        yield made


def test_a_new_key_for_all_three(
    strict: Strict, tmp_path: Path, counted: Callable[[str], None]
) -> None:
    """Brought to one after the other; then the old one is taken away. No word is missed, and what
    is a signal to `mailweir run` ends nobody.
    """
    rig = strict.rig
    node = rig.active()
    old = json.loads(rig.machines["a"].file.read_text())["ha"]["keys"]
    new = {"2": str(new_key(tmp_path / "second.key"))}
    ends = [*(machine.ha for machine in rig.machines.values()), strict.process]
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        for one in ends:
            one.send(number)
    with _watched(rig) as seen:
        for keys in ({**old, **new}, new):
            # The witness has a's file.
            for machine in (rig.machines["b"], rig.machines["a"]):
                reloads = machine.ha.err.count("event=reloaded")
                machine.change(partial(_have_keys, keys))
                until(partial(_has, machine.ha, reloads + 1), "the reload")
            reloads = strict.process.err.count("event=reloaded")
            strict.process.send(signal.SIGHUP)
            until(partial(_has, strict.process, reloads + 1), "the witness's reload")
            _pass(_BOND)
            assert grants(rig.machines[node])
    counted(f"two rotations with a strict witness: {_words(seen[0])}")
    assert (seen[0].moves, seen[0].nobody, seen[0].dual) == (0, 0, 0), seen[0]
    assert all(one.exit_code is None and "ignored" in one.err for one in ends)


def _have_keys(keys: dict[str, str], ha: Tree) -> None:
    ha["keys"] = keys


def _has(process: Running, reloads: int) -> bool:
    return process.err.count("event=reloaded") == reloads


def test_cut_from_the_witness_the_peer_gives_leave(
    strict: Strict, counted: Callable[[str], None]
) -> None:
    node = strict.rig.active()
    with _watched(strict.rig) as seen:
        strict.rig.networks.lose(node, "gw", f"ip daddr {WITNESS}")
        until(lambda: not grants(strict.rig.machines[node]), "its leave to be over")
        _pass(_LATE)
        strict.rig.networks.lose_nothing()
        until(lambda: grants(strict.rig.machines[node]), "its leave again")
    counted(f"witness cut from the active node: {_words(seen[0])}")
    assert (seen[0].moves, seen[0].nobody, seen[0].dual) == (0, 0, 0), seen[0]


def test_cut_from_both_it_lets_go_before_the_peer_takes(
    strict: Strict, counted: Callable[[str], None]
) -> None:
    for _ in range(count(1, 10)):
        node = strict.rig.active()
        held, gone, taken = _cut_and_heal(strict, node)
        counted(
            f"active node cut from both: it let go after {gone:.2f} s, taken after {taken:.2f} s"
        )
        assert (held.moves, held.dual) == (1, 0), held
        assert gone <= _LEASE + _LATE
        assert taken <= _BOND + _DEAD + _LATE
        until(lambda: grants(strict.rig.machines[strict.rig.active()]), "leave by the witness")


def _cut_and_heal(strict: Strict, node: Node) -> tuple[Held, float, float]:
    """How it was held, and when the cut node had let go, and the other one had taken it."""
    rig, has = strict.rig, other(node)
    with _watched(rig) as seen:
        cut = time.monotonic()
        strict.cut(node)
        until(lambda: rig.holders.only == has, f"{has} to take over")
        strict.heal(node)
        rig.active()
    [held] = seen
    gone = next(one.at for one in held.changes if node not in one.nodes) - cut
    taken = next(one.at for one in held.changes if has in one.nodes) - cut
    return held, gone, taken


def test_without_the_witness_the_peer_gives_leave(
    strict: Strict, counted: Callable[[str], None]
) -> None:
    active = strict.rig.machines[strict.rig.active()]
    with _watched(strict.rig) as seen:
        strict.kill_witness()
        until(lambda: not grants(active), "its leave to be over")
        _pass(_LATE)
    counted(f"witness lost: {_words(seen[0])}")
    assert (seen[0].moves, seen[0].nobody, seen[0].dual) == (0, 0, 0), seen[0]


@pytest.mark.skipif(not count(0, 1), reason="takes its time: MAILWEIR_LONG=1")
def test_alone_nobody_is_active(strict: Strict, counted: Callable[[str], None]) -> None:
    node = strict.rig.active()
    strict.kill_witness()
    with _watched(strict.rig) as seen:
        cut = time.monotonic()
        strict.cut(node)
        until(lambda: not strict.rig.holders.now, "it to let go")
        gone = time.monotonic() - cut
        _pass(2 * _BOND)
        assert not strict.rig.holders.now
        strict.heal(node)
        strict.rig.active()
    counted(f"each alone: it let go after {gone:.2f} s, nobody had it; {_words(seen[0])}")
    assert gone <= _LEASE + _LATE
    assert seen[0].dual == 0, seen[0]


def _strictly(_: Node, config: Tree) -> None:
    timers = {"interval": _INTERVAL, "dead": _DEAD, "lease": _LEASE}
    config["ha"]["timers"] = {name: f"{1000 * value:.0f}ms" for name, value in timers.items()}
    config["ha"]["witness"] = {"address": f"{WITNESS}:{HEARTBEATS}", "strict": True}


@contextmanager
def _watched(rig: Rig) -> Iterator[list[Held]]:
    """How the address was held, known once the block has ended."""
    seen: list[Held] = []
    began = time.monotonic()
    yield seen
    seen.append(rig.holders.over(began))


def _words(held: Held) -> str:
    return f"{held.moves} moves, nobody had it for {held.nobody:.2f} s, both for {held.dual:.2f} s"


def _pass(seconds: float) -> None:
    """The case is that nothing happens meanwhile."""
    time.sleep(seconds)
