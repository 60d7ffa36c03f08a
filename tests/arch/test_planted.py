"""The checks find what they are there for: violations planted in a temporary copy."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from arch import rust_layers, rust_tree

ROOT = rust_tree.WORKSPACE


@pytest.fixture
def rust(tmp_path: Path) -> Path:
    """A copy of the Rust sources."""
    copy = tmp_path / "rust"
    shutil.copytree(ROOT / "rust", copy, ignore=shutil.ignore_patterns("target"))
    return copy


@pytest.fixture
def workspace(tmp_path: Path, rust: Path) -> Path:
    """A copy of the whole Cargo workspace."""
    for file in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the Python package beside its import rules."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    copy = tmp_path / "python" / "mailweir"
    shutil.copytree(ROOT / "python/mailweir", copy, ignore=shutil.ignore_patterns("*.so", "__*__"))
    return copy


def plant(file: Path, text: str) -> None:
    """Adds a line to the end of a file."""
    with file.open("a") as stream:
        stream.write(f"{text}\n")


@pytest.mark.parametrize(
    ("file", "line", "problem"),
    [
        ("spec/mod.rs", "use crate::plane::DataPlane;", "spec uses plane, which is above it"),
        ("connect.rs", "use crate::{sys, greet::read};", "connect uses greet, which is beside it"),
        ("relay/copy.rs", "fn f(_: crate::session::S) {}", "relay uses session, which is above it"),
        ("metrics.rs", "use super::record::EndReason;", "metrics uses record, which is above it"),
        ("sys.rs", "use crate::DataPlane;", "sys uses DataPlane, which is in no layer"),
        ("relay/mod.rs", "fn f() { unsafe { g() } }", "`unsafe` outside sys.rs"),
        ("smtp/mod.rs", "#![allow(unsafe_code)]", "`unsafe` outside sys.rs"),
        ("server.rs", "//\n" * 500, "lines, more than 500"),
        ("extra.rs", "use std::fmt;", "extra is in no layer"),
        ("extra.rs", "use std::fmt;", "doesn't begin with what it is for"),
    ],
)
def test_rust_rules(tmp_path: Path, file: str, line: str, problem: str) -> None:
    copy = tmp_path / "core/src" / file
    copy.parent.mkdir(parents=True)
    if (there := ROOT / "rust/core/src" / file).exists():
        shutil.copy(there, copy)
        assert rust_layers.problems(tmp_path) == []
    plant(copy, line)
    found = rust_layers.problems(tmp_path)
    assert [one for one in found if one.startswith(f"core/src/{file}:") and problem in one], found


def test_unsafe_in_another_crate(rust: Path) -> None:
    plant(rust / "ffi/src/lib.rs", "fn f() { unsafe { g() } }")
    assert len(rust_layers.problems(rust)) == 1


def test_command_says_what_is_wrong(rust: Path) -> None:
    plant(rust / "core/src/spec.rs", "use crate::worker::Worker;")
    argv = [sys.executable, "-m", "arch.rust_layers", str(rust)]
    ended = subprocess.run(argv, cwd=ROOT / "tests", capture_output=True, text=True)
    assert ended.returncode == 1
    assert "spec uses worker, which is above it" in ended.stdout


@pytest.mark.parametrize("package_name", ["pyo3", "pyo3-ffi"])
def test_python_in_the_data_plane(workspace: Path, package_name: str) -> None:
    manifest = workspace / "rust/core/Cargo.toml"
    text = manifest.read_text()
    planted = f'[dependencies]\nharmless = {{ package = "{package_name}", version = "*" }}\n'
    manifest.write_text(text.replace("[dependencies]\n", planted, 1))
    # Offline: the package is there already, for the extension.
    names = rust_tree.packages(workspace, "--offline")
    assert package_name in rust_tree.banned(names)


def test_python_rules_are_kept(package: Path) -> None:
    assert _broken(package) == {}


def test_python_rules(package: Path) -> None:
    """All at once: to look at a package takes seconds."""
    planted = {
        "Who imports whom": {
            "errors.py": ("mailweir.daemon", "import mailweir.daemon"),
            "state/diff.py": ("mailweir.admin.readiness", "from mailweir.admin import readiness"),
            "health/check.py": ("mailweir.admin.readiness", "from mailweir.admin import readiness"),
        },
        "Deciding is pure": {
            "state/desired.py": ("asyncio", "import asyncio"),
            "health/track.py": ("socket", "import socket"),
        },
        "The command line's client": {"admin/client.py": ("aiohttp", "import aiohttp")},
    }
    for files in planted.values():
        for file, (_, line) in files.items():
            plant(package / file, line)
    said = _broken(package)
    for rule, files in planted.items():
        [of_rule] = [text for name, text in said.items() if name.startswith(rule)]
        for file, (imported, _) in files.items():
            module = f"mailweir.{file.removesuffix('.py').replace('/', '.')}"
            assert f"{module} -> {imported} (l." in of_rule, of_rule


def test_a_module_in_no_layer(package: Path) -> None:
    plant(package / "extra.py", '"""In no layer."""')
    assert [name for name in _broken(package) if name.startswith("Who imports whom")]


def _broken(package: Path) -> dict[str, str]:
    """What is said of each rule that is broken."""
    ended = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=package.parents[1],
        env=os.environ | {"PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
    )
    said = ended.stdout + ended.stderr
    names = [line.removesuffix(" BROKEN") for line in said.splitlines() if line.endswith(" BROKEN")]
    assert ended.returncode == (1 if names else 0), said
    # Each has a heading of its own further down: its name, and a line below it.
    parts = re.split(r"\n([^\n]+)\n-{3,}\n", said)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {name: found[name] for name in names}
