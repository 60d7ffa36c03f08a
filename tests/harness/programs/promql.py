"""What an expression of Prometheus asks for: a small strict reader. That the expression is right is
promtool's to say; this one knows names alone, and fails at what it doesn't know.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<string>"(?:[^"\\]|\\.)*") |
    (?P<range>\[[^\]]*\]) |
    (?P<number>[0-9][0-9.]*(?:ms|[smhdwy])?) |
    (?P<word>[a-zA-Z_:][a-zA-Z0-9_:]*) |
    (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^<>=(){},])
    )""",
    re.VERBOSE,
)
_GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_OPERATORS = {"and", "or", "unless", "bool", "offset"}


@dataclass
class Asked:
    """What an expression asks for."""

    selectors: list["Selector"] = field(default_factory=list)
    groupings: set[str] = field(default_factory=set)
    """Labels of `by (...)` and the like."""
    kept: set[str] = field(default_factory=set)
    """Those of `by (...)` alone: the only ones that a result has then."""


@dataclass
class Selector:
    """A metric, and what its labels have to be."""

    metric: str
    matchers: list[tuple[str, str, str]] = field(default_factory=list)
    """Label, operator, value."""

    def wanted(self) -> Iterator[tuple[str, str]]:
        """Each value that a label may have by name: of `=~` those between the bars."""
        for label, operator, value in self.matchers:
            for one in value.split("|") if operator == "=~" else [value]:
                if re.fullmatch(r"\w+", one):
                    yield label, one


def asked(expression: str) -> Asked:
    """Raises ValueError where something isn't known."""
    found = Asked()
    tokens = _Tokens(expression)
    while (token := tokens.next()) is not None:
        kind, text = token
        if kind == "sign" and text in "{}":
            raise ValueError(f"a selector without a metric: {expression}")
        if kind != "word" or text in _OPERATORS:
            continue
        if text in _GROUPING:
            names = set(tokens.names())
            found.groupings |= names
            found.kept |= names if text == "by" else set()
        elif not tokens.follows("(") and not _is_aggregation(tokens):
            found.selectors.append(Selector(text, list(tokens.matchers())))
    return found


def _is_aggregation(tokens: "_Tokens") -> bool:
    """As in `sum by (pool) (...)`."""
    return any(tokens.follows(word) for word in ("by", "without"))


class _Tokens:
    """Of one expression, from its beginning to its end."""

    def __init__(self, expression: str) -> None:
        self._all = list(_tokens(expression))
        self._at = 0

    def next(self) -> tuple[str, str] | None:
        """None at the end."""
        if self._at == len(self._all):
            return None
        self._at += 1
        return self._all[self._at - 1]

    def follows(self, text: str) -> bool:
        return self._at < len(self._all) and self._all[self._at][1] == text

    def expect(self, *texts: str) -> str:
        token = self.next()
        if token is None or token[1] not in texts:
            raise ValueError(f"{' or '.join(texts)} expected, not {token}")
        return token[1]

    def _take(self, kind: str) -> str:
        token = self.next()
        if token is None or token[0] != kind:
            raise ValueError(f"a {kind} expected, not {token}")
        return token[1]

    def names(self) -> Iterator[str]:
        """What stands in parentheses."""
        self.expect("(")
        if self.follows(")"):
            self.next()
            return
        yield self._take("word")
        while self.expect(",", ")") == ",":
            yield self._take("word")

    def matchers(self) -> Iterator[tuple[str, str, str]]:
        """What stands in braces, if something does."""
        if not self.follows("{"):
            return
        while self.expect("{", ",", "}") != "}":
            label = self._take("word")
            operator = self.expect("=", "!=", "=~", "!~")
            yield label, operator, self._take("string")[1:-1]


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    at, text = 0, expression.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or found.lastgroup is None:
            raise ValueError(f"not known: {text[at:]}")
        yield found.lastgroup, found[found.lastgroup]
        at = found.end()
