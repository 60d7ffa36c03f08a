"""Reads Rust as far as the rules need: tokens, and the crate's own paths among them.

A path counts wherever it stands: in `use`, in a type, in an expression. Comments (doc
links too), strings and character literals don't count.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_SKIPPED = re.compile(
    r"""
      //[^\n]*
    | b?c?r(?P<hashes>\#*)".*?"(?P=hashes)              # raw strings
    | [bc]?"(?:[^"\\]|\\.)*"
    | b?'(?:[^'\\\n]|\\(?:u\{[^}]*\}|x..|.))'           # a character; a lifetime isn't one
    """,
    re.VERBOSE | re.DOTALL,
)
_TOKEN = re.compile(r"(?:r\#)?[A-Za-z_]\w*|::|\S")
_BLOCK_COMMENT = re.compile(r"/\*|\*/")


class Token(NamedTuple):
    """A word, `::` or a single character, and its line."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Use:
    """A path that begins at the crate, as (`relay`, `copy`, `copy_some`)."""

    path: tuple[str, ...]
    line: int


def tokens(source: str) -> list[Token]:
    """What the compiler sees."""
    found, at, line = [], 0, 1
    while at < len(source):
        end = _end_of_skipped(source, at)
        if end is None:
            match = _TOKEN.match(source, at)
            end = match.end() if match else at + 1
            if match:
                found.append(Token(match.group(), line))
        line += source.count("\n", at, end)
        at = end
    return found


def _end_of_skipped(source: str, at: int) -> int | None:
    if source.startswith("/*", at):
        depth, end = 1, at + 2
        while depth and (mark := _BLOCK_COMMENT.search(source, end)):
            depth += 1 if mark.group() == "/*" else -1
            end = mark.end()
        return end if not depth else len(source)
    match = _SKIPPED.match(source, at)
    # An identifier may end in r or b: only the start of a word begins a literal.
    if match is None or (source[at].isalpha() and at and _in_word(source[at - 1])):
        return None
    return match.end()


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def uses(source: str, module: tuple[str, ...]) -> list[Use]:
    """The paths into the crate that a module's file names, `self` and `super` resolved."""
    stream = tokens(source)
    inner: list[tuple[str, int]] = []  # inline modules around the token, with their depth
    found, depth = [], 0
    for i, token in enumerate(stream):
        match token.text:
            case "{":
                depth += 1
                if i > 1 and stream[i - 2].text == "mod":
                    inner.append((stream[i - 1].text, depth))
            case "}":
                if inner and inner[-1][1] == depth:
                    inner.pop()
                depth -= 1
            case "crate" | "self" | "super":
                # `pub(crate)` and a receiver are no paths; a `$crate` or `a::self` neither.
                starts = i == 0 or stream[i - 1].text not in ("::", "$")
                if starts and stream[i + 1 : i + 2] and stream[i + 1].text == "::":
                    here = (*module, *(name for name, _ in inner))
                    found += [Use(path, token.line) for path in _paths(stream, i, here)]
    return found


def _paths(stream: list[Token], start: int, here: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    base = () if stream[start].text == "crate" else here
    while stream[start].text == "super":
        base = base[:-1]
        if stream[start + 2].text != "super":
            break
        start += 2
    for names, _ in _tree(stream, start + 2):
        yield base + tuple(name for name in names if name != "self")


def _tree(stream: list[Token], at: int) -> list[tuple[tuple[str, ...], int]]:
    """The paths from `at` on, each with where it ends; `a::{b, c::d}` is two."""
    if at >= len(stream):
        return [((), at)]
    if stream[at].text == "{":
        found: list[tuple[tuple[str, ...], int]] = []
        at += 1
        while at < len(stream) and stream[at].text != "}":
            branches = _tree(stream, at)
            found += branches
            at = max(end for _, end in branches)
            while at < len(stream) and stream[at].text not in (",", "}"):  # `as name`
                at += 1
            if at < len(stream) and stream[at].text == ",":
                at += 1
        return [(names, at + 1) for names, _ in found] or [((), at + 1)]
    word = stream[at].text.removeprefix("r#")
    if not (word.isidentifier() or word == "*"):
        return [((), at)]
    if at + 1 < len(stream) and stream[at + 1].text == "::":
        return [((word, *rest), end) for rest, end in _tree(stream, at + 2)]
    return [((word,), at + 1)]
