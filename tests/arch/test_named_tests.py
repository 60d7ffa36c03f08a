"""ARCHITECTURE.md is true: the tests that it names are there, its layers are held."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from arch.rust_layers import LAYERS

_ROOT = Path(__file__).resolve().parents[2]


def test_they_are() -> None:
    text = (_ROOT / "ARCHITECTURE.md").read_text()
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (_ROOT / "tests/scenarios" / file).read_text(), (file, test)
    vectors = set(re.findall(r"`(\w+\.rs)`", text[text.index("## What proves") :]))
    assert vectors == {file for file in vectors if (_ROOT / "rust/flow/tests/it" / file).exists()}


def test_its_layers_are_held() -> None:
    text = (_ROOT / "ARCHITECTURE.md").read_text()
    shown = re.findall(r"^(Python|Rust) \(`[^`]+`\):\n\n((?:    .*\n)+)", text, re.MULTILINE)
    settings = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    [held] = [
        one["layers"]
        for one in settings["tool"]["importlinter"]["contracts"]
        if one["name"] == "Who imports whom"
    ]
    assert {language: _rows(block.splitlines()) for language, block in shown} == {
        "Python": _rows(layer.replace("|", " ") for layer in held),
        "Rust": _rows(LAYERS),
    }


def _rows(lines: Iterable[str]) -> list[set[str]]:
    return [set(line.split()) for line in lines]
