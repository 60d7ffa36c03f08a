"""Signals that mean something to `mailweir run`, and nothing here: who sends them to every process
of mailweir ends none. Used by `agent` and `witness`.
"""

import asyncio
import signal
from functools import partial

import structlog

_OTHERS = (signal.SIGUSR1, signal.SIGUSR2)

_log = structlog.get_logger("mailweir")


def ignore_others(loop: asyncio.AbstractEventLoop) -> None:
    """Say so where they come."""
    for number in _OTHERS:
        loop.add_signal_handler(number, partial(_ignore, number))


def _ignore(number: signal.Signals) -> None:
    _log.info(f"{number.name} ignored: it is for `mailweir run`")
