"""The rule of names: kept by this checkout, and violations of it are found."""

from pathlib import Path

import pytest

from arch import names


def test_this_checkout_keeps_it() -> None:
    assert names.problems(names.ROOT) == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small project that keeps it."""
    for file, text in {
        "python/mailweir/spec.py": "class Spec:\n    ...\n",
        "python/mailweir/admin/peer.py": "class Caller:\n    ...\n",
        "python/mailweir/admin/ha.py": "",
        "python/mailweir/config/ha.py": "",
        "rust/core/src/spec/mod.rs": "impl A {\n    type Error = X;\n}\npub struct Spec;\n",
        "rust/core/src/relay/mod.rs": "    type Error = Y;\npub(crate) struct Ends<'a> {\n}\n",
        "ARCHITECTURE.md": "`spec.py`, `rust/core/src/spec/mod.rs`, `*_rules.py`\n",
        "CONTRIBUTING.md": "`config/*_rules.py`\n",
    }.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert names.problems(tmp_path) == []
    return tmp_path


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("python/mailweir/ha/peer.py", "", "peer.py is two things: python/mailweir/admin/peer.py,"),
        ("python/mailweir/ha/known.py", "class Caller(Base):", "Caller is two things"),
        ("rust/core/src/pipes.rs", "enum Ends {", "Ends is two things: rust/core/src/pipes.rs,"),
        ("rust/core/src/pipes.rs", "pub(super) type Spec = u8;", "Spec is two things"),
        ("ARCHITECTURE.md", "`cli.py` has them", "ARCHITECTURE.md names cli.py, which isn't there"),
        ("CONTRIBUTING.md", "`config/spec.py`", "CONTRIBUTING.md names config/spec.py, which"),
    ],
)
def test_what_breaks_it_is_found(root: Path, file: str, text: str, problem: str) -> None:
    planted = root / file
    planted.parent.mkdir(parents=True, exist_ok=True)
    with planted.open("a") as stream:
        stream.write(f"{text}\n")
    (found,) = names.problems(root)
    assert found.startswith(problem)
