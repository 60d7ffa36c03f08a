"""Whose turn it is among tests that run beside each other: alone, or with others that may."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """With nobody beside it who takes a turn by that file, of either kind."""
    with _locked(file, fcntl.LOCK_EX):
        yield


@contextmanager
def beside_others(file: Path) -> Iterator[None]:
    """With nobody beside it who is alone."""
    with _locked(file, fcntl.LOCK_SH):
        yield


@contextmanager
def _locked(file: Path, kind: int) -> Iterator[None]:
    with file.open("a") as lock:
        fcntl.flock(lock, kind)
        yield
