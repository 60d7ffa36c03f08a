"""The file of operators' words: what isn't understood is set aside, nobody else's is touched."""

import errno
import os
from pathlib import Path

import pytest

from mailweir.state.overrides import Overrides, Word
from mailweir.state.overrides_file import OverridesFile

PAUSED = Overrides(node=Word(by="root", at=1.0))


@pytest.fixture
def kept(tmp_path: Path) -> OverridesFile:
    return OverridesFile(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2}',
        "\0" * 100,
        '{"states": {"farm/a": {"state": "up"}}}',
        '{"denied": {"0.0.0.0/0": {"by": "root", "at": 1}}}',
    ],
)
def test_a_damaged_file_is_set_aside(kept: OverridesFile, tmp_path: Path, text: str) -> None:
    (tmp_path / "overrides.json").write_text(text)
    found, problem = kept.read()
    assert found == Overrides()
    assert "can't be understood" in problem
    assert problem.endswith(f"it is now {tmp_path}/overrides.damaged")
    assert (tmp_path / "overrides.damaged").read_text() == text
    assert kept.write(PAUSED) == ""
    assert kept.read() == (PAUSED, "")


def test_what_a_later_version_says_more_is_passed_over(kept: OverridesFile) -> None:
    """After an upgrade and back: words count as far as they are known."""
    text = '{"version": 1, "node": {"by": "root", "at": 1, "ticket": 7}, "quotas": {"a": 1}}'
    kept.path.write_text(text)
    assert kept.read() == (PAUSED, "")


def test_what_was_set_aside_before_stays(kept: OverridesFile, tmp_path: Path) -> None:
    for number in range(12):
        kept.path.write_text(f"damaged {number}")
        kept.read()
    aside = sorted(tmp_path.glob("overrides.damaged*"))
    assert len(aside) == 10
    assert (tmp_path / "overrides.damaged").read_text() == "damaged 0"


def test_what_is_no_file_is_set_aside_and_nobody_waits(kept: OverridesFile, tmp_path: Path) -> None:
    os.mkfifo(kept.path)
    assert kept.read() == (
        Overrides(),
        f"{kept.path} can't be read: it is no regular file; it is now {tmp_path}/overrides.damaged",
    )
    precious = tmp_path / "precious"
    precious.write_text(PAUSED.model_dump_json())
    kept.path.symlink_to(precious)
    assert "it is a symbolic link; it is now" in kept.read()[1]
    assert kept.write(PAUSED) == ""
    assert precious.read_text() == PAUSED.model_dump_json()


def test_what_cant_be_read_is_not_written_over(
    kept: OverridesFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.write(PAUSED)
    before = kept.path.read_bytes()

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("mailweir.state.overrides_file.open_plain", refuse)
        patch.setattr(Path, "replace", refuse)
        problem = kept.read()[1]
    assert problem == (
        f"{kept.path} can't be read: Input/output error, and can't be moved: Input/output error;"
        " move it away and restart mailweir"
    )
    assert kept.write(Overrides()) == problem
    assert kept.path.read_bytes() == before


def test_nothing_is_written_through_a_link(kept: OverridesFile, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "overrides.new").symlink_to(precious)
    assert kept.write(PAUSED) == ""
    assert precious.read_text() == "precious"
    assert kept.read() == (PAUSED, "")


def test_a_full_disk_leaves_the_old_file(
    kept: OverridesFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.write(PAUSED)
    before = kept.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert kept.write(Overrides()) == f"{kept.path} can't be written: No space left on device"
    assert kept.path.read_bytes() == before
