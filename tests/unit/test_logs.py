"""Log lines: logfmt off a terminal, levels, the standard library's lines as well."""

import io
import logging
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
