"""Brings the data plane to a desired state with the smallest step. Called by the daemon."""

import structlog

from mailweir.plane import Plane
from mailweir.spec import DesiredState
from mailweir.state.diff import changed_server_states, panics

_log = structlog.get_logger("mailweir")


class Reconciler:
    """Knows what the data plane was last told. One caller at a time."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self.applied: DesiredState | None = None

    def reconcile(self, desired: DesiredState) -> None:
        """Have it run.

        Where only server states differ, they alone are set: no new snapshot. May take a while
        (binds sockets). Raises PlaneError, and then what ran before still runs.
        """
        states = changed_server_states(self.applied, desired)
        if states is None:
            self._plane.apply(desired)
        elif states:
            self._plane.set_server_states(states)
        for pool, begins, reason in panics(self.applied, desired):
            if begins:
                _log.warning("panic: servers that are down are tried too", pool=pool, reason=reason)
            else:
                _log.info("panic is over", pool=pool, reason=reason)
        self.applied = desired
