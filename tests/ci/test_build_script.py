"""What the kernel path's build script tells cargo: when to run it again, and what is missing."""

import shutil
import subprocess
from pathlib import Path

import pytest

_FLOW = Path(__file__).parents[2] / "rust/flow"


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build script, as cargo builds it."""
    program = tmp_path_factory.mktemp("script") / "build"
    argv = ["rustc", "--edition=2024", "-o", str(program), str(_FLOW / "build.rs")]
    ended = subprocess.run(argv, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return program


class Crate:
    """A place to run it in, with stand-ins for clang in `bin`."""

    def __init__(self, folder: Path, script: Path) -> None:
        self.folder, self._script = folder, script
        self.bin = folder / "bin"
        self._flow = folder / "rust/flow"
        for made in (self.bin, self._flow):
            made.mkdir(parents=True)

    def clang(self, does: str) -> Path:
        """A clang that does this."""
        file = self.bin / "clang"
        file.write_text(f"#!{shutil.which('sh')}\n{does}\n")
        file.chmod(0o755)
        return file

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """The script, once."""
        environment |= {"PATH": str(self.bin), "OUT_DIR": str(self.folder)}
        environment["CARGO_CFG_TARGET_ARCH"] = "x86_64"
        return subprocess.run(
            [self._script], cwd=self._flow, env=environment, capture_output=True, text=True
        )


@pytest.fixture
def crate(tmp_path: Path, script: Path) -> Crate:
    return Crate(tmp_path, script)


def test_without_clang_it_warns_and_looks_again(crate: Crate) -> None:
    ended = crate.run()
    assert ended.returncode == 0
    assert "cargo::warning=NO KERNEL PATH in this build: clang isn't there" in ended.stdout
    # For cargo a file that isn't there has changed, each time.
    assert "cargo::rerun-if-changed=clang\n" in ended.stdout
    assert (crate.folder / "flow.o").read_bytes() == b""


def test_with_clang_it_watches_that(crate: Crate) -> None:
    clang = crate.clang("exit 0")
    said = crate.run().stdout.splitlines()
    assert {f"cargo::rerun-if-changed={clang}", "cargo::rerun-if-changed=bpf"} <= set(said)
    assert "cargo::rerun-if-env-changed=CLANG" in said
    assert not any("warning" in line or ".tools" in line for line in said)


def test_notes_of_make_are_watched_where_there_are_any(crate: Crate) -> None:
    crate.clang("exit 0")
    (crate.folder / ".venv").mkdir()
    (crate.folder / ".venv/.tools").touch()
    assert "cargo::rerun-if-changed=../../.venv/.tools\n" in crate.run().stdout


def test_clang_by_its_path(crate: Crate) -> None:
    clang = crate.clang("exit 0").rename(crate.folder / "another")
    assert f"cargo::rerun-if-changed={clang}\n" in crate.run(CLANG=str(clang)).stdout


def test_an_error_of_clang_is_one(crate: Crate) -> None:
    crate.clang("echo no such target >&2; exit 1")
    ended = crate.run()
    assert ended.returncode != 0
    assert "no such target" in ended.stderr
