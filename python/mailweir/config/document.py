"""YAML text to a tree that remembers where everything stood.

Called by `load` and by `include`. Built on PyYAML's event stream and not on its constructors:
those let duplicate keys win silently and read `no` as false, `22:30` as 1350 and
`0777` as 511. Here a plain scalar is true, false, null, a decimal number or text.

The text is not trusted: depth, the length of a value, aliases and what they would expand to
are bounded, and nothing is expanded before that was counted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from mailweir.errors import Problem
from mailweir.foreign import shown

MAX_DEPTH = 32
MAX_ALIASES = 1000
# Nodes that aliases stand for, all together. A file of "billion laughs" has 10^9.
MAX_EXPANSION = 100_000
# Of a key or a value. Messages repeat them, and aliases may repeat those; a path is the longest
# that anything needs.
MAX_LENGTH = 1000
_SHOWN_OF_TAG = 60
# What begins a message of YAML's own grammar; these repeat nothing of a file.
SYNTAX = "not valid YAML: "

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# 18 digits fit into an i64; longer ones stay text and fail as such.
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\.[0-9]{1,17}", re.ASCII)
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "true": True, "false": False}
# Of a row that is no YAML: there `:` begins a value.
_IPV6_IN_A_LIST = re.compile(r"[\[{,]\s*([0-9a-fA-F:]*::[0-9a-fA-F:.]*(?:/\d+)?)")
# What isn't printable by YAML 1.1, section 5.1.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


@dataclass(slots=True)
class Node:
    """A value and where it began (from 1). A mapping's keys are nodes as well."""

    file: str
    line: int
    column: int
    value: "bool | int | float | str | list[Node] | dict[str, tuple[Node, Node]] | None"
    # Nodes in it with aliases expanded; 0 while it is still being read.
    size: int = 1
    pending_key: "Node | None" = field(default=None, repr=False)


class _UnreadableError(Exception):
    """Reading can't go on; the problem has been noted."""


def read(text: str, file: str) -> tuple[Node | None, list[Problem]]:
    """The tree and the problems found. None where the text is no YAML that can be used; without
    a problem, where nothing is in it.
    """
    reader = _Reader(file)
    try:
        reader.refuse_unprintable(text)
        for event in _events(text):
            reader.take(event)
    except yaml.MarkedYAMLError as error:
        reader.note_syntax(error, text)
        return None, reader.problems
    except _UnreadableError:
        return None, reader.problems
    return reader.root, reader.problems


def plain(node: Node) -> object:
    """The tree as plain Python values. Its depth is bounded, so recursion is fine."""
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    if isinstance(node.value, dict):
        return {name: plain(value) for name, (_, value) in node.value.items()}
    return node.value


def locate(root: Node, path: tuple[str | int, ...], *, key: bool = False) -> Node:
    """The value at `path`, or with `key` its key: where to look.

    As deep as the file goes: a key that isn't written is placed at what would hold it.
    """
    node = place = root
    for step in path:
        if isinstance(node.value, dict) and isinstance(step, str) and step in node.value:
            name, node = node.value[step]
            place = name if key else node
        elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
            node = place = node.value[step]
        else:
            break
    return place


def _events(text: str) -> Iterator[yaml.Event]:
    # yaml.parse is a generator already; types-PyYAML calls its result Any.
    yield from yaml.parse(text, Loader=_LOADER)


class _Reader:
    """Builds the tree from events, with a stack instead of recursion."""

    def __init__(self, file: str) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._file = file
        self._open: list[Node] = []
        self._anchors: dict[str, Node] = {}
        self._aliases = 0
        self._expansion = 0

    def note(self, line: int, column: int, message: str) -> None:
        self.problems.append(Problem(self._file, line, column, "", message))

    def stop(self, line: int, column: int, message: str) -> _UnreadableError:
        self.note(line, column, message)
        return _UnreadableError()

    def refuse_unprintable(self, text: str) -> None:
        match = _UNPRINTABLE.search(text)
        if match is None:
            return
        before = text[: match.start()]
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        code = f"U+{ord(match.group()):04X}"
        raise self.stop(line, column, f"a control character ({code}) can't be in this file")

    def note_syntax(self, error: yaml.MarkedYAMLError, text: str) -> None:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = error.problem or "this is no YAML"
        lines = text.splitlines()
        row = lines[line - 1] if line <= len(lines) else ""
        if row[: column - 1].strip() == "" and row[column - 1 : column] == "\t":
            message = "a tab can't indent in YAML; use spaces"
        elif row[column - 1 : column] == "@":
            message = 'no word of YAML begins with @; write "@name"'
        elif found := _IPV6_IN_A_LIST.search(row):
            message = f'in brackets an address of IPv6 is quoted; write "{found[1]}"'
        elif error.context and error.context_mark:
            message += f" ({error.context} that began at line {error.context_mark.line + 1})"
        self.note(line, column, f"{SYNTAX}{message}")

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if isinstance(event, yaml.ScalarEvent):
            self._refuse_tag(event, line, column)
            if len(event.value) > MAX_LENGTH:
                raise self.stop(line, column, f"longer than {MAX_LENGTH} characters")
            self._note_unseen(event.value, line, column)
            value = shown(event.value, MAX_LENGTH) if self._expects_key() else _scalar(event)
            self._add(Node(self._file, line, column, value), event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event.anchor, line, column)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._refuse_tag(event, line, column)
            if len(self._open) >= MAX_DEPTH:
                raise self.stop(line, column, f"nested deeper than {MAX_DEPTH} levels")
            empty: dict[str, tuple[Node, Node]] | list[Node]
            empty = {} if isinstance(event, yaml.MappingStartEvent) else []
            node = Node(self._file, line, column, empty, 0)
            self._add(node, event.anchor)
            self._open.append(node)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise self.stop(line, column, "only one YAML document can be in this file")

    def _expects_key(self) -> bool:
        # A key is a name and stays text: `null`, `1` and `true` are fine names.
        parent = self._open[-1] if self._open else None
        return parent is not None and isinstance(parent.value, dict) and not parent.pending_key

    def _note_unseen(self, value: str, line: int, column: int) -> None:
        """Whether it is written as an escape or as itself: no name and no path has one."""
        if not value.isprintable():
            code = next(f"U+{ord(one):04X}" for one in value if not one.isprintable())
            self.note(
                line, column, f"a character that can't be seen ({code}) can't be in this file"
            )

    def _refuse_tag(
        self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, line: int, column: int
    ) -> None:
        # "!" alone is what PyYAML reports for some quoted scalars.
        if event.tag not in (None, "!"):
            tag = shown(event.tag, _SHOWN_OF_TAG)
            raise self.stop(line, column, f"YAML tags such as {tag} aren't used here")

    def _alias(self, anchor: str | None, line: int, column: int) -> None:
        node = self._anchors.get(anchor or "")
        self._aliases += 1
        if node is None:
            raise self.stop(line, column, f"nothing above is called &{anchor}")
        if node.size == 0:
            raise self.stop(line, column, f"*{anchor} would contain itself")
        self._expansion += node.size
        if self._aliases > MAX_ALIASES or self._expansion > MAX_EXPANSION:
            raise self.stop(line, column, "too many YAML aliases: they stand for too much")
        self._add(node, None)

    def _add(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif isinstance(parent.value, dict):
            self._add_to_mapping(parent, parent.value, node)

    def _add_to_mapping(
        self, parent: Node, entries: dict[str, tuple[Node, Node]], node: Node
    ) -> None:
        if parent.pending_key is None:
            if isinstance(node.value, list | dict):
                raise self.stop(node.line, node.column, "a key must be a plain word")
            parent.pending_key = node
            return
        key, parent.pending_key = parent.pending_key, None
        name = str(key.value)
        if name in entries:
            first = entries[name][0].line
            self.note(key.line, key.column, f"`{name}` is written twice, first at line {first}")
            return
        entries[name] = (key, node)

    def _close(self) -> None:
        node = self._open.pop()
        if isinstance(node.value, dict):
            node.size = 1 + sum(1 + value.size for _, value in node.value.values())
        elif isinstance(node.value, list):
            node.size = 1 + sum(item.size for item in node.value)


def _scalar(event: yaml.ScalarEvent) -> bool | int | float | str | None:
    text: str = event.value
    if event.style:  # quoted or a block: text, whatever it looks like
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
