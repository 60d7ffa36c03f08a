"""The session log of processes that were killed while they wrote it."""

import json
from pathlib import Path

from harness.mailweir.run import Tree


def torn_log(path: Path) -> tuple[list[Tree], int]:
    """The session log, and how many lines were cut off: the kernel leaves a write that a kill
    comes upon, at the end of a page; the next process begins a line of its own behind that."""
    whole, torn = [], 0
    for line in path.read_text().splitlines():
        try:
            whole.append(json.loads(line))
        except json.JSONDecodeError:
            torn += 1
    return whole, torn
