"""Files as they are read: what a restart may mend and what it doesn't; nobody is kept waiting."""

import errno
import os
from pathlib import Path

import pytest

from mailweir.config.load import load
from mailweir.config.reading import Reading, read_file
from mailweir.errors import ConfigError, UnreadableError
from unit.fakes import MINIMAL


def failing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "read", fail)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE])
def test_what_a_restart_may_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(MINIMAL)
    failing(monkeypatch, number)
    with pytest.raises(UnreadableError) as found:
        load(file)
    assert found.value.exit_code == 1
    assert str(found.value) == f"{file} can't be read: {os.strerror(number)}"


def test_what_it_does_not_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (tmp_path / "none", tmp_path):
        assert exit_code(file) == 78
    file = tmp_path / "f.yaml"
    file.write_text(MINIMAL)
    failing(monkeypatch, errno.EACCES)
    assert exit_code(file) == 78


def exit_code(file: Path) -> int:
    with pytest.raises(ConfigError) as found:
        load(file)
    return found.value.exit_code


def test_a_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/null"), tmp_path):
        with pytest.raises(OSError, match="no regular file"):
            read_file(path, 10, Reading())


def test_no_more_is_read_than_wanted(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(bytes(range(100)))
    reading = Reading()
    assert read_file(file, 7, reading) == bytes(range(7))
    assert read_file(file, 1000, reading) == bytes(range(100))
    assert reading.what == ""
