"""A configuration file to the model, or every problem it has, each with its place.

Called by the daemon (start, reload) and by `mailweir check`. The steps: bytes,
text, tree (`document`), model (`model`), rules between the parts (`rules`), names of users
and groups (`roles`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mailweir.config import document
from mailweir.config.messages import explain, is_about_key
from mailweir.config.model import Admin, Config, Listener, Pool
from mailweir.config.roles import Roles, roles_of
from mailweir.config.rules import Parts, findings
from mailweir.errors import ConfigError, Problem

MAX_BYTES = 4 * 1024 * 1024
# More than anybody reads; it bounds the time that a hostile file can take.
MAX_PROBLEMS = 100

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A usable configuration, what is odd about it, whom it lets in, and where its keys stand."""

    config: Config
    warnings: tuple[Problem, ...]
    roles: Roles
    file: str
    root: document.Node = field(repr=False, compare=False)

    def problem(self, path: tuple[str | int, ...], message: str) -> Problem:
        """A problem with the value at `path` that only its user can know of."""
        return _place(self.file, self.root, path, message)


def load(path: Path) -> Loaded:
    """Read and check a file. Raises ConfigError with all its problems."""
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError([Problem(file, 0, 0, "", f"can't be read: {reason}")]) from None
    if len(data) > MAX_BYTES:
        raise ConfigError([Problem(file, 0, 0, "", "is larger than 4 MiB")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        raise ConfigError([Problem(file, line, column, "", "isn't UTF-8 text")]) from None
    return parse(text, file)


def parse(text: str, file: str) -> Loaded:
    """Check a configuration that is in memory; `file` is what messages call it."""
    root, problems = document.read(text, file)
    if root is None:
        raise ConfigError(problems)
    if not isinstance(root.value, dict):
        message = "the file must be a mapping that begins with `listeners:` or another key"
        raise ConfigError([*problems, Problem(file, root.line, root.column, "", message)])

    data = {name: document.plain(value) for name, (_, value) in root.value.items()}
    config: Config | None = None
    details: list[ErrorDetails] = []
    try:
        config = Config.model_validate(data)
        parts = _whole(config)
    except ValidationError as error:
        details = error.errors(include_url=False)
        parts = _valid_parts(data)
    for detail in details[:MAX_PROBLEMS]:
        at = tuple(step for step in detail["loc"] if step != "[key]")
        line, column = document.locate(root, at, key=is_about_key(detail))
        problems.append(Problem(file, line, column, _dotted(at), explain(detail, Config)))

    roles, unknown = roles_of(config.admin) if config else (Roles(), [])
    warnings: list[Problem] = []
    for finding in (*findings(parts), *unknown):
        problem = _place(file, root, finding.path, finding.message)
        (warnings if finding.warning else problems).append(problem)
    if problems or config is None:
        hidden = max(0, len(details) - MAX_PROBLEMS)
        raise ConfigError(_in_order(file, problems, hidden), _sorted(warnings))
    return Loaded(config, tuple(_sorted(warnings)), roles, file, root)


def _whole(config: Config) -> Parts:
    uses = {name: listener.pool for name, listener in config.listeners.items()}
    return Parts(config.admin, config.listeners, config.pools, frozenset(config.pools), uses)


def _valid_parts(data: Mapping[str, object]) -> Parts:
    """The listeners and pools that can be read, where the file as a whole can't."""
    listeners, pools = _mapping(data.get("listeners")), _mapping(data.get("pools"))
    uses = {name: _mapping(item).get("pool") for name, item in listeners.items()}
    admin = _valid(Admin, {"admin": data.get("admin", {})}).get("admin")
    return Parts(
        admin,
        _valid(Listener, listeners),
        _valid(Pool, pools),
        frozenset(pools),
        {name: pool for name, pool in uses.items() if isinstance(pool, str)},
    )


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _valid(model: type[_Model], items: Mapping[str, object]) -> dict[str, _Model]:
    valid = {}
    for name, item in items.items():
        try:
            valid[name] = model.model_validate(item)
        except ValidationError:
            continue
    return valid


def _place(file: str, root: document.Node, path: tuple[str | int, ...], message: str) -> Problem:
    line, column = document.locate(root, path)
    return Problem(file, line, column, _dotted(path), message)


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(str(step) for step in path)


def _sorted(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(problems, key=lambda problem: (problem.line, problem.column))


def _in_order(file: str, problems: list[Problem], hidden: int) -> list[Problem]:
    ordered = _sorted(problems)
    hidden += max(0, len(ordered) - MAX_PROBLEMS)
    ordered = ordered[:MAX_PROBLEMS]
    if hidden:
        last = ordered[-1]
        ordered.append(Problem(file, last.line, last.column, "", f"... and {hidden} more"))
    return ordered
