"""A configuration file's text. Called by `load` for the main one, by `include` for the others."""

from pathlib import Path

from mailweir.config.reading import Reading, read_file
from mailweir.errors import ConfigError, Problem

# Of all files together. 10 000 servers take a tenth of it.
MAX_BYTES = 4 * 1024 * 1024


def read(path: Path, limit: int, reading: Reading, *, any_kind: bool) -> tuple[str, int]:
    """The text, and how many bytes it has, which are at most `limit`. Raises ConfigError, and what
    else `read_file` raises but OSError.
    """
    file = str(path)
    try:
        data = read_file(path, limit + 1, reading, any_kind=any_kind)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([Problem(file, 0, 0, "", f"can't be read: {reason}")]) from None
    if len(data) > limit:
        largest = MAX_BYTES // 1024 // 1024
        message = f"the configuration is larger than {largest} MiB"
        raise ConfigError([Problem(file, 0, 0, "", message)])
    try:
        return data.decode("utf-8-sig"), len(data)
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        raise ConfigError([Problem(file, line, column, "", "isn't UTF-8 text")]) from None
