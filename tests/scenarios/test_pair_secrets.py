"""A pair's processes: the rights that they have, and a key that shows nowhere."""

from pathlib import Path

from harness.mailweir import COMMAND
from harness.pair_rig import pair_rig
from harness.process import run

_NET_ADMIN_AND_NET_RAW = "0000000000003000"


def test_rights_and_keys(tmp_path: Path) -> None:
    with pair_rig(tmp_path) as rig:
        machine = rig.machines[rig.active()]
        status = Path(f"/proc/{machine.ha.pid}/status").read_text()
        rights = dict(line.split(":\t") for line in status.splitlines() if line[:3] == "Cap")
        assert {rights[one] for one in ("CapEff", "CapPrm", "CapBnd")} == {_NET_ADMIN_AND_NET_RAW}
        key = (tmp_path / "ha.key").read_bytes()
        shown = [machine.command(word, "--json")[1] for word in ("status", "explain")]
        admin = machine.folder / "admin.sock"
        for words in (["config", "show"], ["status", "--json"]):
            shown.append(run([*COMMAND, *words, "--socket", admin]).stdout)
        machine.ha.stop()
        shown += [file.read_text("latin-1") for file in machine.folder.glob("*.err")]
        assert all(shown)
        assert not [one for one in shown if key.hex() in one or key.decode("latin-1") in one]
