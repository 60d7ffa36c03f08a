"""A scenario that can't run is skipped by people and refused by CI."""

from pathlib import Path

import pytest

from harness import needs


@pytest.mark.parametrize("value", ["", "0", "false"])
def test_people_may_skip(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CI", value)
    with pytest.raises(pytest.skip.Exception, match="needs the program no-such-program"):
        needs.program("no-such-program")


def test_ci_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"needs the program .*CI doesn't allow"):
        needs.program("no-such-program")


def test_only_root_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/usr/bin/true")
    with pytest.raises(pytest.skip.Exception, match="packages no-such-package; only root"):
        needs.needs("no-such-package")


def test_what_is_installed_is_not_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(needs, "_POLICY", policy)
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/usr/bin/true")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    seen: list[tuple[str, bool]] = []

    def apt_get(*arguments: str) -> str:
        seen.append((arguments[0], policy.stat().st_mode & 0o111 == 0o111))
        return "no such package" if len(seen) == 1 else ""

    monkeypatch.setattr(needs, "_apt_get", apt_get)
    needs.needs("no-such-package-a", "no-such-package-b")
    assert seen == [("install", True), ("update", True), ("install", True)]
    assert not policy.exists()


@pytest.mark.parametrize(
    ("mounts", "said"),
    [("/proc", "a chroot whose / isn't a mount"), ("/", "needs to mount a tmpfs")],
)
def test_who_cannot_mount_hears_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mounts: str, said: str
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(needs, "_MOUNTS", tmp_path / "mountinfo")
    (tmp_path / "mountinfo").write_text(f"22 1 8:1 / {mounts} rw - ext4 /dev/root rw\n")
    monkeypatch.setattr(needs, "program", lambda _: "/bin/false")
    with pytest.raises(pytest.skip.Exception, match=said):
        needs.private_mounts()


def test_the_kernel_path_is_asked_of_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(needs, "_has_kernel_path", lambda: False)
    with pytest.raises(pytest.skip.Exception, match="which the extension was built without"):
        needs.needs("clang")
    monkeypatch.setattr(needs, "_has_kernel_path", lambda: True)
    monkeypatch.setattr(needs, "_is_installed", lambda _: False)
    needs.needs("clang")
