"""The control plane's log: one line per event, `key=value`, to stderr. Set up by the command
line.
"""

import atexit
import logging
import sys
from contextlib import suppress
from logging.handlers import QueueHandler
from queue import Full, Queue
from threading import Thread
from typing import TextIO

import structlog

# Lines that wait for a reader who is slow; more are dropped.
_MOST_WAITING = 1000
# Seconds that the last lines may take when the process ends.
_LAST_WORDS = 1.0

_TIME = structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts")


def configure(
    *,
    verbose: bool,
    also: structlog.typing.Processor | None = None,
    stream: TextIO = sys.stderr,
    never_waits: bool = False,
) -> None:
    """Send structlog's and the standard library's lines to `stream`.

    Colours and columns on a terminal, logfmt elsewhere. `verbose` shows debug lines. Our own
    lines go through `also`, with their level and time. With `never_waits` a thread writes them, so
    that whoever doesn't read `stream` stops nobody; what he can't take is dropped.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        _TIME,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            *shared,
            *([also] if also else []),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: structlog.typing.Processor
    if stream.isatty():
        renderer = structlog.dev.ConsoleRenderer(timestamp_key="ts")
    else:
        renderer = structlog.processors.LogfmtRenderer(key_order=["ts", "level", "event"])
    handler: logging.Handler = logging.StreamHandler(stream)
    if never_waits:
        handler = _in_a_thread(handler)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    # asyncio says at debug which selector it uses, and the like.
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _in_a_thread(handler: logging.Handler) -> logging.Handler:
    """Has a thread write, and wait for it for a moment when the process ends."""
    waiting: Queue[logging.LogRecord | None] = Queue(_MOST_WAITING)

    def write() -> None:
        while (record := waiting.get()) is not None:
            handler.handle(record)

    def finish() -> None:
        with suppress(Full):
            waiting.put_nowait(None)
            thread.join(_LAST_WORDS)

    thread = Thread(target=write, name="log", daemon=True)
    thread.start()
    atexit.register(finish)
    return _Dropping(waiting)


class _Dropping(QueueHandler):
    """Hands lines to another thread, where there is room for them."""

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(Full):
            self.queue.put_nowait(record)
