"""What import-linter can't see: the extension's only importer, docstrings, file sizes."""

import ast
from pathlib import Path

import pytest

import mailweir

ROOT = Path(mailweir.__path__[0])
FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_file(file: Path) -> None:
    text = file.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "begins with what it is for"
    assert text.count("\n") <= 500, "stops at 500 lines"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 50, f"{node.name} is too long"
    assert ("_dataplane" in text) == (file.name == "plane.py"), "plane.py alone imports it"


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.name != "cli"], ids=lambda f: f.name)
def test_imports_stand_at_the_top(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not inner, f"{node.name} imports; only cli/ may, and says why"
