"""Log lines: logfmt off a terminal, levels, the standard library's lines as well."""

import io
import logging
import os
import threading
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


def test_who_does_not_read_stops_nobody() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as read, os.fdopen(writer, "w") as stream:
        logs.configure(verbose=False, stream=stream, never_waits=True)
        for number in range(1500):  # more than the pipe takes and may wait
            structlog.get_logger("test").info("much is said", number=number, words="x" * 100)
        # What was written before the pipe was full is whole, and in order.
        found = read.read(32 * 1024).decode().splitlines()[:-1]
        assert [f"number={number} " in line for number, line in enumerate(found)].count(False) == 0
        logging.getLogger().handlers[:] = []
        os.set_blocking(reader, False)
        _empty(read)


def _empty(read: io.BufferedReader) -> None:
    """The thread that writes comes to its end."""
    while any(thread.name == "log" and read.read(1 << 20) for thread in threading.enumerate()):
        time.sleep(0.05)
