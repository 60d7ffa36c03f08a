"""A checkout in a folder of its own, whose programs are stand-ins: set-up can be watched there."""

import os
import shutil
import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]
# What scripts use of every machine; all others are stand-ins, or absent.
_BASICS = (
    *("bash", "cat", "chmod", "cut", "dirname", "env", "find", "head", "make", "mkdir", "mv"),
    *("rm", "sed", "sort", "touch"),
)
_PYTHON = """
case "$*" in
*print*) echo "3 11 $(cat "$YARD/python-is")" ;;
*"-m venv"*)
    echo venv >>"$YARD/done"
    rm -rf .venv && mkdir -p .venv/bin
    cp "$YARD"/venv/* .venv/bin/
    ;;
esac
"""


class Yard:
    """The folder, `checkout` in it, and who stands in for what."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkout = folder / "checkout"
        self.bin = folder / "bin"
        for made in (self.bin, folder / "venv", self.checkout / "python/mailweir"):
            made.mkdir(parents=True)
        for name in (*_BASICS, "cp"):
            (self.bin / name).symlink_to(shutil.which(name) or f"no {name} here")
        shutil.copytree(_ROOT / ".ci", self.checkout / ".ci")
        need = self.checkout / ".ci/need"
        need.write_text(need.read_text().replace("/usr/sbin/", f"{folder}/"))
        for name in ("Makefile", "Cargo.toml", "Cargo.lock", "pyproject.toml"):
            shutil.copy(_ROOT / name, self.checkout)
        shutil.copy(_ROOT / "requirements-dev.lock", self.checkout)
        for name in ("core", "ffi", "flow"):
            shutil.copytree(_ROOT / "rust" / name, self.checkout / "rust" / name)
        (folder / "python-is").write_text("/usr")
        self.stand_in("python3", _PYTHON)
        self.stand_in("cc", "")
        self.stand_in("cargo", "")
        self.stand_in("rustc", "echo rustc 1.95.0")
        self.stand_in("clang", "echo clang 14")
        self.stand_in("id", "echo 1000")
        self._in_venv("python", "echo True")
        self._in_venv("pip", 'echo pip >>"$YARD/done"; ! [[ -e $YARD/killed ]]')
        self._in_venv(
            "maturin", 'echo maturin >>"$YARD/done"; touch python/mailweir/_dataplane.abi3.so'
        )

    def stand_in(self, name: str, script: str) -> None:
        """A program that does this."""
        _program(self.bin / name, script)

    def absent(self, name: str) -> None:
        """A program that isn't there."""
        (self.bin / name).unlink(missing_ok=True)

    def built_without(self) -> None:
        """The extension that the next set-up makes lacks the kernel path."""
        self._in_venv("python", "echo False")

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command in the checkout."""
        environment |= {"PATH": str(self.bin), "YARD": str(self.folder)}
        return subprocess.run(
            command, cwd=self.checkout, env=environment, capture_output=True, text=True
        )

    def set_up(self) -> list[str]:
        """What `make setup` does; it goes well."""
        ended = self.run("make", "setup")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return self.done()

    def done(self) -> list[str]:
        """What has been done since this was asked last."""
        file = self.folder / "done"
        done = file.read_text().split() if file.exists() else []
        file.unlink(missing_ok=True)
        return done

    def _in_venv(self, name: str, script: str) -> None:
        _program(self.folder / "venv" / name, script)


def _program(file: Path, script: str) -> None:
    file.write_text(f"#!{shutil.which('bash')}\n{script}\n")
    file.chmod(0o755)
    assert os.access(file, os.X_OK)
