"""Set-up does again what a change makes necessary, and nothing else."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ci.yard import Yard

_ALL = ["venv", "pip", "maturin"]


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """A checkout that was set up."""
    yard = Yard(tmp_path)
    assert yard.set_up() == _ALL
    assert yard.set_up() == []
    return yard


@pytest.mark.parametrize(
    "file",
    [
        *("rust/flow/bpf/flow.bpf.c", "rust/flow/bpf/segments.h", "rust/flow/build.rs"),
        *("rust/flow/src/program.rs", "rust/flow/Cargo.toml", "rust/core/src/lib.rs"),
        *("rust/ffi/src/lib.rs", "Cargo.lock"),
    ],
)
def test_a_changed_source(yard: Yard, file: str) -> None:
    (yard.checkout / file).touch()
    assert yard.set_up() == ["maturin"]
    assert yard.set_up() == []


def _no_clang(yard: Yard) -> None:
    yard.absent("clang")


def _another_clang(yard: Yard) -> None:
    yard.stand_in("clang", "echo clang 16")
    # Debian's files are as old as the package, not as its installation.
    shutil.copystat("/etc/debian_version", yard.bin / "clang")
    (yard.bin / "clang").chmod(0o755)


def _another_rust(yard: Yard) -> None:
    yard.stand_in("rustc", "echo rustc 1.96.0")


def _no_extension(yard: Yard) -> None:
    (yard.checkout / "python/mailweir/_dataplane.abi3.so").unlink()


@pytest.mark.parametrize("change", [_no_clang, _another_clang, _another_rust, _no_extension])
def test_another_tool(yard: Yard, change: Callable[[Yard], None]) -> None:
    change(yard)
    assert yard.set_up() == ["maturin"]
    assert yard.set_up() == []


def test_clang_comes_later(yard: Yard) -> None:
    yard.absent("clang")
    yard.set_up()
    yard.stand_in("clang", "echo clang 14")
    assert yard.set_up() == ["maturin"]


def test_other_packages(yard: Yard) -> None:
    (yard.checkout / "requirements-dev.lock").touch()
    assert yard.set_up() == ["pip", "maturin"]


def test_another_python(yard: Yard) -> None:
    (yard.folder / "python-is").write_text("/opt/python")
    assert yard.set_up() == _ALL


def test_another_folder(yard: Yard) -> None:
    yard.checkout = yard.checkout.rename(yard.folder / "moved")
    assert yard.set_up() == _ALL


def test_an_installation_that_was_cut_short(yard: Yard) -> None:
    (yard.checkout / "requirements-dev.lock").touch()
    (yard.folder / "killed").touch()
    assert yard.run("make", "setup").returncode != 0
    assert yard.done() == ["pip"]
    (yard.folder / "killed").unlink()
    assert yard.set_up() == _ALL
    assert yard.set_up() == []
