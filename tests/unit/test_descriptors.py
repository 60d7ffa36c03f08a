"""How many sessions descriptors are enough for, and how one of any number is waited for."""

import os
import resource
from pathlib import Path

import mailweir
from mailweir.descriptors import raise_limit, sessions, spare, until_readable


def test_two_for_a_session_and_some_for_the_rest() -> None:
    assert (sessions(20000), spare(20000)) == (8000, 1250)
    assert (sessions(100), spare(100)) == (16, 64)


def test_one_of_any_number_is_waited_for() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_limit()
    try:
        read, write = os.pipe()
        os.dup2(read, 2000)
        assert not until_readable(2000, 0.01)
        os.close(write)
        assert until_readable(2000)
    finally:
        os.close(read)
        os.close(2000)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_nothing_waits_by_select() -> None:
    sources = Path(mailweir.__file__).parent.rglob("*.py")
    assert [one.name for one in sources if "select.select(" in one.read_text()] == []
