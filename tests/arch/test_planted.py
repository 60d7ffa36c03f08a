"""The checks find what they are there for: violations planted in a temporary copy."""

import os
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
def test_rust_rules(rust: Path, file: str, line: str, problem: str) -> None:
    plant(rust / "core/src" / file, line)
    found = rust_layers.problems(rust)
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


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        (None, "", None),
        ("errors.py", "import mailweir.daemon", "Who imports whom"),
        ("state/diff.py", "from mailweir.admin import readiness", "Who imports whom"),
        ("health/check.py", "from mailweir.admin import readiness", "Who imports whom"),
        ("extra.py", '"""In no layer."""', "Who imports whom"),
        ("state/desired.py", "import asyncio", "Deciding is pure"),
        ("health/track.py", "import socket", "Deciding is pure"),
        ("admin/client.py", "import aiohttp", "The command line's client"),
    ],
)
def test_python_rules(package: Path, file: str | None, line: str, broken: str | None) -> None:
    if file:
        plant(package / file, line)
    ended = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=package.parents[1],
        env=os.environ | {"PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
    )
    said = ended.stdout + ended.stderr
    assert ended.returncode == (1 if broken else 0), said
    if broken:
        assert any(
            said_line.startswith(broken) and "BROKEN" in said_line
            for said_line in said.splitlines()
        ), said
