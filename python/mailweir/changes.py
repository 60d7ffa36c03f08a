"""The main loop: intents become changes, one at a time, so that no two of them ever meet.

Owned by the daemon. What takes long before a configuration can run (its files, the first checks of
its servers) goes on beside the loop, which acts on health and operators' words meanwhile; what
waits in the data plane is called in a lane.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial

import structlog

from mailweir.config.load import Loaded
from mailweir.config.model import Config
from mailweir.errors import (
    BusyError,
    ConfigError,
    MailweirError,
    PlaneError,
    Problem,
)
from mailweir.faults import FaultPart
from mailweir.giving_way import GivingWay, Upgrading
from mailweir.health.first import first_checks
from mailweir.health.target import CheckKey, Target, targets
from mailweir.intents import Intents
from mailweir.operator import Operator, Speaker
from mailweir.process_parts import ProcessParts
from mailweir.reload import (
    Difference,
    Read,
    Reader,
    ReloadOutcome,
    answer,
    log_problems,
    refuse_what_is_fixed,
)
from mailweir.spec import DesiredState, ServerKey
from mailweir.state import diff
from mailweir.state.desired import NO_WISH, Health, Wish, ending, fold
from mailweir.state.keeping import PATIENCE
from mailweir.state.reconcile import Reconciler
from mailweir.upgrade.successor import UpgradeOutcome

# Each change of a server's health costs some 20 us for every server. Those of thousands are taken
# together, so that most of the time is left for checks: seconds to wait, for each server.
_GATHERED = 0.0001
# An operator's word ends by the clock, which may be set: that is looked at so often, in seconds.
_LOOK = 30.0

_log = structlog.get_logger("mailweir")


# Makes the process before this one give way; what it is given opens the listeners.
TakeOver = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]


class Changes:
    """All that changes what runs."""

    def __init__(
        self,
        intents: Intents,
        parts: ProcessParts,
        reader: Reader,
        first: Read,
        *,
        on_open: Callable[[], None],
        on_round: Callable[[], None],
        upgrading: Upgrading,
        take_over: TakeOver | None,
    ) -> None:
        """`first` is to run first. `on_open` is called when the listeners are open, `on_round`
        after each round of the loop from then on. `take_over` is called before that, where there is
        a process before this one.
        """
        self._intents = intents
        self._parts = parts
        self._reader = reader
        # For who only asks: he may ask again and again.
        self._reader_for_others = Reader(parts.file)
        self._read = first
        self._on_open = on_open
        self._on_round = on_round
        self.giving_way = GivingWay(intents, parts, upgrading)
        self._take_over = take_over
        self.reconciler = Reconciler(parts.plane)
        self.last_load = ReloadOutcome(True, 0, "starting", time.time())
        # Servers whose sessions were ended since they are down.
        self._ended: frozenset[ServerKey] = frozenset()
        # Who waits until what changed of servers or listeners counts.
        self._waiting: list[asyncio.Future[str]] = []
        self._sound_overrides = parts.operator.overrides  # when a change last succeeded
        # A configuration on its way to run, and who waits for it; with the first one nobody.
        self._coming: asyncio.Task[Read] | None = None
        self._loaded_to_come: Loaded | None = None
        self._waiting_for_reload: list[asyncio.Future[ReloadOutcome]] = []
        # Whether sessions are relayed whatever the configuration says: those in the kernel would
        # end with this process, which gives way, or it can't have the kernel path.
        self._relays = self._is_without_kernel_path = False

    @property
    def loaded(self) -> Loaded:
        """The configuration that runs."""
        return self._read.loaded

    # --- intents -----------------------------------------------------------

    def checked(self) -> None:
        """A check found something new of a server."""
        self._intents.states_changed = True
        wait = _GATHERED * len(self._parts.monitor)
        asyncio.get_running_loop().call_later(wait, self._intents.wake.set)

    async def operate(
        self, change: Callable[[Operator, Config], None], *, what: str, speaker: Speaker
    ) -> str:
        """Let an operator change something; returns once it counts, with what is wrong: it won't
        outlive the process, say. Empty where nothing is. Called by the admin routes.

        Raises UnknownError where `change` does, and BusyError.
        """
        if self.giving_way.hands_over:
            # It wouldn't be known to the next process.
            raise BusyError("mailweir is being upgraded; try again in a moment")
        change(self._parts.operator, self.loaded.config)
        _log.info("operator", change=what, **speaker.said())
        if self._intents.terminations:
            return "the process is ending; nothing changes any more"
        refused = await self._states_are_to_change()
        return "; ".join(filter(None, (refused, await self._parts.keeping.settled(PATIENCE))))

    def _states_are_to_change(self) -> asyncio.Future[str]:
        """What comes of it, once that is known."""
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._intents.change_states()
        return waiter

    async def reload(self) -> ReloadOutcome:
        """Ask the main loop for a reload and wait for its outcome. Called by the admin routes."""
        if self._intents.terminations:
            return self._refused("the process is ending; nothing is reloaded any more")
        self._intents.reload()
        return await self._intents.reloads.outcome()

    async def upgrade(self) -> UpgradeOutcome:
        """Have the next process take over, and wait for that. Called by the admin routes."""
        if self._intents.terminations or self.reconciler.applied is None:
            return UpgradeOutcome(False, "the process begins or ends; nothing is upgraded")
        self._intents.upgrade()
        return await self._intents.upgrades.outcome()

    async def difference(self) -> Difference:
        """What a reload would change, without one. Called by the admin routes."""
        try:
            loaded = (await self._reader_for_others.read()).loaded
            self._refuse_what_is_fixed(loaded)
        except ConfigError as error:
            return Difference((), tuple(map(str, error.problems)), tuple(map(str, error.warnings)))
        except MailweirError as error:
            return Difference((), (str(error),), ())
        before = self.reconciler.applied
        settled = diff.settings(self.loaded.config, loaded.config)
        found = diff.changes(before, self._fold(loaded), settled) if before else []
        return Difference(tuple(found), (), tuple(map(str, loaded.warnings)))

    # --- the loop ----------------------------------------------------------

    async def run(self) -> None:
        """Act on intents until one says to end, or the next process serves. Raises MailweirError
        where the first configuration can't be made to run.
        """
        self._prepare(self._first_checked())
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._next_look()):
                    await self._intents.wake.wait()
            self._intents.wake.clear()
            if self._intents.terminations or self.giving_way.successor:
                break
            try:
                await self._act()
            except Exception as error:
                # Before the listeners are open it is who starts the process that has to know.
                if self.reconciler.applied is None:
                    raise
                self._parts.faults.note(FaultPart.CHANGE, error)
        await self._give_up()

    async def _act(self) -> None:
        for what in self._parts.operator.forget_those_over():
            _log.info("operator's word is over", change=what)
            self._intents.states_changed = True
        if self._intents.states_changed:
            await self._act_on_states()
        if self._coming is not None and self._coming.done():
            coming, self._coming = self._coming, None
            if self.reconciler.applied is None:
                await self._open(coming.result())
            else:
                await self._act_on_coming(coming)
        if not await self.giving_way.hand_over():
            await self._relay(self._is_without_kernel_path)
        # One or the other: the next process reads the configuration as well.
        if self._coming is None and not self.giving_way.is_under_way:
            await self._begin_what_is_wanted()
        if self.reconciler.applied is not None:
            self._on_round()

    async def _begin_what_is_wanted(self) -> None:
        if (reloads := self._intents.reloads.take()) is not None:
            self._waiting_for_reload = reloads
            self._parts.supervisor.reloading()
            self._prepare(self._reloaded())
        elif self.reconciler.applied and (upgrades := self._intents.upgrades.take()) is not None:
            await self._relay(self._relays or self.giving_way.ends_flows)
            self.giving_way.begin(upgrades)

    async def _relay(self, relays: bool) -> None:
        if relays != self._relays:
            self._relays = relays
            await self._act_on_states()

    async def _give_up(self) -> None:
        """What is under way; whoever waits is told."""
        if self._coming is not None:
            self._coming.cancel()
        why = "the process is ending"
        await self.giving_way.give_up(why)
        reloads = self._intents.reloads.take()
        if self.giving_way.successor is not None:
            why = "another process serves by now, and reads the configuration again"
            if reloads is not None:
                self.giving_way.tell(signal.SIGHUP)
        answer([*self._waiting_for_reload, *(reloads or [])], self._refused(why))
        answer(self._waiting, why)

    def _next_look(self) -> float | None:
        end = self._parts.operator.next_end()
        return None if end is None else min(end, _LOOK)

    def _prepare(self, work: Coroutine[object, object, Read]) -> None:
        """Have a configuration come beside the loop, which is woken when it is there."""
        self._coming = asyncio.create_task(work)
        self._coming.add_done_callback(lambda _: self._intents.wake.set())

    async def _first_checked(self) -> Read:
        await first_checks(self._parts.monitor)
        return self._read

    async def _reloaded(self) -> Read:
        """The file as it is now, when its servers have been checked once.

        Raises ConfigError, also where only a restart could take it, and StalledError.
        """
        read = await self._reader.read()
        self._refuse_what_is_fixed(read.loaded)
        self._loaded_to_come = read.loaded
        self.watch_servers()
        await first_checks(self._parts.monitor)
        return read

    def _refuse_what_is_fixed(self, new: Loaded) -> None:
        """Raises ConfigError where only a restart could take it."""
        kernel_path = self._parts.plane.stats().kernel_path is not None
        refuse_what_is_fixed(self.loaded, new, kernel_path=kernel_path)

    def _fold(self, loaded: Loaded) -> DesiredState:
        health, words = self._parts.monitor.health(), self._parts.operator.overrides
        where = self._parts.room.where(loaded.config.max_sessions)
        desired = fold(
            loaded.config,
            health,
            words,
            hostname=self._parts.hostname,
            room=where.room,
            wishes=self._parts.monitor.wishes(),
            ejected=self._parts.outliers.ejected(),
        )
        return desired.relayed() if self._relays else desired

    def _known(self) -> dict[ServerKey, tuple[Health, Wish]]:
        """What checks and agents say of servers."""
        wishes = self._parts.monitor.wishes()
        health = self._parts.monitor.health()
        return {key: (one, wishes.get(key, NO_WISH)) for key, one in health.items()}

    def watch_servers(self) -> None:
        """Check those of the configuration that runs, and of one that comes, and count what comes
        of them.
        """
        self._check_targets()
        configs = [one.config for one in (self.loaded, self._loaded_to_come) if one]
        self._parts.metrics.keep(
            {
                ServerKey(name, server)
                for config in configs
                for name, pool in config.pools.items()
                for server in pool.servers
            }
        )

    def _check_targets(self) -> None:
        found = self._targets()
        self._parts.monitor.update(found)
        self._parts.metrics.keep_checks(found.keys())

    def _targets(self) -> dict[CheckKey, Target]:
        """What is to be checked: all servers of the configuration that runs, and those of one that
        comes, so that new servers are known before sessions go there.
        """
        words = self._parts.operator.overrides
        found = targets(self._loaded_to_come.config, words) if self._loaded_to_come else {}
        return found | targets(self.loaded.config, words)

    async def _act_on_states(self) -> None:
        self._intents.states_changed = False
        waiting, self._waiting = self._waiting, []
        refused = ""
        try:
            self._check_targets()
            # Before that the listeners aren't open, and are opened with all that was said.
            if self.reconciler.applied is not None:
                await self._reconcile(self.loaded.config, self._fold(self.loaded))
            self._sound_overrides = self._parts.operator.overrides
        except MailweirError as error:
            refused = str(error)
            _log.error("the data plane goes on as it was", reason=refused)
        except Exception as error:
            # A bug of ours: what was said must not come in the way of all later changes.
            self._parts.faults.note(FaultPart.CHANGE, error)
            refused = f"internal error: {error!r}; nothing has changed"
            self._parts.operator.go_back(self._sound_overrides)
        answer(waiting, refused)

    async def _open(self, first: Read) -> None:
        """The listeners. Raises PlaneError, and StartError where the process before this one fails
        to give way.
        """
        if self._take_over is not None:
            await self._take_over(partial(self._open_before, first))
        desired = self._fold(first.loaded)
        try:
            await self._reconcile(first.loaded.config, desired)
        except PlaneError as error:
            if self._take_over is None:
                raise
            # The process before this one serves no more. Sessions are relayed by now.
            _log.error("sessions are relayed: there is no kernel path", reason=str(error))
            self._relays = self._is_without_kernel_path = True
            desired = desired.relayed()
            await self._reconcile(first.loaded.config, desired)
        await self._keep_listening()
        message, warnings = diff.describe(None, desired), tuple(map(str, first.loaded.warnings))
        self.last_load = ReloadOutcome(True, 1, message, time.time(), warnings=warnings)
        self._parts.metrics.loaded(self.last_load)
        self._on_open()

    async def _open_before(self, first: Read) -> None:
        """While the process before this one has the kernel path. Raises PlaneError."""
        self._check_targets()  # by now as operators have it
        desired = self._fold(first.loaded).relayed()
        await self._parts.lane.call(partial(self.reconciler.reconcile, desired))

    async def _act_on_coming(self, coming: asyncio.Task[Read]) -> None:
        """Make a configuration that has come the running one, or say why not."""
        waiting, self._waiting_for_reload = self._waiting_for_reload, []
        try:
            self.last_load = outcome = await self._try_reload(coming)
        finally:
            self._loaded_to_come = None
        known = self._known()
        self.watch_servers()
        if any(known.get(key) != one for key, one in self._known().items()):
            # A check that is gone, or decides otherwise by now, had said something of a server.
            await self._act_on_states()
        self._parts.supervisor.ready(outcome.message)
        self._parts.metrics.reloaded(outcome)
        if outcome.ok:
            _log.info("reloaded", generation=outcome.generation, change=outcome.message)
        else:
            _log.error("reload refused, the old configuration stays", reason=outcome.message)
        answer(waiting, outcome)

    async def _try_reload(self, coming: asyncio.Task[Read]) -> ReloadOutcome:
        try:
            read = coming.result()
            is_another = read.loaded.config != self.loaded.config
            change = await self._take(read)
        except ConfigError as error:
            log_problems(error.problems, level="error")
            log_problems(error.warnings, level="warning")
            return self._refused(
                f"{self._parts.file} has {len(error.problems)} problem(s)",
                error.problems,
                error.warnings,
            )
        except MailweirError as error:
            return self._refused(str(error))
        except Exception as error:
            # A bug of ours: a reload that fails must never end the sessions that run.
            self._parts.faults.note(FaultPart.CHANGE, error)
            return self._refused(f"internal error: {error!r}")
        finally:
            # The task has the error, which leads to this frame: nobody would free what was read.
            del coming
        log_problems(read.loaded.warnings, level="warning")
        generation = self.last_load.generation + is_another
        warnings = tuple(map(str, read.loaded.warnings))
        return ReloadOutcome(True, generation, change, time.time(), warnings=warnings)

    async def _take(self, read: Read) -> str:
        """Make a configuration the running one; the change in one sentence."""
        new, old = read.loaded, self.loaded
        # Once more: a kernel path may have come while its servers were checked.
        self._refuse_what_is_fixed(new)
        relays, self._relays = self._relays, False
        try:
            desired = self._fold(new)
            settled = diff.settings(old.config, new.config)
            change = diff.describe(self.reconciler.applied, desired, settled)
            await self._reconcile(new.config, desired)
        except BaseException:
            self._relays = relays
            raise
        # From here on it runs, whatever else fails.
        self._read, self._is_without_kernel_path = read, False
        try:
            self._parts.digests.take(read.agreement)
            await self._parts.admin.take(new.roles, new.config.admin.hosts)
            await self._keep_listening()
            for what in self._parts.operator.forget_absent(new.config):
                _log.info("operator's word is forgotten: what it was about is gone", change=what)
        except Exception as error:
            self._parts.faults.note(FaultPart.CHANGE, error)
        return change

    async def _reconcile(self, config: Config, desired: DesiredState) -> None:
        """Have it run, and end the sessions of servers that are down by it, where they are to. Only
        then: they would come back before. Raises PlaneError.
        """
        ends = ending(config, desired, self._parts.monitor.health())
        await self._parts.lane.call(partial(self.reconciler.reconcile, desired))
        new, self._ended = ends - self._ended, ends
        for key in sorted(new, key=str):
            number = await self._parts.lane.call(partial(self._parts.plane.end_of_server, key))
            if number:
                _log.warning(
                    "sessions ended: their server is down", server=str(key), sessions=number
                )

    async def _keep_listening(self) -> None:
        """Should this process die, who comes until the next one runs waits for that."""
        supervisor, plane = self._parts.supervisor, self._parts.plane
        if not supervisor.is_there:
            return
        try:
            await self._parts.lane.call(lambda: supervisor.store.keep(plane.listening()))
        except MailweirError as error:
            _log.warning("a restart would refuse clients", reason=str(error))

    def _refused(
        self,
        message: str,
        problems: tuple[Problem, ...] = (),
        warnings: tuple[Problem, ...] = (),
    ) -> ReloadOutcome:
        return ReloadOutcome(
            False,
            self.last_load.generation,
            message,
            time.time(),
            tuple(map(str, problems)),
            tuple(map(str, warnings)),
        )
