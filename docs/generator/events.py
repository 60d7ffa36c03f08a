"""The page of every event, out of the calls that write the log.

What is no call with its words in place is passed on for others (`_PASSED_ON`), and these have them.
Raises ValueError for a call whose words can't be found.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import mailweir
from generator import markdown
from generator.markdown import code

_ABOUT = """\
What `mailweir events` shows, and the log of the process: a line with the time, the level, the event
in words, and fields. Where a word changes from line to line, `...` stands for it. `mailweir events
--json` has the fields as they are. The session log is another log, with [fields of its
own](session-log.md)."""

_PACKAGE = Path(mailweir.__path__[0])
_LEVELS = {"info": "info", "warning": "WARNING", "error": "ERROR"}
# Files of sections, by how their paths begin; the first section that fits.
_SECTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Start, reload and end": (
        "What the process does as a whole.",
        ("daemon", "changes", "reload", "running", "ending", "store", "health/first"),
    ),
    "Operators": (
        "What operators said, and what came of it.",
        ("operator", "admin/operating", "state/keeping"),
    ),
    "Servers": (
        "What checks and sessions tell of servers.",
        ("reports", "ejections", "state/reconcile"),
    ),
    "Traffic": (
        "Refusals, limits and fallbacks: all of a kind in one line, every 10 s at most.",
        ("notices",),
    ),
    "The pair": ("Of `mailweir ha run` and `mailweir ha witness`.", ("ha/", "admin/ha_role")),
    "The admin addresses": ("Who was refused there, and what became of them.", ("admin/",)),
    "Faults": ("Bugs of ours, and the like: please report them.", ("",)),
}
_ELSEWHERE = ("cli/", "demo/", "doctor/")
# Functions that write lines of others.
_PASSED_ON = {("notices.py", "notice"), ("ha/watching.py", "_note")}


@dataclass
class _Event:
    words: str
    levels: dict[str, None] = field(default_factory=dict)
    fields: dict[str, None] = field(default_factory=dict)


def page() -> str:
    """As Markdown."""
    return markdown.page("Events", _ABOUT, *_sections())


def _sections() -> Iterator[str]:
    found: dict[str, dict[str, _Event]] = {heading: {} for heading in _SECTIONS}
    for file in sorted(_PACKAGE.rglob("*.py")):
        path = str(file.relative_to(_PACKAGE))
        if not path.startswith(_ELSEWHERE):
            events = found[_heading(path)]
            for words, level, fields in lines(path, ast.parse(file.read_text())):
                event = events.setdefault(words, _Event(words))
                event.levels[_LEVELS[level]] = None
                event.fields.update(dict.fromkeys(fields))
    for heading, events in found.items():
        yield markdown.section(heading, _SECTIONS[heading][0])
        yield "\n".join(map(_entry, events.values()))


def _heading(path: str) -> str:
    return next(head for head, (_, begins) in _SECTIONS.items() if path.startswith(begins))


def _entry(event: _Event) -> str:
    fields = ", ".join(map(code, event.fields))
    return markdown.item(
        f"{code(event.words)}, {' or '.join(event.levels)}{': ' if fields else ''}{fields}"
    )


def lines(path: str, module: ast.Module) -> Iterator[tuple[str, str, list[str]]]:
    """The words, level and fields of each line that a file writes."""
    names = _assigned(module)
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            if (path, function.name) not in _PASSED_ON:
                known = names | _assigned(function)
                for node in _inside(function):
                    yield from _line(path, node, known)


def _line(
    path: str, node: ast.AST, known: Mapping[str, ast.expr]
) -> Iterator[tuple[str, str, list[str]]]:
    match node:
        case ast.Call(ast.Attribute(ast.Name("_log" | "log"), level), [words, *_], keywords):
            if level in _LEVELS:
                yield _words(path, words, known), level, _keys(keywords, known)
        case ast.Call(ast.Name("say"), [words, *_], keywords):
            for level in _levels(known["say"]):
                yield _words(path, words, known), level, _keys(keywords, known)
        case ast.Call(
            ast.Call(ast.Name("getattr"), [ast.Name("_log"), ast.Name()]),
            [ast.Constant(str(told))],
            keywords,
        ):
            for level in ("warning", "error"):
                yield told, level, _keys(keywords, known)
        case ast.Call(ast.Attribute(_, "say"), [ast.Constant(str(level)), words, _]):
            yield _words(path, words, known), level, ["reason"]
        case ast.Call(ast.Attribute(_, "_note"), [words, _]) if path == "ha/watching.py":
            yield _words(path, words, known), "warning", ["reason"]
        case ast.Yield(ast.Tuple([words, fields])) if path == "notices.py":
            yield _words(path, words, known), "warning", _of_dict(fields, known)


def _words(path: str, node: ast.expr, known: Mapping[str, ast.expr]) -> str:
    match node:
        case ast.Constant(str(words)):
            return words
        case ast.JoinedStr(values):
            return "".join(
                str(one.value) if isinstance(one, ast.Constant) else "..." for one in values
            )
        case ast.Name(name) if name in known:
            return _words(path, known[name], known)
        case ast.BoolOp(_, [*_, last]):
            return _words(path, last, known)
    raise ValueError(f"{path}:{node.lineno}: write the words of the event here, or below a name")


def _keys(keywords: list[ast.keyword], known: Mapping[str, ast.expr]) -> list[str]:
    found: list[str] = []
    for one in keywords:
        if one.arg is None:
            found += _of_dict(one.value, known)
        elif one.arg != "exc_info":
            found.append(one.arg)
    return found


def _of_dict(node: ast.expr, known: Mapping[str, ast.expr]) -> list[str]:
    """The keys of a dictionary that is written there, or elsewhere in the function."""
    match node:
        case ast.Dict(keys):
            return [str(key.value) for key in keys if isinstance(key, ast.Constant)]
        case ast.BinOp(left, ast.BitOr(), right):
            return _of_dict(left, known) + _of_dict(right, known)
        case ast.Name(name) if name in known:
            return _of_dict(known[name], known)
    return ["..."]


def _levels(node: ast.expr) -> Iterator[str]:
    """Of `_log.info if ... else _log.warning`."""
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute) and one.attr in _LEVELS:
            yield one.attr


def _assigned(where: ast.AST) -> dict[str, ast.expr]:
    """What names stand for, as far as it is written there."""
    return {
        node.targets[0].id: node.value
        for node in _inside(where)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def _inside(where: ast.AST) -> Iterator[ast.AST]:
    """All that is in it, but for functions in it."""
    for child in ast.iter_child_nodes(where):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield child
            yield from _inside(child)
