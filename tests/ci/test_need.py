"""What a machine lacks is installed, or said with its reason and the command."""

import subprocess
from pathlib import Path

import pytest

from ci.yard import Yard

_INSTALLS_CLANG = (
    'echo "$*" >>"$YARD/done"; [[ $* != *install* ]] || ln -s /bin/true "$YARD/bin/clang"'
)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    return Yard(tmp_path)


def _need(yard: Yard, what: str = "build", **environment: str) -> subprocess.CompletedProcess[str]:
    return yard.run("bash", ".ci/need", what, **environment)


def test_a_machine_that_has_all_hears_nothing(yard: Yard) -> None:
    ended = _need(yard)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_without_clang_and_without_root(yard: Yard) -> None:
    yard.absent("clang")
    yard.stand_in("apt-get", "exit 1")
    ended = _need(yard)
    assert ended.returncode == 0
    assert (
        "WITHOUT THE KERNEL PATH: clang is missing (only root can install Debian packages)"
        in ended.stderr
    )
    assert "apt-get install clang" in ended.stderr
    assert "CI doesn't allow that" in _need(yard, CI="true").stderr
    assert _need(yard, CI="true").returncode == 1


def test_without_clang_and_without_apt(yard: Yard) -> None:
    yard.absent("clang")
    assert "clang is missing (this isn't Debian)" in _need(yard).stderr


def test_root_gets_clang(yard: Yard) -> None:
    yard.absent("clang")
    yard.stand_in("id", "echo 0")
    yard.stand_in("ln", 'exec /bin/ln "$@"')
    yard.stand_in("apt-get", _INSTALLS_CLANG)
    ended = _need(yard)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "installing: clang\n", "")


def test_clang_is_not_to_be_had(yard: Yard) -> None:
    yard.absent("clang")
    yard.stand_in("id", "echo 0")
    yard.stand_in("apt-get", "echo no candidate >&2; exit 100")
    ended = _need(yard)
    assert ended.returncode == 0
    assert "clang is missing (apt-get can't install it, see above)" in ended.stderr
    assert _need(yard, CI="true").returncode == 1


def test_what_nothing_goes_without(yard: Yard) -> None:
    yard.absent("cc")
    yard.stand_in("apt-get", "exit 1")
    ended = _need(yard)
    assert ended.returncode == 1
    assert "install them as root: apt-get install gcc libc6-dev" in ended.stderr
    yard.stand_in("id", "echo 0")
    assert "apt-get can't install them" in _need(yard).stderr
    yard.stand_in("apt-get", "")
    ended = _need(yard)
    assert ended.returncode == 1
    assert "still missing, though installed: gcc libc6-dev" in ended.stderr


def test_a_compiler_that_cannot_link(yard: Yard) -> None:
    yard.stand_in("cc", "exit 1")
    assert "apt-get install gcc libc6-dev" in _need(yard).stderr


@pytest.mark.parametrize(
    ("rustc", "said"),
    [("exit 1", "here: none"), ("echo rustc 1.63.0", "here: 1.63.0")],
)
def test_rust_is_too_old(yard: Yard, rustc: str, said: str) -> None:
    yard.stand_in("rustc", rustc)
    ended = _need(yard)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "rustup toolchain install" in ended.stderr


def test_what_the_extension_lacks_is_said_each_time(yard: Yard) -> None:
    yard.built_without()
    for _ in range(2):
        ended = yard.run("make", "setup")
        assert ended.returncode == 0, ended.stderr
        assert "WITHOUT THE KERNEL PATH: the extension was built without clang" in ended.stderr
    assert yard.run("make", "setup", CI="true").returncode != 0
