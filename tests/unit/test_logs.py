"""Log lines: logfmt off a terminal, levels, the standard library's lines as well."""

import io
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
import structlog

from mailweir import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(*, verbose: bool) -> list[str]:
    stream = io.StringIO()
    logs.configure(verbose=verbose, stream=stream)
    log = structlog.get_logger("test")
    log.debug("checked", server="farm/a")
    log.info("reloaded", generation=2, change="pool farm: server c added")
    logging.getLogger("aiohttp").warning("odd %s", "thing")
    return [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()]


def test_lines() -> None:
    assert lines(verbose=False) == [
        'level=info event=reloaded generation=2 change="pool farm: server c added"',
        'level=warning event="odd thing"',
    ]


def test_a_line_that_is_not_to_be_seen_costs_nothing() -> None:
    """Not even its time is taken: each of thousands of checks has one."""
    taken = []

    def take(
        _: object, method: str, line: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        taken.append(method)
        return line

    logs.configure(verbose=False, stream=io.StringIO(), also=take)
    log = structlog.get_logger("test")
    log.debug("checked", server="farm/a")
    assert taken == []


def test_verbose() -> None:
    assert lines(verbose=True)[0] == "level=debug event=checked server=farm/a"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """What nobody reads but the test."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(writer)


def said(handler: logs.Writing, number: int) -> None:
    record = logging.LogRecord("m", logging.INFO, "", 0, f"number={number} {'x' * 200}", None, None)
    handler.handle(record)


def test_who_does_not_read_stops_nobody(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    handler, finish = logs.in_a_thread(writer)
    logging.getLogger().handlers[:] = [handler]
    for number in range(3000):  # more than the pipe takes and may wait
        said(handler, number)
    assert 1000 < logs.dropped() <= 2000  # the thread may have had no turn yet
    begun = time.monotonic()
    finish()
    assert time.monotonic() - begun < 5
    # Who reads again gets what was written before the pipe was full, whole and in order, and is
    # told how much is missing.
    told = b""
    missing = re.compile(rb"level=warning event=.*lines are missing.* lines=[0-9]+\n")
    while not missing.search(told):
        told += os.read(reader, 1 << 16)
    numbers = [
        int(number) for number in re.findall(r"^number=([0-9]+) x{200}$", told.decode(), re.M)
    ]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    # Nobody reads at all: the rest fails, and the thread comes to its end.
    os.close(reader)
    while handler.failed == 0 or not handler.waiting.empty():
        time.sleep(0.01)
    finish()


def test_nobody_reads_any_more(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    handler, finish = logs.in_a_thread(writer)
    said(handler, 1)
    finish()
    assert (handler.dropped, handler.failed) == (0, 1)


_IGNORED_BY_PYTHON = """
import os, sys, threading
from mailweir import logs

class Bug:
    def __del__(self):
        raise ValueError("at its end")

def fail():
    raise ValueError("in a thread")

logs.configure(verbose=False)
for _ in range(20_000 if sys.argv[1:] else 1):
    Bug()
thread = threading.Thread(target=fail, name="t")
thread.start()
thread.join()
print("went on", flush=True)
os._exit(0) if sys.argv[1:] else None
"""


def test_what_python_would_write_itself_is_a_line() -> None:
    """Exceptions that nobody can catch, and those that end a thread."""
    done = subprocess.run(
        [sys.executable, "-c", _IGNORED_BY_PYTHON], capture_output=True, text=True
    )
    first, second = (line.split(" ", 1)[1] for line in done.stderr.splitlines())
    assert first.startswith('level=error event="an exception that nobody could catch" at=')
    assert "ValueError: at its end" in first
    assert second.startswith('level=error event="an exception ended a thread"')
    assert "ValueError: in a thread" in second


def test_what_python_would_write_itself_stops_nobody(pipe: tuple[int, int]) -> None:
    """Where nobody reads it; more of that than a pipe takes."""
    argv = [sys.executable, "-c", _IGNORED_BY_PYTHON, "many"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=pipe[1], timeout=60)
    assert done.stdout == b"went on\n"
    os.close(pipe[0])
