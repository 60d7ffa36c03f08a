"""A pair's processes: the rights that they have, and a key that shows nowhere."""

from pathlib import Path

from harness.mailweir.run import COMMAND
from harness.pair.rig import Rig
from harness.process import run

_NET_ADMIN_AND_NET_RAW = "0000000000003000"


def test_rights_and_keys(pair: Rig) -> None:
    machine = pair.machines[pair.active()]
    for thread in Path(f"/proc/{machine.ha.pid}/task").iterdir():
        lines = (thread / "status").read_text().splitlines()
        rights = dict(line.split(":\t") for line in lines if line.startswith("Cap"))
        assert {rights[one] for one in ("CapEff", "CapPrm", "CapBnd")} == {_NET_ADMIN_AND_NET_RAW}
    key = (machine.folder.parent / "ha.key").read_bytes()
    shown = [machine.command(word, "--json")[1] for word in ("status", "explain")]
    admin = machine.folder / "admin.sock"
    for words in (["config", "show"], ["status", "--json"]):
        shown.append(run([*COMMAND, *words, "--socket", admin]).stdout)
    shown.append(machine.ha.err)
    assert all(shown)
    assert not [one for one in shown if key.hex() in one or key.decode("latin-1") in one]
