"""One check of one server: the probe of its kind under one deadline. Called by the monitor."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from mailweir.config.units import format_duration
from mailweir.config.words import CheckKind
from mailweir.foreign import shown
from mailweir.health.probes import (
    agents,
    auth,
    ehlo,
    greeting,
    message,
    proxy,
    rcpt,
    starttls,
    tcp,
    web,
)
from mailweir.health.probes.dial import NOTHING_LEARNED, Learned, LocalError, ProbeError, Progress
from mailweir.health.target import Target
from mailweir.state.desired import Health

_PROBES: Mapping[CheckKind, Callable[[Target, Progress], Awaitable[None]]] = {
    CheckKind.TCP: tcp.probe,
    CheckKind.GREETING: greeting.probe,
    CheckKind.EHLO: ehlo.probe,
    CheckKind.STARTTLS: starttls.probe,
    CheckKind.AUTH: auth.probe,
    CheckKind.RCPT: rcpt.probe,
    CheckKind.MESSAGE: message.probe,
    CheckKind.HTTP: web.probe,
    CheckKind.HTTPS: web.probe,
    CheckKind.AGENT: agents.probe,
}
# Of a session by SMTP.
_FIRST_STEPS = ("greeting", "ehlo")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found. `step` and `detail` say what failed and are empty where nothing did.

    One that isn't `conclusive` couldn't be made and says nothing of the server.
    """

    verdict: Health  # never UNKNOWN
    step: str
    detail: str
    seconds: float
    at: float  # on time.monotonic's clock
    conclusive: bool = True
    learned: Learned = NOTHING_LEARNED

    @property
    def ok(self) -> bool:
        """Whether the server passed."""
        return self.verdict is Health.UP and not self.step

    @property
    def alarm(self) -> str:
        """What is about to go wrong, though the server passed."""
        return self.learned.alarm

    @property
    def certificate_end(self) -> float | None:
        """Of the server's, in seconds since 1970."""
        return self.learned.certificate_end

    @property
    def agent(self) -> str:
        """What an agent said."""
        return self.learned.agent


async def run(target: Target) -> Outcome:
    """Check a server once. Never raises but for cancellation."""
    progress = Progress()
    started = time.monotonic()
    step = detail = ""
    verdict, conclusive = Health.UP, True
    try:
        async with asyncio.timeout(target.check.timeout):
            await _PROBES[target.kind](target, progress)
    except ProbeError as error:
        verdict, step, detail = _failed(error, target)
    except LocalError as error:
        verdict, step, detail, conclusive = Health.DOWN, "local", str(error), False
    except TimeoutError:
        if (failed := progress.failed) is not None:
            verdict, step, detail = _failed(failed, target)
        elif progress.lacking:
            verdict, step, detail, conclusive = Health.DOWN, "local", progress.lacking, False
        elif not progress.passed:
            verdict, step, conclusive = Health.DOWN, progress.step, progress.conclusive
            detail = f"no {progress.awaited} within {format_duration(target.check.timeout)}"
    except Exception as error:
        # A bug of ours or of a library: it must not end the checks of this server.
        verdict, step = Health.DOWN, progress.step
        detail = shown(f"internal error: {error!r}")
    seconds = time.monotonic() - started
    return Outcome(verdict, step, detail, seconds, started, conclusive, progress.learned)


def _failed(error: ProbeError, target: Target) -> tuple[Health, str, str]:
    """The verdict, the step and the words; the first ones of a session may be about its header."""
    asks = proxy.question(error.detail, target.proxy) if error.step in _FIRST_STEPS else ""
    return error.verdict, error.step, error.detail + asks
