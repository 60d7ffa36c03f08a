"""The tests that ARCHITECTURE.md names are there."""

import re
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def test_they_are() -> None:
    text = (_ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (_ROOT / "tests/scenarios" / file).read_text(), (file, test)
    vectors = set(re.findall(r"`(\w+\.rs)`", text[text.index("## What proves") :]))
    assert vectors == {file for file in vectors if (_ROOT / "rust/flow/tests/it" / file).exists()}
