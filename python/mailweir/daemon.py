"""The process: its startup, its signals, its end. The only module that knows everyone.

Started by `mailweir run`. `changes` is its main loop, `running` what is asked of it. Signals and
check results only leave an intent; the main loop acts on it, one thing at a time, so that no two
changes ever meet. The way of a change: `config.load`, `state.desired.fold`, `state.diff` (the log
line), `state.reconcile`, the data plane.

Nothing in the event loop waits: what may is called in a lane (`lanes`). What takes long before a
change can be made (files, first checks) goes on beside the main loop, which goes round meanwhile.
"""

import asyncio
import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import structlog

from mailweir import room
from mailweir.admin import routes
from mailweir.admin.digests import Digests
from mailweir.admin.guard import Hosts
from mailweir.admin.metrics import Metrics
from mailweir.admin.server import AdminServer
from mailweir.changes import Changes
from mailweir.config.model import Config
from mailweir.ejections import Ejections
from mailweir.ending import drain
from mailweir.errors import Exit
from mailweir.faults import FaultPart, Faults, kept_going
from mailweir.handing_over import HandingOver
from mailweir.health import check
from mailweir.health.monitor import Monitor, Result
from mailweir.health.outliers import Outliers
from mailweir.instance import only_instance
from mailweir.intents import Intents
from mailweir.journal import Journal
from mailweir.lanes import Lane
from mailweir.notices import notice
from mailweir.operator import Operator, remembering
from mailweir.plane import EmbeddedPlane, Plane
from mailweir.process_parts import ProcessParts
from mailweir.reload import Read, Reader, log_problems
from mailweir.reports import Reports
from mailweir.running import Running
from mailweir.spec import DesiredState, ServerKey
from mailweir.state.keeping import PATIENCE, Keeping
from mailweir.state.overrides_file import OverridesFile
from mailweir.supervisor import Supervisor
from mailweir.taking_over import TakingOver
from mailweir.upgrade.predecessor import Predecessor

# Seconds that a disk may take at the start.
_DISK_LIMIT = 10.0
# New objects after which garbage is looked for. Python's own 700 are a few checks: with thousands
# of servers a tenth of the time went there, and found next to nothing.
_GARBAGE = 10_000
# Seconds that the end may take in order once somebody said TERM twice.
_LAST_RESORT = 5.0

_log = structlog.get_logger("mailweir")


class Daemon:
    """One `mailweir run`."""

    def __init__(
        self,
        config_file: Path,
        *,
        version: str,
        journal: Journal,
        supervisor: Supervisor,
        predecessor: Predecessor | None = None,
        start_plane: Callable[[int, Sequence[socket.socket]], Plane] = EmbeddedPlane,
    ) -> None:
        self._file = config_file
        self._version = version
        self._journal = journal
        self._supervisor = supervisor
        self._predecessor = predecessor
        self._start_plane = start_plane
        self._started, self._began = time.time(), time.monotonic()
        self._hostname = socket.gethostname()
        self._exits = AsyncExitStack()
        self._faults = Faults()
        self._reader = Reader(config_file)
        # What waits in the data plane: binding, emptying queues, stopping.
        self._lane = Lane("data plane")
        self._intents = Intents()
        self._outliers = Outliers()
        self._last_resort: threading.Timer | None = None
        # What the process that serves now instead of this one is to hear.
        self._tell_next: Callable[[signal.Signals], None] = lambda _: None
        # Made in startup, in this order.
        self._plane: Plane | None = None
        self._reports: Reports
        self._ejections: Ejections
        self._parts: ProcessParts
        self._changes: Changes
        self._handing_over: HandingOver
        self.running: Running

    async def run(self) -> None:
        """Serve until told to stop. Raises MailweirError where it can't start."""
        self._exits.callback(self._has_ended)  # last of all
        async with self._exits:
            asyncio.get_running_loop().set_exception_handler(self._on_loop_fault)
            self._watch_signals()  # a HUP from here on is a reload, and doesn't end the process
            if await self._unless_told_to_end(self._startup()):
                await self._changes.run()
                following = self._changes.giving_way.successor
                if following is not None:
                    await self._handing_over.retire(*following)
                if following is None or self._intents.terminations:
                    await self._shutdown()

    def _has_ended(self) -> None:
        if self._last_resort is not None:
            self._last_resort.cancel()

    async def _unless_told_to_end(self, work: Coroutine[object, object, None]) -> bool:
        """Whether it was done before somebody said TERM. Raises what it raises."""
        doing = asyncio.create_task(work)
        told = asyncio.create_task(self._intents.told_to_end.wait())
        await asyncio.wait({doing, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if doing.done():
            doing.result()
            return True
        doing.cancel()
        with suppress(asyncio.CancelledError):
            await doing
        _log.info("stopping before it was started")
        return False

    # --- startup -----------------------------------------------------------

    async def _startup(self) -> None:
        """From the file to the admin socket. Whatever was begun is undone by `run`."""
        first = await self._reader.read()
        config = first.loaded.config
        log_problems(first.loaded.warnings, level="warning")
        lock = await self._lock(config.state_dir)
        keeping = Keeping(OverridesFile(config.state_dir))
        operator = await remembering(keeping, config, self._on_ready)
        found = room.read()
        self._workers = config.workers or len(os.sched_getaffinity(0))

        # In this order: a start that is given up is waited for, and undone.
        self._exits.push_async_callback(self._lane.call, self._stop_plane)
        plane = await self._lane.call(self._begin_plane)
        self._parts = self._made(first, plane, operator, keeping, found)
        self._handing_over = HandingOver(
            self._parts,
            self._intents,
            lock,
            role=lambda: self.running.role.told,
            before=self._sessions_before,
            end=self._on_end,
            reopen=self._on_usr1,
        )
        self._exits.push_async_callback(self._parts.monitor.close)
        self._exits.push_async_callback(self._parts.admin.close)
        self._changes = Changes(
            self._intents,
            self._parts,
            self._reader,
            first,
            on_open=self._on_open,
            on_round=lambda: self.running.note_readiness(),
            upgrading=self._handing_over,
            take_over=self._taking_over(config),
        )
        self._tell_next = self._changes.giving_way.tell
        self.running = Running(
            self._parts,
            self._changes,
            self._intents,
            version=self._version,
            started=self._started,
            began=self._began,
            predecessor=self._predecessor,
        )
        self._changes.watch_servers()
        # Before the listeners: a process that can't be asked shouldn't take sessions.
        if self._predecessor is None:
            await self._open_admin()

    async def _open_admin(self) -> None:
        registry = self._parts.metrics.registry
        await self._parts.admin.open(
            routes.answers(self.running, registry, self._journal), registry
        )

    async def _lock(self, state_dir: Path) -> int:
        """Be the only instance. Raises StartError, and StalledError where the disk hangs."""
        what = f"state_dir: taking {state_dir / 'lock'}"
        held = self._predecessor.lock if self._predecessor else None
        lock = Lane("lock").entered(only_instance(state_dir, held), limit=_DISK_LIMIT, what=what)
        return await self._exits.enter_async_context(lock)

    def _taking_over(self, config: Config) -> TakingOver | None:
        if self._predecessor is None:
            return None
        return TakingOver(
            self._predecessor,
            self._parts,
            config,
            version=self._version,
            open_admin=self._open_admin,
            tell_role=lambda role, keeper: self.running.role.tell(role, keeper),
        )

    def _made(
        self, first: Read, plane: Plane, operator: Operator, keeping: Keeping, found: room.Room
    ) -> ProcessParts:
        """What changes are made of; nothing of it has begun."""
        digests = Digests()
        digests.take(first.agreement)
        metrics = Metrics(self._faults, version=self._version, started=self._started)
        self._reports = Reports(
            plane,
            metrics,
            self._faults,
            on_change=lambda: self._changes.checked(),
            hurry=lambda key: self._parts.monitor.hurry(key),
        )
        self._ejections = Ejections(
            self._outliers,
            plane,
            metrics,
            on_change=self._intents.change_states,
            hurry=lambda key: self._parts.monitor.hurry(key),
            is_told=self._is_told,
        )
        return ProcessParts(
            file=self._file,
            hostname=self._hostname,
            room=found,
            plane=plane,
            lane=self._lane,
            monitor=Monitor(
                probe=check.run,
                on_result=self._on_result,
                random=Random(),  # noqa: S311 - spreads checks, keeps no secret
                faults=self._faults,
            ),
            outliers=self._outliers,
            operator=operator,
            keeping=keeping,
            digests=digests,
            admin=self._admin(first),
            metrics=metrics,
            supervisor=self._supervisor,
            faults=self._faults,
        )

    def _admin(self, first: Read) -> AdminServer:
        admin = first.loaded.config.admin
        return AdminServer(
            admin.socket,
            admin.http,
            first.loaded.roles,
            Hosts(self._hostname, admin.hosts),
            part="admin",
            faults=self._faults,
            inherited=self._predecessor.admin if self._predecessor else lambda _: None,
        )

    def _begin_plane(self) -> Plane:
        """In the lane."""
        store, before = self._supervisor.store, self._predecessor
        if before is not None:
            store.inherit(before.stored)
        kept = before.listening() if before else store.take()
        self._plane = self._start_plane(self._workers, kept)
        return self._plane

    def _stop_plane(self) -> None:
        """In the lane."""
        if self._plane is not None:
            self._plane.stop()

    def _on_open(self) -> None:
        """Sessions are taken."""
        config, message = self._changes.loaded.config, self._changes.last_load.message
        _log.info(
            "started",
            version=self._version,
            pid=os.getpid(),
            workers=self._workers,
            max_sessions=config.max_sessions or self._parts.room.auto.room.sessions,
            room=self._parts.room.where(config.max_sessions).by,
            admin=str(config.admin.socket),
            http=str(config.admin.http or "off"),
            config=message,
        )
        # What is there by now stays for long. To look through it for garbage takes half a second
        # for 10 000 servers, in which nothing else is done.
        gc.freeze()
        gc.set_threshold(_GARBAGE)
        self._watch_plane(self._parts.plane)
        self.running.note_readiness()
        self._supervisor.ready(message)
        self._keep_going(FaultPart.WATCHDOG, lambda: self._supervisor.show_life(self._lags))

    def _lags(self) -> Sequence[float]:
        return [worker.lag for worker in self._parts.plane.stats().workers]

    def _watch_plane(self, plane: Plane) -> None:
        loop = asyncio.get_running_loop()
        wake_fd = plane.wake_fd
        loop.add_reader(wake_fd, self._reports.take)
        self._exits.callback(loop.remove_reader, wake_fd)
        self._keep_going(FaultPart.NOTICES, lambda: notice(plane.stats))
        self._keep_going(FaultPart.OUTLIERS, lambda: self._ejections.watch(self._running_now))

    def _running_now(self) -> tuple[Config, DesiredState | None]:
        """The configuration, and what the data plane was told of it and of all else."""
        return self._changes.loaded.config, self._changes.reconciler.applied

    def _keep_going(self, part: FaultPart, work: Callable[[], Awaitable[None]]) -> None:
        """Until the process ends."""
        task = asyncio.create_task(kept_going(part, work, self._faults))
        self._exits.callback(task.cancel)

    # --- intents -----------------------------------------------------------

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        actions: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGHUP: self._intents.reload,
            signal.SIGTERM: partial(self._on_term, signal.SIGTERM),
            signal.SIGINT: partial(self._on_term, signal.SIGINT),  # RestartKillSignal of the unit
            signal.SIGUSR1: self._on_usr1,
            signal.SIGUSR2: self._intents.upgrade,
        }
        for number, action in actions.items():
            loop.add_signal_handler(number, action)
            self._exits.callback(loop.remove_signal_handler, number)

    def _on_term(self, number: signal.Signals) -> None:
        # Where nobody keeps the sockets, INT is as TERM.
        self._on_end(restarts=number == signal.SIGINT and self._supervisor.is_there)
        self._tell_next(number)

    def _on_end(self, *, restarts: bool = False) -> None:
        self._intents.end(restarts=restarts)
        if self._predecessor is not None:
            self._predecessor.end(now=self._intents.terminations > 1)
        if self._intents.terminations == 2:
            # Whatever hangs by then, and holds up what is to be done in order.
            self._last_resort = threading.Timer(_LAST_RESORT, os._exit, (Exit.FAILURE,))
            self._last_resort.daemon = True
            self._last_resort.start()

    def _on_usr1(self) -> None:
        if self._plane is None:
            return  # there is no session log yet
        self._plane.reopen_logs()
        if self._predecessor is not None:
            self._predecessor.reopen()
        _log.info("USR1: the session log is to be opened anew")

    def _on_result(self, result: Result) -> None:
        self._reports.checked(result)
        self._ejections.checked(result)

    def _is_told(self, key: ServerKey) -> bool:
        wishes = (check.wished for check in self._parts.monitor.checks(key))
        return bool(self._parts.operator.overrides.server_state(key) or any(wishes))

    def _on_ready(self, key: ServerKey) -> None:
        self._outliers.pardon(key, time.monotonic())

    def _on_loop_fault(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """Something that the event loop called failed, or a task that nobody waits for."""
        error = context.get("exception")
        known = error if isinstance(error, BaseException) else RuntimeError(context["message"])
        self._faults.note(FaultPart.LOOP, known)

    # --- shutdown ----------------------------------------------------------

    async def _shutdown(self) -> None:
        """Drain: no new sessions, the others go on until they end or the deadline is there."""
        terms = self.running.role.terms(self._changes.loaded.config)
        terms = replace(terms, restarts=self._intents.restarts)
        await drain(
            self._parts.plane,
            self._supervisor,
            self._lane,
            terms=terms,
            wake=self._intents.wake,
            why_now=self._why_end_now,
            before=self._sessions_before,
        )
        # The end frees it all; thousands of tasks that end would have it looked through many times.
        gc.disable()
        patience = 0 if self._why_end_now() else PATIENCE
        if problem := await self._parts.keeping.settled(patience):
            _log.error("operators' words won't outlive the process", reason=problem)

    def _sessions_before(self) -> int:
        return self._predecessor.sessions if self._predecessor else 0

    def _why_end_now(self) -> str:
        if self._intents.reloads.take() is not None:
            _log.info("HUP ignored: the process is ending")
        return "told twice" if self._intents.terminations > 1 else ""
