"""Lists of prefixes, in the configuration itself or in files that it names.

`Prefixes` is what the model has. `Files` reads the files: `load` makes one for each load and gives
it to the model's validation, so that every file is read once, and hears of its bad lines from it.
"""

from codecs import BOM_UTF8
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, PlainValidator, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from mailweir.config.kinds import TEXT
from mailweir.config.prefix import EXAMPLE, NoPrefixError, parse_prefix
from mailweir.config.reading import Reading, read_file
from mailweir.errors import Problem

# Of a list with the files that it names.
MAX_PREFIXES = 1_000_000
# Of all files together: a million lines with comments.
MAX_BYTES = 64 * 1024 * 1024
# Lines of a file in which it is seen to be gone through: some ten milliseconds.
_MANY = 10_000
# Bad lines of a file that are told. One that has more is no file of prefixes.
_MAX_TOLD = 10
# Bad entries of lists that are told, as many as `load` tells. A hundred thousand more would take
# seconds and half a gigabyte for what nobody reads.
_MAX_REFUSED = 100


class Files:
    """The files that one load reads, and what is wrong with their lines."""

    def __init__(self, reading: Reading) -> None:
        self.problems: list[Problem] = []
        self._reading = reading
        # Entries that are neither prefixes nor files.
        self.refused = 0
        self._read: dict[str, tuple[str, ...]] = {}
        self._left = MAX_BYTES

    def prefixes(self, path: str) -> tuple[str, ...]:
        """What is in the file at `path`. Raises ValueError where it can't be read."""
        if path not in self._read:
            self._read[path] = self._parsed(path, self._bytes(path))
        return self._read[path]

    def has_bad_lines(self, path: object) -> bool:
        """Whether some of a file's were told of."""
        return any(problem.file == path for problem in self.problems)

    def _bytes(self, path: str) -> bytes:
        try:
            data = read_file(path, self._left + 1, self._reading)
        except (FileNotFoundError, ValueError):
            raise ValueError(f"there is no file {path}") from None
        except OSError as error:
            raise ValueError(f"{path} can't be read: {error.strerror}") from None
        if len(data) > self._left:
            most = MAX_BYTES // 1024 // 1024
            raise ValueError(f"{path} is too large: all files of prefixes may have {most} MiB")
        self._left -= len(data)
        return data.removeprefix(BOM_UTF8)

    def _parsed(self, path: str, data: bytes) -> tuple[str, ...]:
        found: list[str] = []
        told = 0
        # One line after the other: all at once they could take ten times the file's size.
        for number, line in enumerate(BytesIO(data), 1):
            if number % _MANY == 0:
                self._reading.moves()
            # Comments may be in any encoding; prefixes are ASCII.
            word = line.partition(b"#")[0].partition(b";")[0].strip()
            if not word:
                continue
            try:
                found.append(parse_prefix(word.decode(errors="replace")))
            except ValueError as error:
                told += 1
                message = "... and more" if told > _MAX_TOLD else _without_contents(error)
                self.problems.append(Problem(path, number, line.index(word) + 1, "", message))
                if told > _MAX_TOLD:
                    break
        return tuple(found)


def _without_contents(error: ValueError) -> str:
    """What is wrong with a line, and nothing of what it says: it may be any file's, and whoever
    reads this may not be somebody who may read that.
    """
    return f"must be a prefix {EXAMPLE}" if isinstance(error, NoPrefixError) else str(error)


@dataclass(frozen=True, slots=True)
class Entry:
    """A prefix or a file, as it is written, and the prefixes that it stands for."""

    written: str
    prefixes: tuple[str, ...] = field(repr=False)
    is_sound: bool = field(default=True, repr=False, compare=False)  # every line of the file

    def __str__(self) -> str:
        return self.written

    @property
    def is_file(self) -> bool:
        """Whether it is a file's path."""
        return self.written.startswith("/")


def _entry(value: object, info: ValidationInfo) -> Entry:
    files = info.context
    if not isinstance(files, Files):
        raise TypeError("lists of prefixes are read by `load` alone")
    try:
        prefixes = _stands_for(value, files)
    except ValueError:
        files.refused += 1
        if files.refused > _MAX_REFUSED:
            return Entry("", ())
        raise
    return Entry(str(value), prefixes, not files.has_bad_lines(value))


def _stands_for(value: object, files: Files) -> tuple[str, ...]:
    if not isinstance(value, str):
        raise ValueError(f"must be a prefix or the absolute path of a file, not {value!r:.60}")
    if value.startswith("/"):
        return files.prefixes(value)
    try:
        return (parse_prefix(value),)
    except NoPrefixError as error:
        raise ValueError(f"{error}; a file is named by its absolute path") from None


@dataclass(frozen=True, slots=True)
class Prefixes:
    """A list of them. `every` has each prefix once, also those of files, in the list's order.

    It is made here and not by who needs it: that happens at each change of a server's health.
    """

    entries: tuple[Entry, ...] = ()
    every: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        every = tuple(dict.fromkeys(chain.from_iterable(one.prefixes for one in self.entries)))
        if len(every) > MAX_PREFIXES:
            raise ValueError(
                f"has {len(every)} prefixes with its files; {MAX_PREFIXES} is the most"
            )
        object.__setattr__(self, "every", every)

    @property
    def written(self) -> frozenset[str]:
        """Those that stand in the configuration itself."""
        entries = (one for one in self.entries if not one.is_file)
        return frozenset(chain.from_iterable(one.prefixes for one in entries))

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """In a file it is a list, and what is wrong with an entry is placed there."""
        entries = handler(list[Annotated[Entry, PlainValidator(_entry), TEXT]])
        return core_schema.no_info_after_validator_function(lambda e: cls(tuple(e)), entries)


def apart(allow: Prefixes, deny: Prefixes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The prefixes of each list that count: none is in both. Of one that is, the list counts that
    writes it itself, so that a file of others can't undo that; `allow` where neither does.
    """
    common = frozenset(allow.every).intersection(deny.every)
    if not common:
        return allow.every, deny.every
    denied = (common & deny.written) - allow.written
    return (
        tuple(prefix for prefix in allow.every if prefix not in denied),
        tuple(prefix for prefix in deny.every if prefix not in common or prefix in denied),
    )
