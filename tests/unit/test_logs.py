"""Log lines: logfmt off a terminal, levels, the standard library's lines as well."""

import io
import logging
import os
import re
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
