"""The control plane's log: one line per event, `key=value`, to stderr. Set up by the daemon."""

import logging
import sys
from typing import TextIO

import structlog

_TIME = structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts")


def configure(
    *,
    verbose: bool,
    also: structlog.typing.Processor | None = None,
    stream: TextIO = sys.stderr,
) -> None:
    """Send structlog's and the standard library's lines to `stream`.

    Colours and columns on a terminal, logfmt elsewhere. `verbose` shows debug lines. Our own
    lines go through `also`, with their level and time.
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
    handler = logging.StreamHandler(stream)
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
