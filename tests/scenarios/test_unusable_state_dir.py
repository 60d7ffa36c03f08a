"""A `state_dir` that can't be used: one clear line and an exit code, no traceback."""

from pathlib import Path

import pytest

from harness.mailweir.run import configuration, run_to_end, write
from harness.needs import private_mounts

# The state_dir is $0, the command "$@"; the mount is gone with the process.
_MOUNTS = {
    "Read-only file system": 'mount -t tmpfs -o ro,mode=755 none "$0"',
    "No space left on device": """
        mount -t tmpfs -o size=64k,mode=755 none "$0"
        dd if=/dev/zero of="$0/ballast" bs=4k 2>/dev/null || true
    """,
}


@pytest.mark.parametrize("reason", _MOUNTS)
def test_a_file_system_that_takes_nothing(tmp_path: Path, reason: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    script = f'set -e\n{_MOUNTS[reason]}\nexec "$@"'
    _refuses(tmp_path, reason, [*private_mounts(), "sh", "-c", script, str(state)])


def test_a_file_in_the_way(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.touch()
    file = tmp_path / "mailweir.yaml"
    write(file, configuration(tmp_path, {"a": "127.0.0.1:25"}))
    ended = run_to_end(file)
    assert (ended.returncode, ended.stdout) == (78, "")
    assert ended.stderr.endswith(f": state_dir: {state} is there and is no folder\n")


def _refuses(directory: Path, reason: str, before: list[str]) -> None:
    file = directory / "mailweir.yaml"
    write(file, configuration(directory, {"a": "127.0.0.1:25"}))
    ended = run_to_end(file, before=before)
    assert (ended.returncode, ended.stdout) == (1, "")
    lines = ended.stderr.splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith(f"mailweir: state_dir: {directory}/state/lock can't be written: ")
    assert reason in lines[0]
    assert not (directory / "admin.sock").exists()
