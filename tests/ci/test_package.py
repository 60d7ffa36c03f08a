"""What the Debian package is made of."""

import re
from pathlib import Path

import pytest

from harness.mailweir.run import COMMAND
from harness.needs import program
from harness.process import run
from installed.later_version import FILES, later

_REPOSITORY = Path(__file__).parents[2]
_SCRIPTS = ["preinst", "postinst", "prerm", "postrm", "build"]
# Tenths, as --threshold takes them. What is beyond 20 stands in the unit.
_EXPOSURE = {"mailweir": 21, "mailweir-witness": 20, "mailweir-ha": 25}


def _locked(name: str) -> dict[str, str]:
    """Versions and hashes, by package."""
    text = (_REPOSITORY / name).read_text()
    found = re.findall(r"^([\w.-]+)==(.*?)(?=^[\w.-]+==|\Z)", text, re.MULTILINE | re.DOTALL)
    return {package: re.sub(r" +# via.*", "", rest).strip() for package, rest in found}


def test_what_runs_is_what_is_tested() -> None:
    runs, tested = _locked("requirements.lock"), _locked("requirements-dev.lock")
    assert len(runs) > 20
    assert {name: tested[name] for name in runs} == runs
    needed = re.search(r"^dependencies = \[(.*?)^\]", _pyproject(), re.MULTILINE | re.DOTALL)
    assert needed
    assert {*re.findall(r'^ +"([\w-]+)', needed[1], re.MULTILINE)} <= runs.keys()


def _pyproject() -> str:
    return (_REPOSITORY / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", _SCRIPTS)
def test_the_scripts_can_be_read(name: str) -> None:
    file = _REPOSITORY / "packaging" / "deb" / name
    shell = file.read_text().splitlines()[0].removeprefix("#!")
    assert run([shell, "-n", file]).stderr == ""


@pytest.mark.needs("systemd")
@pytest.mark.parametrize("unit", _EXPOSURE)
def test_the_sandbox_is_as_tight_as_the_pages_say(unit: str) -> None:
    command = [program("systemd-analyze"), "security", "--offline=yes", "--no-pager"]
    file = str(_REPOSITORY / "config" / f"{unit}.service")
    done = run([*command, f"--threshold={_EXPOSURE[unit]}", file])
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    page = " ".join((_REPOSITORY / "docs" / "install.md").read_text().split())
    said = re.search(r"level for \S+: ([\d.]+)", done.stdout)
    assert said
    assert f"{said[1]} for `{unit}`" in page
    verify = run([program("systemd-analyze"), "verify", "--man=no", file])
    assert "Unknown" not in verify.stderr


@pytest.mark.parametrize("file", FILES)
def test_the_later_version_can_be_made(file: str) -> None:
    assert later(file) != (_REPOSITORY / file).read_text()


def test_nothing_starts_before_the_file_is_edited() -> None:
    text = (_REPOSITORY / "packaging" / "deb" / "mailweir.yaml").read_text()
    assert all(line.startswith("#") or not line for line in text.splitlines())
    # Without the signs it is a configuration.
    example = text.partition("put in your servers:\n#\n")[2]
    edited = "".join(
        f"{line.removeprefix('# ').removeprefix('#')}\n" for line in example.splitlines()
    )
    done = run([*COMMAND, "check", "-c", "/dev/stdin"], told=edited)
    assert done.returncode == 0
    # The package makes that folder.
    assert done.stderr.count("\n") == done.stderr.count("no folder /var/log/mailweir\n")
