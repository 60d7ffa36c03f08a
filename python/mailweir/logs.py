"""The control plane's log: one line per event, `key=value`, to stderr. Set up by the command
line.
"""

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from logging.handlers import QueueHandler
from queue import Full, Queue
from typing import TextIO

import structlog

# Lines that wait for a reader who is slow; more are dropped.
_MOST_WAITING = 1000
# Seconds that the last lines may take when the process ends.
_LAST_WORDS = 0.5
_STDERR = 2

_TIME = structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts")
_LOGFMT = structlog.processors.LogfmtRenderer(key_order=["ts", "level", "event"])


def configure(
    *,
    verbose: bool,
    also: structlog.typing.Processor | None = None,
    stream: TextIO | None = None,
) -> None:
    """Send structlog's and the standard library's lines to `stream`, or to standard error.

    Colours and columns on a terminal, logfmt elsewhere. `verbose` shows debug lines. Our own
    lines go through `also`, with their level and time. To standard error a thread writes them, so
    that whoever doesn't read it stops nobody; what he can't take is dropped, and counted.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        _TIME,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,  # first: what nobody is to see costs no more
            *shared,
            *([also] if also else []),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    on_terminal = stream.isatty() if stream else os.isatty(_STDERR)
    renderer = structlog.dev.ConsoleRenderer(timestamp_key="ts") if on_terminal else _LOGFMT
    handler: logging.Handler
    if stream:
        handler = logging.StreamHandler(stream)
    else:
        handler, finish = in_a_thread(_STDERR)
        atexit.register(finish)
        _take_over_standard_error()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    _quieten_libraries()


def _quieten_libraries() -> None:
    # asyncio says at debug which selector it uses, and the like.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    # aiosmtpd's, which tells of every session and every command.
    logging.getLogger("mail").setLevel(logging.ERROR)


def _take_over_standard_error() -> None:
    """What Python would write there by itself, in whichever thread that is, goes the same way: of
    exceptions that nobody can catch, and of those that end a thread.
    """
    log = structlog.get_logger("mailweir")

    def unraisable(what: "sys.UnraisableHookArgs") -> None:
        event = what.err_msg or "an exception that nobody could catch"
        log.error(event, at=repr(what.object), exc_info=what.exc_value)

    def ended(what: threading.ExceptHookArgs) -> None:
        name = what.thread.name if what.thread else ""
        log.error("an exception ended a thread", thread=name, exc_info=what.exc_value)

    sys.unraisablehook = unraisable
    threading.excepthook = ended


def dropped() -> int:
    """Lines that nobody read in time, or that couldn't be written."""
    found = (one for one in logging.getLogger().handlers if isinstance(one, Writing))
    return sum(one.dropped + one.failed for one in found)


class Writing(QueueHandler):
    """Hands lines to a thread that writes them, where there is room for them."""

    def __init__(self, waiting: "Queue[logging.LogRecord | None]") -> None:
        super().__init__(waiting)
        self.waiting = waiting
        self.dropped = 0  # for want of room
        self.failed = 0  # to be written

    def enqueue(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock, and never waits."""
        try:
            self.waiting.put_nowait(record)
        except Full:
            self.dropped += 1


def in_a_thread(descriptor: int) -> tuple[Writing, Callable[[], None]]:
    """Has a thread write there. What is returned too ends that, and waits for it for a moment.

    Not by `sys.stderr`: a thread that is stuck in there has its lock, which the interpreter wants
    at its end, and it aborts where that can't be had.
    """
    waiting: Queue[logging.LogRecord | None] = Queue(_MOST_WAITING)
    handler = Writing(waiting)

    def write() -> None:
        said = 0
        while (record := waiting.get()) is not None:
            line = f"{record.getMessage()}\n"
            if missing := handler.dropped - said:
                said += missing
                line += f"{_missing(missing)}\n"
            if not _written(descriptor, line.encode(errors="replace")):
                handler.failed += 1

    def finish() -> None:
        with suppress(Full):
            waiting.put_nowait(None)
            thread.join(_LAST_WORDS)

    thread = threading.Thread(target=write, name="log", daemon=True)
    thread.start()
    return handler, finish


def _missing(lines: int) -> str:
    """As another line of the log would say it."""
    event = "lines are missing about here: nobody read standard error"
    fields = _TIME(None, "", {"level": "warning", "event": event, "lines": lines})
    return str(_LOGFMT(None, "", fields))


def _written(descriptor: int, data: bytes) -> bool:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except OSError:
            return False
    return True
