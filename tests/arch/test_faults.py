"""The table of faults names tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).resolve().parents[1] / "FAULTS.md"
# What there are parts for.
_FAULTS = {*range(1, 34), *range(41, 56), 57, 58, 73, *range(75, 80)}
_TEST = re.compile(r"`([\w./]+\.(?:py|rs))::(\w+)`")


def test_each_row_names_tests_that_exist() -> None:
    rows = [line for line in TABLE.read_text().splitlines() if re.match(r"\| \d", line)]
    assert [int(row.split()[1]) for row in rows] == sorted(_FAULTS)
    missing = []
    for row in rows:
        named = _TEST.findall(row)
        if not named:
            missing.append(f"names no test: {row}")
        for path, name in named:
            file = ROOT / path
            if not file.is_file() or not re.search(rf"\b(?:def|fn) {name}\b", file.read_text()):
                missing.append(f"{path}::{name}")
    assert not missing
