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
