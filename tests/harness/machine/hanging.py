"""Disks and name services that hang when a test says so, for a process that it starts."""

import subprocess
from pathlib import Path

from harness.needs import program

_SOURCE = Path(__file__).with_name("hanging.c")


class Hanging:
    """Calls of one process: those of its name service, and those at files below `under`."""

    def __init__(self, directory: Path, under: Path | None = None) -> None:
        self._gate = directory / "hanging"
        self._library = directory / "hanging.so"
        self._under = under
        made: list[str | Path] = [
            program("clang"),
            "-shared",
            "-fPIC",
            "-o",
            self._library,
            _SOURCE,
        ]
        done = subprocess.run([*made, "-ldl"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def before(self) -> list[str]:
        """The beginning of its command."""
        under = self._under or ""
        return [
            "env",
            f"LD_PRELOAD={self._library}",
            f"HANG_WHILE={self._gate}",
            f"HANG_UNDER={under}",
        ]

    def begin(self) -> None:
        """From here on they hang."""
        self._gate.touch()

    def end(self) -> None:
        """They answer again."""
        self._gate.unlink(missing_ok=True)
