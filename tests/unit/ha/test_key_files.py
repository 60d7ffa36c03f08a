"""Files of keys: what is in them, and what is refused with a way out."""

import os
from pathlib import Path

import pytest

from mailweir.errors import StartError
from mailweir.ha.key_files import read_keys

_RAW = bytes(range(32))


def written(path: Path, data: bytes, mode: int = 0o400) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "data",
    [_RAW, _RAW.hex().encode(), f"{_RAW.hex().upper()}\n".encode(), f" {_RAW.hex()}\r\n".encode()],
)
def test_a_key(tmp_path: Path, data: bytes) -> None:
    assert read_keys({7: written(tmp_path / "key", data)}) == {7: _RAW}


def test_more_than_one(tmp_path: Path) -> None:
    first = written(tmp_path / "one", _RAW)
    second = written(tmp_path / "two", _RAW[::-1], 0o600)
    assert read_keys({1: first, 2: second}) == {1: _RAW, 2: _RAW[::-1]}
    assert read_keys({}) == {}


@pytest.mark.parametrize(
    "data",
    [b"", _RAW[1:], _RAW + b"\n", _RAW * 2, b"x" * 64, _RAW.hex().encode() + b"00", b"0" * 9999],
)
def test_what_is_no_key_is_refused_with_how_to_make_one(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path / "key", data)
    with pytest.raises(StartError) as caught:
        read_keys({1: path})
    assert str(caught.value) == (
        f"key 1: {path} has neither 32 bytes nor 64 hex digits;"
        f" make it by: head -c32 /dev/urandom >{path}; chmod 400 {path}"
    )


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o420, 0o401, 0o644])
def test_what_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "key", _RAW, mode)
    with pytest.raises(StartError, match=rf"\(mode {mode:o}\).*: chmod 400 {path}"):
        read_keys({1: path})


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(StartError, match=r"isn't there; make it by: head -c32 .*other node"):
        read_keys({1: path})
    with pytest.raises(StartError, match="can't be read: Is a directory"):
        read_keys({1: tmp_path})
    with pytest.raises(StartError, match="can't be read: embedded null byte"):
        read_keys({1: Path("/a\0b")})
    path.symlink_to(path)
    with pytest.raises(StartError, match="can't be read: Too many levels of symbolic links"):
        read_keys({1: path})


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o400)
    with pytest.raises(StartError, match="is no file"):
        read_keys({1: path})
