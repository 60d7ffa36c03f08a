"""What `mailweir ha status` and `explain` say: whole sentences, but for times and machines."""

import re
from collections.abc import Iterator

import pytest

from harness.networks.pair import DEVICES, NODES, VIRTUAL
from harness.pair.rig import Machine, Rig, other, pair_rig
from harness.waiting import until

_GONE = "Nothing has been heard of {} for T: it is down, `mailweir ha run` doesn't run there, or"
_SILENT = _GONE + " no link works."
_MAYBE = _GONE + " no link works; in the last case it may be active as well."
_PATIENCE = 15.0  # seconds; some things take a lease, or a fault_hold
_ALARM = "ALARM: nothing is heard of {} on any link"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A pair that moves nothing by itself."""
    with pair_rig(tmp_path_factory.mktemp("pair")) as made:
        assert _since(made.machines[made.active()]).endswith("because neither node was active.")
        yield made


@pytest.fixture(autouse=True)
def as_before(rig: Rig) -> Iterator[None]:
    """No test leaves the next one what would keep the pair from being settled."""
    yield
    rig.networks.lose_nothing()
    for machine in rig.machines.values():
        rig.networks.plug(machine.name, "lan")
        machine.command("ready")


def said(machine: Machine) -> list[str]:
    """The lines of `explain`, made of what `--json` says. Alarms come as they began: what was seen
    first differs.
    """
    told = machine.explanation()
    alarms = [f"ALARM: {alarm}" for alarm in told["alarms"]]
    return _sorted(_plain("\n".join([f"{told['sentence']} {told['peer']}", *alarms])))


def _sorted(lines: list[str]) -> list[str]:
    return [*lines[:1], *sorted(lines[1:])]


def _plain(words: str) -> list[str]:
    """Without what differs from run to run."""
    words = re.sub(r"\b(\d+[dhm] )?\d+[hms]\b", "T", words)
    lines = re.sub(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", "MAC", words).strip().split("\n")
    # A test cuts one link after the other: the first may be missed before all are.
    silent = any(line.startswith("ALARM") and line.endswith("on any link") for line in lines)
    return [line for line in lines if not (silent and " on link " in line)]


def says(machine: Machine, *lines: str) -> None:
    """In the end; and so say the commands."""
    wanted = _sorted([line.format(p=other(machine.name), n=machine.name) for line in lines])
    seen: list[list[str]] = []

    def right() -> bool:
        seen[:] = [said(machine)]
        return seen[0] == wanted

    try:
        until(right, "the words", limit=_PATIENCE)
    except AssertionError:
        assert seen[0] == wanted
    assert _sorted(_plain(machine.command("explain")[1])) == wanted
    head, *alarms = _plain(machine.command("status")[1].partition("\n\n")[0])
    assert wanted[0].startswith(f"{head} ")
    assert sorted(alarms) == wanted[1:]


def _since(active: Machine) -> str:
    """Since when it is active, and why: which of these tests ran before differs."""
    told = re.match(r".* has been active for T; it took over because [^.]+\.", said(active)[0])
    assert told
    return told[0]


def both(rig: Rig) -> tuple[Machine, Machine]:
    """The active one, and the one that stands by."""
    active = rig.active()
    return rig.machines[active], rig.machines[other(active)]


def test_normally(rig: Rig) -> None:
    active, standby = both(rig)
    says(active, f"{_since(active)} {{p}} could take over.")
    says(standby, "{n} has stood by for T: {p} is active. It could take over.")
    code, words = standby.command("status")
    assert code == 0
    head, *rows = words.split("\n\n")[1].splitlines()
    assert head.split() == [
        *("NODE", "STATE", "PRIORITY", "UP", "SERVERS", "SESSIONS", "CONFIGURATION", "HEARD")
    ]
    assert [row.split()[:5] for row in rows[:2]] == [
        [standby.name, "backup", "100", "1", "1"],
        [active.name, "active", "100", "1", "1"],
    ]


def test_a_switch(rig: Rig) -> None:
    active, standby = both(rig)
    code, words = active.command("switch")
    assert (code, words.startswith(f"{active.name} has stood by for ")) == (0, True), words
    until(lambda: rig.holders.only == standby.name, "the other one to have it")
    says(
        standby,
        "{n} has been active for T; it took over because {p} released the addresses."
        " {p} could take over.",
    )
    says(active, "{n} has stood by for T: {p} is active. It could take over.")


def test_in_maintenance(rig: Rig) -> None:
    active, standby = both(rig)
    assert standby.command("maint")[0] == 0
    says(
        standby,
        "{n} has been in maintenance for T and takes nothing over: an operator wants it so."
        " `mailweir ha ready` ends it. {p} is active.",
        "ALARM: {n} couldn't take over: it is in maintenance",
    )
    why = _since(active)
    says(
        active,
        why + " Nobody could take over now: {p} is in maintenance.",
        "ALARM: {p} couldn't take over: {p} is in maintenance",
    )
    code, words = active.command("switch")
    assert (code, words) == (1, f"mailweir: {standby.name} is in maintenance\n")
    code, words = standby.command("switch")
    assert (code, words) == (
        1,
        "mailweir: this node is in maintenance: `mailweir ha ready` first\n",
    )
    assert standby.command("ready")[0] == 0
    says(active, why + " {p} could take over.")


def test_with_other_settings_than_the_peer(rig: Rig) -> None:
    active, standby = both(rig)
    standby.change(lambda ha: ha.update(fault_hold="11s"))
    differs = (
        "`ha.fault_hold` in the file of {p} isn't the same: make both files alike, then send HUP to"
        " `mailweir ha run` on both"
    )
    why = _since(active)
    refused = f"{why} {{p}} could take over, but a switch is refused: {differs}."
    says(active, refused, f"ALARM: {differs}")
    stands_by = "{n} has stood by for T: {p} is active. It could take over."
    says(standby, stands_by, f"ALARM: {differs}")
    for machine in (active, standby):
        code, words = machine.command("switch")
        assert (code, words) == (1, f"mailweir: {differs.format(p=other(machine.name))}\n")
    standby.change(lambda ha: ha.pop("fault_hold"))
    says(active, why + " {p} could take over.")
    says(standby, stands_by)


def test_without_carrier(rig: Rig) -> None:
    active, standby = both(rig)
    rig.networks.unplug(active.name, "lan")
    until(lambda: rig.holders.only == standby.name, "the other one to have it")
    says(
        standby,
        "{n} has been active for T; it took over because {p} released the addresses"
        " (it has no carrier). Nobody could take over now: {p} is in fault.",
        "ALARM: nothing is heard of {p} on link lan",
        "ALARM: {p} couldn't take over: {p} is in fault",
    )
    says(
        active,
        "{n} has been in fault for T: eth0 has no carrier. It stands by again once that is"
        " over. {p} is active.",
        "ALARM: {n} couldn't take over: eth0 has no carrier",
        "ALARM: nothing is heard of {p} on link lan",
        "ALARM: no gateway answers",
    )
    rig.networks.plug(active.name, "lan")
    says(active, "{n} has stood by for T: {p} is active. It could take over.")


def test_without_balancer(rig: Rig) -> None:
    active, standby = both(rig)
    standby.balancer.process.kill()
    gone = "`mailweir run` is gone, and no session with it"
    own = f"ALARM: {{n}} couldn't take over: {gone}"
    says(standby, f"{{n}} has stood by for T and can't take over: {gone}. {{p}} is active.", own)
    why = _since(active)
    theirs = "ALARM: {p} couldn't take over: the balancer of {p} doesn't serve"
    says(active, f"{why} Nobody could take over now: the balancer of {{p}} doesn't serve.", theirs)
    code, words = standby.command("switch")
    assert (code, words) == (1, f"mailweir: {gone}\n")
    standby.start_balancer()
    says(active, f"{why} {{p}} could take over.")
    active.balancer.process.kill()
    says(
        standby,
        "{n} has been active for T; it took over because {p} released the addresses"
        " (its balancer doesn't serve). Nobody could take over now: the balancer of {p} doesn't"
        " serve.",
        theirs,
    )
    says(active, f"{{n}} has stood by for T and can't take over: {gone}. {{p}} is active.", own)
    active.start_balancer()
    says(active, "{n} has stood by for T: {p} is active. It could take over.")


def test_while_only_heartbeats_are_lost(rig: Rig) -> None:
    active, standby = both(rig)
    why = _since(active)
    for link in DEVICES:
        for node in NODES:
            rig.networks.lose(node, match="udp dport 5405", link=link)
    says(
        standby,
        "{n} would take over because {p} was silent on all links, but somebody has the"
        f" addresses: {VIRTUAL} is at MAC on eth0; port 25 of {VIRTUAL} accepts connections."
        f" {_SILENT.format('{p}')}",
        _ALARM.format("{p}"),
        f"ALARM: somebody has the addresses: {VIRTUAL} is at MAC on eth0; port 25 of {VIRTUAL}"
        " accepts connections",
    )
    says(active, f"{why} {_MAYBE.format('{p}')}", _ALARM.format("{p}"))
    rig.networks.lose_nothing()
    says(standby, "{n} has stood by for T: {p} is active. It could take over.")


def test_while_they_are_split(rig: Rig) -> None:
    """Each has the address for whoever reaches it, and either is told of it."""
    active, standby = both(rig)
    was = _since(active)
    for link in DEVICES:
        rig.networks.lose("a", "b", link=link)
        rig.networks.lose("b", "a", link=link)
    until(lambda: len(rig.holders.now) == 2, "both to have it")
    split = "{n} has been active for T; it took over because {p} was silent on all links."
    for machine, why in ((active, was), (standby, split)):
        says(machine, f"{why} {_MAYBE.format('{p}')}", _ALARM.format("{p}"))
    rig.networks.lose_nothing()
    until(lambda: len(rig.holders.now) == 1, "one to give up")
    assert rig.active() == standby.name, "who took over later, since the other may be cut off"
    says(active, "{n} has stood by for T: {p} is active. It could take over.")


def test_after_the_peer_died(rig: Rig) -> None:
    active, standby = both(rig)
    rig.networks.kill(active.name, active.pids())
    says(
        standby,
        "{n} has been active for T; it took over because {p} was silent on all links."
        f" {_MAYBE.format('{p}')}",
        _ALARM.format("{p}"),
    )
    code, words = standby.command("switch")
    assert (code, words) == (1, f"mailweir: nothing is heard of {active.name}\n")
    assert standby.command("maint")[0] == 1
    rig.networks.revive(active.name)
    active.start_balancer()
    active.start_ha()
    assert rig.active() == standby.name
    says(active, "{n} has stood by for T: {p} is active. It could take over.")
