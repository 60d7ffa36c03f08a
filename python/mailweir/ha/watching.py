"""Finds out, again and again, what the state machine has to know of the network around this node:
gateways, machines that have its addresses, links that come late.

Each is of use by itself: that it can't be found out for a while costs nothing else. Run by `agent`.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from mailweir.ha.kernel import neighbours
from mailweir.ha.kernel.frames import IP
from mailweir.ha.machine.facts import Facts

# How often gateways are asked, and how long they have to answer.
_GATEWAY_EVERY = 1.0
_GATEWAY_WAIT = 0.5
# The same of machines that have this node's own addresses.
_DOUBLE_EVERY = 5.0
_DOUBLE_WAIT = 0.1
# How often links are looked at.
_LINKS_EVERY = 0.2

_log = structlog.get_logger("mailweir")


class Watching:
    """Of one node."""

    def __init__(
        self,
        learn: Callable[[Facts], None],
        *,
        gateways: Callable[[], Sequence[IP]],
        own: Sequence[IP],
        mend_links: Callable[[], dict[int, str]],
    ) -> None:
        """`gateways` are those of the moment; `mend_links` says which links can't be used."""
        self._learn = learn
        self._gateways = gateways
        self._own = own
        self._mend_links = mend_links
        self._problems: dict[str, str] = {}

    async def gateways(self) -> None:
        """Until cancelled."""
        while True:
            if found := self._gateways():
                try:
                    answers = await neighbours.any_answers(found, wait=_GATEWAY_WAIT)
                except OSError as error:
                    self._note("gateways can't be asked", error)
                else:
                    self._note("gateways can't be asked", None)
                    self._learn(Facts(gateway_answers=answers))
            await asyncio.sleep(_GATEWAY_EVERY)

    async def doubles(self) -> None:
        """Until cancelled."""
        what = "it can't be asked whether another machine has this node's addresses"
        while True:
            try:
                double = await neighbours.double_of(self._own, wait=_DOUBLE_WAIT)
            except OSError as error:
                self._note(what, error)
            else:
                self._note(what, None)
                self._learn(Facts(double=double))
            await asyncio.sleep(_DOUBLE_EVERY)

    async def links(self) -> None:
        """Until cancelled."""
        before: dict[int, str] = {}
        while True:
            absent = self._mend_links()
            if absent != before:
                self._learn(Facts(absent_links=absent))
                before = absent
            await asyncio.sleep(_LINKS_EVERY)

    def _note(self, what: str, error: OSError | None) -> None:
        """Said once, however often it fails."""
        reason = str(error) if error is not None else ""
        if reason and self._problems.get(what) != reason:
            _log.warning(what, reason=reason)
        self._problems[what] = reason
