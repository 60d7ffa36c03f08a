"""The secrets that the nodes of a pair know each other by, out of their files.

Read by `mailweir ha`; `mailweir check` warns where that couldn't.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from mailweir.errors import StartError
from mailweir.plainfile import is_open_to_others

SIZE = 32
# As hexadecimal digits, with a line's end and some air.
_LONGEST = 2 * SIZE + 16


def read_keys(files: Mapping[int, Path]) -> dict[int, bytes]:
    """Each with its number. Raises StartError for the first that can't be used."""
    return {number: _read(number, path) for number, path in files.items()}


def _read(number: int, path: Path) -> bytes:
    at = f"key {number}: {path}"
    remedy = f"make it by: head -c{SIZE} /dev/urandom >{path}; chmod 400 {path}"
    try:
        # What is open is what is looked at and read.
        with open(path, "rb", opener=_at_once) as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise StartError(f"{at} is no file; {remedy}")
            data = stream.read(_LONGEST + 1)
    except FileNotFoundError:
        raise StartError(f"{at} isn't there; {remedy}, and bring it to the other node") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StartError(f"{at} can't be read: {reason}") from None
    if is_open_to_others(found, path):
        raise StartError(
            f"{at} can be read by others than its owner (mode {stat.S_IMODE(found.st_mode):03o}),"
            f" who could take the addresses: chmod 400 {path}, or make a new one if they may have"
        )
    key = _secret(data)
    if key is None:
        raise StartError(f"{at} has neither {SIZE} bytes nor {2 * SIZE} hex digits; {remedy}")
    return key


def _at_once(path: str, flags: int) -> int:
    """Opens without waiting, should it be a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _secret(data: bytes) -> bytes | None:
    if len(data) == SIZE:
        return data
    try:
        key = bytes.fromhex(data.decode("ascii").strip())
    except ValueError:
        return None
    return key if len(key) == SIZE else None
