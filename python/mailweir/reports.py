"""What checks and the data plane report of servers, and of threads that panicked: said in the log,
counted, and passed on to who acts on it. Owned by the daemon.
"""

from collections.abc import Callable

import structlog

from mailweir.admin.metrics import Metrics
from mailweir.faults import FaultPart, Faults
from mailweir.health.monitor import Result
from mailweir.plane import Plane
from mailweir.spec import ServerKey
from mailweir.state.desired import Health

_log = structlog.get_logger("mailweir")


class Reports:
    """Of one process."""

    def __init__(
        self,
        plane: Plane,
        metrics: Metrics,
        faults: Faults,
        *,
        on_change: Callable[[], None],
        hurry: Callable[[ServerKey], None],
    ) -> None:
        """`on_change` is called where a check found something new, `hurry` has a server checked."""
        self._plane = plane
        self._metrics = metrics
        self._faults = faults
        self._on_change = on_change
        self._hurry = hurry

    def checked(self, result: Result) -> None:
        """A check's result. Called by the monitor."""
        self._metrics.checked(
            result.key.server,
            result.key.check,
            verdict=result.outcome.verdict if result.outcome.conclusive else None,
            failed_step=result.outcome.step,
            seconds=result.outcome.seconds,
            alarm=result.alarm,
            certificate_end=result.outcome.certificate_end,
        )
        self._say_alarm(result)
        reason = _reason(result)
        if result.before is result.after:
            _log.debug("checked", server=str(result.key.server), health=result.after, reason=reason)
        else:
            say = _log.info if result.after is Health.UP else _log.warning
            say(
                "server changed",
                server=str(result.key.server),
                change=f"{result.before} -> {result.after}",
                reason=reason,
            )
            if result.before is not Health.UNKNOWN:
                self._metrics.transition(result.key.server)
        was, now = result.wish
        if was != now:
            _log.info(
                "agent's word", server=str(result.key.server), says=result.outcome.learned.agent
            )
        if was != now or result.before is not result.after:
            self._on_change()

    def _say_alarm(self, result: Result) -> None:
        """What comes of a check that takes no server out of use: somebody has to see to it."""
        if result.alarm == result.was_alarm or result.before is not result.after:
            return
        if result.key.is_main and result.outcome.conclusive and not result.outcome.alarm:
            return  # it says of the server what there is to say
        about = {"server": str(result.key.server), "check": result.key.check}
        if result.alarm:
            _log.warning("check alarm", **about, reason=result.outcome.alarm or _reason(result))
        else:
            _log.info("check alarm is over", **about)

    def take(self) -> None:
        """Servers failed live sessions: their checks needn't wait. Or a thread of the data plane
        panicked.
        """
        for trouble in self._plane.take_troubles():
            key = ServerKey(trouble.pool, trouble.server)
            _log.debug(
                "failed a session", server=str(key), reason=f"{trouble.step} {trouble.cause}"
            )
            self._metrics.trouble(key)
            self._hurry(key)
        for panic in self._plane.take_panics():
            self._faults.note(FaultPart.DATA_PLANE, panic)


def _reason(result: Result) -> str:
    outcome = result.outcome
    reason = f"{outcome.step}: {outcome.detail}" if outcome.step else "check passed"
    return reason if result.key.is_main else f"{result.key.check}: {reason}"
