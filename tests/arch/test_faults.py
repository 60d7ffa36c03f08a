"""The table of faults names tests that there are."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).resolve().parents[1] / "FAULTS.md"
_TEST = re.compile(r"`([\w./]+\.(?:py|rs))::(\w+)`")


def test_each_row_names_tests_that_exist() -> None:
    rows = [line for line in TABLE.read_text().splitlines() if re.match(r"\| \d", line)]
    assert len(rows) > 30
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
