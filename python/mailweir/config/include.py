"""The files that the main one includes: their listeners and pools become a part of its tree.

Called by `load`, before anything looks at what is in the tree. What comes of it is as if all
stood in one file, but that each node knows the file it was read from.
"""

import fnmatch
import glob
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mailweir.config import document
from mailweir.config.document import Node
from mailweir.config.finding import did_you_mean
from mailweir.config.model import MAX_INCLUDES, Config, is_pattern
from mailweir.config.reading import MAX_BYTES, Reading, read_text
from mailweir.errors import ConfigError, Problem

# What is many; the rest of a process is one.
_PARTS = ("listeners", "pools")


def merged(main: Node, size: int, reading: Reading) -> tuple[Node, list[Problem]]:
    """The tree of the main file, which has `size` bytes, with what it includes, and the problems.

    `main` itself doesn't change: an alias may have its parts elsewhere as well.
    """
    reading.what = "a folder that `include` names"
    found, problems = _found(main)
    left = MAX_BYTES - size
    root = main
    for file in found:
        try:
            content, length = read_text(Path(file), left, reading, any_kind=False)
        except ConfigError as error:
            problems += error.problems
            continue
        left -= length
        included, of_syntax = document.read(content, file)
        if included is None and not of_syntax:
            continue  # nothing is in it
        if included is None or not _is_ours(included):
            problems.append(_foreign(file, of_syntax))
            continue
        problems += of_syntax
        root, of_parts = _joined(root, included)
        problems += of_parts
    return root, problems


def _is_ours(included: Node) -> bool:
    """Whether a file is a part of a configuration, by one of its keys, right or nearly so."""
    keys = included.value if isinstance(included.value, dict) else ()
    return any(key in Config.model_fields or did_you_mean(key, _PARTS) for key in keys)


def _foreign(file: str, of_syntax: list[Problem]) -> Problem:
    """What is wrong with a file that isn't a part of one, or can't be read as such. It says where
    and nothing of what is there: it may be any file's, and not everybody's to read.
    """
    if of_syntax:
        first = of_syntax[0]
        is_grammar = first.message.startswith(document.SYNTAX)
        message = first.message if is_grammar else "this can't be in a file that is included"
        return Problem(file, first.line, first.column, "", message)
    message = "an included file must be a mapping that begins with `listeners:` or `pools:`"
    return Problem(file, 1, 1, "", message)


def _found(main: Node) -> tuple[list[str], list[Problem]]:
    """The files that the patterns stand for, each once, and what is wrong with the patterns."""
    files: dict[str, None] = {}
    problems: list[Problem] = []
    for index, pattern in enumerate(_patterns(main)):
        matching, wrong = _matching(str(pattern.value), main.file)
        new = [file for file in matching if file not in files]
        if len(files) + len(new) > MAX_INCLUDES:
            wrong, new = f"more than {MAX_INCLUDES} files; join some of them", []
        files.update(dict.fromkeys(new))
        if wrong:
            place = (pattern.file, pattern.line, pattern.column)
            problems.append(Problem(*place, f"include.{index}", wrong))
    return list(files), problems


def _patterns(main: Node) -> Iterator[Node]:
    """Those that can be looked for; of others the model says what is wrong."""
    if isinstance(main.value, dict) and "include" in main.value:
        _, written = main.value["include"]
        items = written.value if isinstance(written.value, list) else []
        yield from (one for one in items[:MAX_INCLUDES] if is_pattern(one.value))


def _matching(pattern: str, main: str) -> tuple[list[str], str]:
    """The files, sorted by name, and what is wrong with the pattern, or nothing."""
    folder, name = os.path.split(os.path.join(os.path.dirname(main), pattern))
    files = [os.path.join(folder, name)]
    if glob.has_magic(os.path.dirname(pattern)):
        # One folder is looked through, not a file system.
        return [], "a wildcard can only be in the file's name, as in conf.d/*.yaml"
    if glob.has_magic(name):
        # Not glob.glob: to that a folder that we may not read has nothing in it.
        try:
            there = os.listdir(folder or os.curdir)
        except OSError as error:
            return [], f"the folder {folder} can't be read: {os.strerror(error.errno or 0)}"
        shown = [one for one in there if not one.startswith(".") or name.startswith(".")]
        files = sorted(os.path.join(folder, one) for one in fnmatch.filter(shown, name))
    for file in files:
        if not os.path.isfile(file):
            is_there = os.path.lexists(file)
            return [], f"{file} is no regular file" if is_there else f"there is no file {file}"
        if os.path.exists(main) and os.path.samefile(file, main):
            return [], f"{file} is this file itself; keep what it includes in another folder"
    return files, ""


def _joined(root: Node, included: Node) -> tuple[Node, list[Problem]]:
    """`root` with the parts of an included file, and what can't be had of it."""
    if not isinstance(root.value, dict) or not isinstance(included.value, dict):
        return root, []  # the former is wrong by itself
    entries, problems = dict(root.value), []
    for name, (key, part) in included.value.items():
        if name not in _PARTS:
            problems.append(_problem(key, name, _misplaced(name, root.file)))
        elif not isinstance(part.value, dict):
            message = "must be a mapping (`name: value` lines)"
            problems.append(_problem(part, name, message))
        elif name not in entries:
            entries[name] = (key, part)
        else:
            first_key, first = entries[name]
            whole, twice = _added(first, part, name)
            entries[name] = (first_key, whole)
            problems += twice
    return replace(root, value=entries), problems


def _misplaced(name: str, main: str) -> str:
    if name in Config.model_fields:
        return f"belongs in {main}; an included file has `listeners` and `pools` alone"
    return f"unknown key{did_you_mean(name, _PARTS)}"


def _added(first: Node, second: Node, part: str) -> tuple[Node, list[Problem]]:
    """The listeners or pools of both; of those that both have the first one's, and a problem."""
    if not isinstance(first.value, dict) or not isinstance(second.value, dict):
        return first, []  # the model says what is wrong with it
    members, problems = dict(first.value), []
    for name, (key, value) in second.value.items():
        if name in members:
            other, _ = members[name]
            message = f"is written twice, first at {other.file}:{other.line}:{other.column}"
            problems.append(_problem(key, f"{part}.{name}", message))
        else:
            members[name] = (key, value)
    return replace(first, value=members), problems


def _problem(node: Node, path: str, message: str) -> Problem:
    return Problem(node.file, node.line, node.column, path, message)
