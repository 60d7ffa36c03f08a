"""What operators said, in a file of `state_dir`: it outlives the process. Used by `operator`.

Written in one step: after a crash at any moment there is the old file or the new one.
"""

import os
from pathlib import Path

from pydantic import ValidationError

from mailweir.state.overrides import Overrides

_NAME = "overrides.json"
# More than thousands of servers need. It is read whole.
_MAX_BYTES = 16 * 1024 * 1024


class Kept:
    """The file in one `state_dir`."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / _NAME

    def read(self) -> tuple[Overrides, str]:
        """What is kept, and why that isn't all that was: empty where nothing is wrong.

        A file that can't be understood is set aside, so that the next word doesn't erase it.
        """
        try:
            with self._path.open("rb") as file:
                data = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return Overrides(), ""
        except OSError as error:
            return Overrides(), f"{self._path} can't be read: {error.strerror}"
        try:
            return Overrides.model_validate_json(data), ""
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            return Overrides(), self._set_aside(": ".join(filter(None, (where, first["msg"]))))

    def write(self, overrides: Overrides) -> str:
        """Keep these; why that can't be, empty where it was done."""
        text = overrides.model_dump_json(indent=1) + "\n"
        beside = self._path.with_suffix(".new")
        try:
            with open(beside, "w", encoding="utf-8", opener=_private) as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
            _settle(self._path.parent)
        except OSError as error:
            return f"{self._path} can't be written: {error.strerror}"
        return ""

    def _set_aside(self, reason: str) -> str:
        aside = self._path.with_suffix(".damaged")
        try:
            self._path.replace(aside)
        except OSError as error:
            return f"{self._path} can't be understood ({reason}) nor moved: {error.strerror}"
        return f"{self._path} can't be understood ({reason}); it is now {aside}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o640)


def _settle(folder: Path) -> None:
    """The folder's own entries reach the disk as well."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
