"""What outlives `mailweir ha`: that an operator wants this node in maintenance. Used by `agent`."""

from pathlib import Path

import structlog

_log = structlog.get_logger("mailweir")


class Kept:
    """A file that is there or isn't, in the folder of the pair."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "maintenance"

    @property
    def maintenance(self) -> bool:
        """Whether it was wanted last."""
        return self._file.exists()

    @maintenance.setter
    def maintenance(self, wanted: bool) -> None:
        try:
            if wanted:
                self._file.touch(0o640)
            else:
                self._file.unlink(missing_ok=True)
        except OSError as error:
            _log.error("maintenance won't outlive this process", reason=error.strerror)
