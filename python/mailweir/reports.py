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
        outcome = result.outcome
        self._metrics.checked(result.key, failed_step=outcome.step, seconds=outcome.seconds)
        reason = f"{outcome.step}: {outcome.detail}" if outcome.step else "check passed"
        if result.before is result.after:
            _log.debug("checked", server=str(result.key), health=result.after, reason=reason)
            return
        say = _log.warning if result.after is Health.DOWN else _log.info
        say(
            "server changed",
            server=str(result.key),
            change=f"{result.before} -> {result.after}",
            reason=reason,
        )
        if result.before is not Health.UNKNOWN:
            self._metrics.transition(result.key)
        self._on_change()

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
