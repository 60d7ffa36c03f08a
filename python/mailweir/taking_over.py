"""How this process takes over from the one before it, in an upgrade. Owned by the daemon, called by
its main loop once everything is prepared.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from pydantic import ValidationError

from mailweir.config.model import Config
from mailweir.config.words import HaKeeper, HaRole
from mailweir.process_parts import ProcessParts
from mailweir.state.overrides import Overrides
from mailweir.upgrade.channel import Go
from mailweir.upgrade.predecessor import Predecessor

_log = structlog.get_logger("mailweir")


class TakingOver:
    """Called with what opens the listeners. Raises StartError where the process before fails."""

    def __init__(
        self,
        predecessor: Predecessor,
        parts: ProcessParts,
        config: Config,
        *,
        version: str,
        open_admin: Callable[[], Awaitable[None]],
        tell_role: Callable[[HaRole, HaKeeper], object],
    ) -> None:
        self._predecessor = predecessor
        self._parts = parts
        self._config = config
        self._version = version
        self._open_admin = open_admin
        self._tell_role = tell_role
        self._following: asyncio.Task[None] | None = None

    async def __call__(self, open_listeners: Callable[[], Awaitable[None]]) -> None:
        go = await self._predecessor.go(self._version)
        self._remember(go)
        await self._open_admin()
        await open_listeners()
        await self._predecessor.released()
        _log.info("took over", before=self._predecessor.pid)
        # Nothing is applied meanwhile: what it had in the kernel may be taken from here on.
        self._following = asyncio.create_task(
            self._predecessor.follow(self._parts.plane.set_elsewhere)
        )

    def _remember(self, go: Go) -> None:
        try:
            said = Overrides.model_validate_json(go.overrides)
        except ValidationError as error:
            # Of another version; its file was read at the start.
            _log.error("operators' words are taken from their file", reason=str(error))
        else:
            # By this process's own hand: what the one before couldn't write isn't lost.
            self._parts.operator.inherit(said, self._config)
        if go.role in [*HaRole] and go.keeper in [*HaKeeper]:
            self._tell_role(HaRole(go.role), HaKeeper(go.keeper))
