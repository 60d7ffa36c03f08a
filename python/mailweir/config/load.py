"""A configuration file to the model, or every problem it has, each with its place.

Called by the daemon (start, reload) and by `mailweir check`. The steps: bytes, text
(`reading`), tree (`document`), the files it includes (`include`), model (`model`) with
the files of prefixes that it names (`prefixes`), rules between the parts (`rules`), names of users
and groups (`roles`).
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mailweir.config import document, include
from mailweir.config.file_rules import file_findings
from mailweir.config.ha import Ha
from mailweir.config.listener import Listener
from mailweir.config.machine import ThisMachine
from mailweir.config.messages import explain, is_about_key
from mailweir.config.model import Admin, Config
from mailweir.config.pool import Pool
from mailweir.config.prefixes import Files
from mailweir.config.reading import MAX_BYTES, Reading, read_text
from mailweir.config.roles import Roles, roles_of
from mailweir.config.rules import ConfigParts, findings
from mailweir.errors import ConfigError, Problem

# More than anybody reads; it bounds the time that a hostile file can take.
MAX_PROBLEMS = 100
_EMPTY = "the file is empty; the least it needs is `listeners` and `pools`"
_NO_MAPPING = "the file must be a mapping that begins with `listeners:` or another key"

_Model = TypeVar("_Model", bound=BaseModel)
# A key and what stands behind it.
_Entry = tuple[document.Node, document.Node]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration, what is odd about it, whom it lets in, and where its keys stand."""

    config: Config
    warnings: tuple[Problem, ...]
    roles: Roles
    outline: document.Node = field(repr=False, compare=False)

    def problem(self, path: tuple[str | int, ...], message: str) -> Problem:
        """A problem with the value at `path` that only its user can know of. Its place is as exact
        as the outline is.
        """
        return _place(self.outline, path, message)


def load(path: Path, machine: ThisMachine | None = None, reading: Reading | None = None) -> Loaded:
    """Read and check a file, for a machine where that is known. `reading` shows to other threads
    what is read at the moment.

    Raises ConfigError with all its problems, and UnreadableError where a file can't be read now.
    """
    reading = reading or Reading()
    content, size = read_text(path, MAX_BYTES, reading, any_kind=True)
    with without_collector():
        return parse(content, str(path), size, machine, reading)


def parse(
    content: str,
    file: str,
    size: int = 0,
    machine: ThisMachine | None = None,
    reading: Reading | None = None,
) -> Loaded:
    """Check a configuration that is in memory; `file` is what messages call it.

    `size` is how many bytes it takes of those that there may be with what it includes.
    """
    reading = reading or Reading()
    root, problems = document.read(content, file)
    if root is None:
        raise ConfigError(problems or [Problem(file, 1, 1, "", _EMPTY)])
    root, of_included = include.merged(root, size, reading)
    problems += of_included
    if not isinstance(root.value, dict):
        raise ConfigError([*problems, Problem(file, root.line, root.column, "", _NO_MAPPING)])

    data = {name: document.plain(value) for name, (_, value) in root.value.items()}
    config: Config | None = None
    details: list[ErrorDetails] = []
    files = Files(reading)
    try:
        config = Config.model_validate(data, context=files)
        parts = _whole(config)
    except ValidationError as error:
        details = error.errors(include_url=False)
        parts = _valid_parts(data, files)
    for detail in details[: MAX_PROBLEMS + 1]:
        at = tuple(step for step in detail["loc"] if step != "[key]")
        node = document.locate(root, at, key=is_about_key(detail))
        problems.append(_problem(node, at, explain(detail, Config)))
    problems += files.problems

    reading.what = "what `state_dir` and `log.sessions` name"
    of_files = [*file_findings(config, _files_of(root))] if config else []
    roles, unknown = roles_of(config.admin, reading) if config else (Roles(), [])
    warnings: list[Problem] = []
    for finding in chain(findings(parts, machine), of_files, unknown):
        problem = _place(root, finding.path, finding.message)
        (warnings if finding.warning else problems).append(problem)
        if len(problems) > MAX_PROBLEMS:
            break
    if problems or config is None:
        raise ConfigError(_in_order(problems, file), _in_order(warnings, file))
    return Loaded(config, tuple(_in_order(warnings, file)), roles, _outline(root, root.value))


@contextmanager
def without_collector() -> Iterator[None]:
    """Many objects come to be, and no cycles: to look for some takes a third of the time."""
    was_at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_at_work:
            gc.enable()


def _outline(root: document.Node, keys: dict[str, _Entry]) -> document.Node:
    """A tree without what is in listeners and pools: of a large farm that is too much to keep."""
    kept = {key: at for key, at in keys.items() if key not in ("listeners", "pools")}
    return replace(root, value=kept)


def _whole(config: Config) -> ConfigParts:
    uses = {name: listener.pool for name, listener in config.listeners.items()}
    names = frozenset(config.pools)
    return ConfigParts(config.admin, config.listeners, config.pools, names, uses, config.ha, config)


def _files_of(root: document.Node) -> frozenset[str]:
    """Those that a configuration is in."""
    parts = root.value.values() if isinstance(root.value, dict) else ()
    members = (part.value.values() for _, part in parts if isinstance(part.value, dict))
    return frozenset({root.file, *(key.file for key, _ in chain.from_iterable(members))})


def _valid_parts(data: Mapping[str, object], files: Files) -> ConfigParts:
    """The listeners and pools that can be read, where the file as a whole can't."""
    listeners, pools = _mapping(data.get("listeners")), _mapping(data.get("pools"))
    uses = {name: _mapping(item).get("pool") for name, item in listeners.items()}
    admin = _valid(Admin, {"admin": data.get("admin", {})}, files).get("admin")
    return ConfigParts(
        admin,
        _valid(Listener, listeners, files),
        _valid(Pool, pools, files),
        frozenset(pools),
        {name: pool for name, pool in uses.items() if isinstance(pool, str)},
        _valid(Ha, {"ha": data.get("ha")}, files).get("ha"),
    )


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _valid(model: type[_Model], items: Mapping[str, object], files: Files) -> dict[str, _Model]:
    valid = {}
    for name, item in items.items():
        try:
            valid[name] = model.model_validate(item, context=files)
        except ValidationError:
            continue
    return valid


def _place(root: document.Node, path: tuple[str | int, ...], message: str) -> Problem:
    return _problem(document.locate(root, path), path, message)


def _problem(node: document.Node, path: tuple[str | int, ...], message: str) -> Problem:
    return Problem(node.file, node.line, node.column, ".".join(map(str, path)), message)


def _in_order(problems: list[Problem], main: str) -> list[Problem]:
    """As they stand in the files, the main one first; not more than anybody reads."""
    ordered = sorted(problems, key=lambda one: (one.file != main, one.file, one.line, one.column))
    if len(ordered) <= MAX_PROBLEMS:
        return ordered
    last = ordered[MAX_PROBLEMS - 1]
    more = Problem(last.file, last.line, last.column, "", "... and more; mend these first")
    return [*ordered[:MAX_PROBLEMS], more]
