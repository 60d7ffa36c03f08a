"""What operators said, in a file of `state_dir`: it outlives the process. Used by `keeping`.

Written in one step: after a crash at any moment there is the old file or the new one.
"""

import os
from pathlib import Path

from pydantic import ValidationError

from mailweir.plainfile import open_plain, reason
from mailweir.state.overrides import Overrides

_NAME = "overrides.json"
# More than thousands of servers need. It is read whole.
_MAX_BYTES = 16 * 1024 * 1024
# Files that were set aside and stay; what comes after that replaces the last one.
_MOST_ASIDE = 10


class OverridesFile:
    """The file in one `state_dir`. What it does may wait for a disk."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / _NAME
        # Why the file mustn't be written over; empty where it may.
        self._untouchable = ""

    def read(self) -> tuple[Overrides, str]:
        """What is kept, and why that isn't all that was: empty where nothing is wrong.

        A file that can't be read or understood is set aside, so that the next word doesn't erase
        it; where that can't be done either, nothing is written until the process begins anew.
        """
        try:
            with os.fdopen(open_plain(self.path, os.O_RDONLY), "rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return Overrides(), ""
        except OSError as error:
            return Overrides(), self._set_aside(f"can't be read: {reason(error)}")
        if len(data) > _MAX_BYTES:
            return Overrides(), self._set_aside(f"has more than {_MAX_BYTES >> 20} MiB")
        try:
            return Overrides.model_validate_json(data), ""
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            words = ": ".join(filter(None, (where, first["msg"])))
            return Overrides(), self._set_aside(f"can't be understood ({words})")

    def write(self, overrides: Overrides) -> str:
        """Keep these; why that can't be, empty where it was done."""
        if self._untouchable:
            return self._untouchable
        text = overrides.model_dump_json(indent=1) + "\n"
        beside = self.path.with_suffix(".new")
        try:
            # What a crash left. Nothing that is there is written to.
            beside.unlink(missing_ok=True)
            with os.fdopen(
                open_plain(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w", encoding="utf-8"
            ) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
            _settle(self.path.parent)
        except OSError as error:
            return f"{self.path} can't be written: {reason(error)}"
        return ""

    def _set_aside(self, why: str) -> str:
        names = [self.path.with_suffix(f".damaged{n or ''}") for n in range(_MOST_ASIDE)]
        aside = next((name for name in names if not os.path.lexists(name)), names[-1])
        try:
            self.path.replace(aside)
        except OSError as error:
            self._untouchable = (
                f"{self.path} {why}, and can't be moved: {error.strerror}; move it away and"
                " restart mailweir"
            )
            return self._untouchable
        return f"{self.path} {why}; it is now {aside}"


def _settle(folder: Path) -> None:
    """The folder's own entries reach the disk as well."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
