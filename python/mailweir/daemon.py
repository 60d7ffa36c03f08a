"""The running process: startup, main loop, shutdown. The only module that knows everyone.

Started by `mailweir run`. Signals and check results only leave an intent; the main
loop acts on it, one thing at a time, so that no two changes ever meet. The way of a
change: `config.load`, `state.desired.fold`, `state.diff` (the log line),
`state.reconcile`, the data plane.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random

import structlog

from mailweir import room
from mailweir.admin import routes
from mailweir.admin.guard import Hosts
from mailweir.admin.metrics import Metrics
from mailweir.admin.pair import NodeHealth, Pair
from mailweir.admin.server import AdminServer
from mailweir.admin.views import Difference, ReloadOutcome, Situation, unready
from mailweir.config.load import Loaded, load
from mailweir.config.model import Config
from mailweir.ending import drain, lose
from mailweir.errors import ConfigError, MailweirError, Problem
from mailweir.health import check
from mailweir.health.first import first_checks
from mailweir.health.monitor import Monitor, Result
from mailweir.instance import only_instance
from mailweir.journal import Journal
from mailweir.notices import notice
from mailweir.operator import Operator
from mailweir.plane import EmbeddedPlane, Plane, Session
from mailweir.reload import ReloadRequests, answer, log_problems, restart_needed
from mailweir.spec import DesiredState, ServerKey
from mailweir.state.desired import Health, fold
from mailweir.state.diff import changes, describe, settings
from mailweir.state.kept import Kept
from mailweir.state.overrides import told
from mailweir.state.reconcile import Reconciler
from mailweir.supervisor import Supervisor
from mailweir.this_machine import this_machine

# Each change of a server's health costs some 20 us for every server. Those of thousands are taken
# together, so that most of the time is left for checks: seconds to wait, for each server.
_GATHERED = 0.0001

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
        start_plane: Callable[[int, Sequence[socket.socket]], Plane] = EmbeddedPlane,
    ) -> None:
        self._file = config_file
        self._version = version
        self._journal = journal
        self._supervisor = supervisor
        self._start_plane = start_plane
        self._started = time.time()
        self._hostname = socket.gethostname()
        self._exits = AsyncExitStack()
        # Intents: set anywhere in the event loop, acted on in the main loop.
        self._wake = asyncio.Event()
        self._reloads = ReloadRequests()
        self._states_changed = False
        self._terminations = 0
        # Who waits until what changed of servers or listeners counts.
        self._waiting: list[asyncio.Future[str]] = []
        self._reasons: list[str] | None = None  # nothing said yet
        # Made in startup, in this order.
        self._loaded: Loaded
        self._plane: Plane
        self._reconciler: Reconciler
        self._metrics: Metrics
        self.pair: Pair
        self._monitor: Monitor
        self._admin: AdminServer
        self._operator: Operator
        self._last_load: ReloadOutcome
        self._room: room.Room

    async def run(self) -> None:
        """Serve until told to stop. Raises MailweirError where it can't start."""
        async with self._exits:
            await self.startup()
            await self.main_loop()
            await self.shutdown()

    # --- startup -----------------------------------------------------------

    async def startup(self) -> None:
        """From the file to open listeners. Whatever was begun is undone by `run`."""
        self._watch_signals()  # first: a HUP from here on is a reload, and doesn't end the process
        self._loaded = loaded = await asyncio.to_thread(load, self._file, this_machine())
        log_problems(loaded.warnings, level="warning")
        config = loaded.config
        self._last_load = ReloadOutcome(True, 0, "starting", self._started)
        self._exits.enter_context(only_instance(config.state_dir))
        self._operator = Operator(Kept(config.state_dir))
        self._remember_overrides()
        self._room = room.read()
        workers = config.workers or len(os.sched_getaffinity(0))

        kept = self._supervisor.store.take()
        self._plane = await asyncio.to_thread(self._start_plane, workers, kept)
        self._exits.push_async_callback(asyncio.to_thread, self._plane.stop)
        self._reconciler = Reconciler(self._plane)
        self._metrics = Metrics(self._plane.stats, version=self._version, started=self._started)
        self.pair = Pair(self._plane.stats, self._metrics.registry, started=self._started)
        await self.pair.take(config)
        self._monitor = Monitor(
            probe=check.run,
            on_result=self._on_check,
            random=Random(),  # noqa: S311 - spreads checks, keeps no secret
        )
        self._exits.push_async_callback(self._monitor.close)
        self._monitor.update(self._targets(loaded))
        # Before the listeners: a process that can't be asked shouldn't take sessions.
        await self._open_admin()
        await first_checks(self._monitor)
        await self._open_listeners()
        self._watch_plane()
        _log.info(
            "started",
            version=self._version,
            pid=os.getpid(),
            workers=workers,
            max_sessions=config.max_sessions or self._room.auto.sessions,
            room=self._room.where(config.max_sessions).by,
            admin=str(config.admin.socket),
            http=str(config.admin.http or "off"),
            config=self._last_load.message,
        )
        self._note_readiness()
        self._be_supervised()

    async def _open_admin(self) -> None:
        admin, registry = self._loaded.config.admin, self._metrics.registry
        hosts = Hosts(self._hostname, admin.hosts)
        self._admin = AdminServer(admin.socket, admin.http, self._loaded.roles, hosts, part="admin")
        self._exits.push_async_callback(self._admin.close)
        answers = routes.answers(self, registry, self._journal)
        await self._admin.open(answers, registry)

    def _be_supervised(self) -> None:
        self._supervisor.ready(self._last_load.message)
        living = asyncio.create_task(
            self._supervisor.show_life(lambda: self._plane.stats().worker_lags)
        )
        self._exits.callback(living.cancel)

    async def _open_listeners(self) -> None:
        desired = self._fold(self._loaded)
        await asyncio.to_thread(self._reconciler.reconcile, desired)
        await asyncio.to_thread(self._keep_listening)
        self._last_load = ReloadOutcome(
            True,
            1,
            describe(None, desired),
            time.time(),
            warnings=tuple(map(str, self._loaded.warnings)),
        )
        self._metrics.loaded(self._last_load)

    def _keep_listening(self) -> None:
        """Should this process die, who comes until the next one runs waits for that."""
        if not self._supervisor.is_there:
            return
        try:
            self._supervisor.store.keep(self._plane.listening())
        except MailweirError as error:
            _log.warning("a restart would refuse clients", reason=str(error))

    # --- intents -----------------------------------------------------------

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        actions: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGHUP: self._on_hup,
            signal.SIGTERM: self._on_term,
            signal.SIGINT: self._on_term,
            signal.SIGUSR1: self._on_usr1,
            signal.SIGUSR2: lambda: _log.info(
                "USR2 ignored: upgrading in place isn't possible; restart instead"
            ),
        }
        for number, action in actions.items():
            loop.add_signal_handler(number, action)
            self._exits.callback(loop.remove_signal_handler, number)

    def _on_hup(self) -> None:
        self._reloads.ask()
        self._wake.set()

    def _on_usr1(self) -> None:
        self._plane.reopen_logs()
        _log.info("USR1: the session log is opened anew")

    def _on_term(self) -> None:
        self._terminations += 1
        self._wake.set()

    def _on_check(self, result: Result) -> None:
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
        self._states_changed = True
        loop = asyncio.get_running_loop()
        loop.call_later(_GATHERED * len(self._monitor), self._wake.set)

    def _on_troubles(self) -> None:
        """Servers failed live sessions: their checks needn't wait."""
        for trouble in self._plane.take_troubles():
            key = ServerKey(trouble.pool, trouble.server)
            _log.debug("failed a session", server=str(key), reason=trouble.cause)
            self._metrics.trouble(key)
            self._monitor.hurry(key)

    async def operate(
        self, change: Callable[[Operator, Config], None], *, what: str, by: str
    ) -> str:
        """Let an operator change something; returns once it counts, with what is wrong: it won't
        outlive the process, say. Empty where nothing is. Called by the admin routes.

        Raises UnknownError where `change` does.
        """
        change(self._operator, self._loaded.config)
        _log.info("operator", change=what, by=by)
        if self._terminations:
            return "the process is ending; nothing changes any more"
        refused = await self._states_are_to_change()
        return "; ".join(filter(None, (refused, self._operator.kept_problem)))

    def _remember_overrides(self) -> None:
        problem = self._operator.remember(self._loaded.config)
        if problem:
            _log.error("what operators said before isn't known", reason=problem)
        overrides = self._operator.overrides
        if overrides.denied:
            _log.warning("operators' denies from before", prefixes=len(overrides.denied))
        for what, word in overrides.model_copy(update={"denied": {}}).words():
            _log.warning("operator's word from before", change=what, told=told(word, time.time()))

    def _states_are_to_change(self) -> asyncio.Future[str]:
        """What comes of it, once that is known."""
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._states_changed = True
        self._wake.set()
        return waiter

    def sessions(
        self, *, listener: str | None, server: ServerKey | None, limit: int
    ) -> list[Session]:
        """Live sessions, the oldest first. Called by the admin routes."""
        return self._plane.sessions(listener=listener, server=server, limit=limit)

    def kill(self, session: str) -> bool:
        """End a session; False where there is none. Called by the admin routes."""
        return self._plane.kill(session)

    def kill_from(self, prefix: str) -> int:
        """End every session from there; how many. Called by the admin routes."""
        return self._plane.kill_from(prefix)

    async def reload(self) -> ReloadOutcome:
        """Ask the main loop for a reload and wait for its outcome. Called by the admin routes."""
        if self._terminations:
            return self._refused("the process is ending; nothing is reloaded any more")
        self._on_hup()
        return await self._reloads.outcome()

    async def difference(self) -> Difference:
        """What a reload would change, without one. Called by the admin routes."""
        try:
            loaded = await self._load_anew()
        except ConfigError as error:
            return Difference((), tuple(map(str, error.problems)), tuple(map(str, error.warnings)))
        before = self._reconciler.applied
        settled = settings(self._loaded.config, loaded.config)
        found = changes(before, self._fold(loaded), settled) if before else []
        return Difference(tuple(found), (), tuple(map(str, loaded.warnings)))

    def situation(self) -> Situation:
        """The process at this moment. Called by the admin routes."""
        return Situation(
            version=self._version,
            pid=os.getpid(),
            started=self._started,
            now=time.time(),
            config_file=str(self._file.absolute()),
            config=self._loaded.config,
            listening=self._reconciler.applied is not None,
            last_load=self._last_load,
            stats=self._plane.stats(),
            overrides=self._operator.overrides,
            room=self._room.where(self._loaded.config.max_sessions).by,
            not_kept=self._operator.kept_problem,
            last_check=self._monitor.last,
            next_server=self._plane.next_server,
            admission=self._plane.admission,
            role=self.pair.told,
        )

    def health(self) -> NodeHealth:
        """The same in short. Called by the admin routes."""
        return self.pair.health(
            self._reconciler.applied,
            self._operator.overrides,
            generation=self._last_load.generation,
            ending=self._terminations > 0,
        )

    async def addresses_move(self) -> int:
        """The pair's addresses are about to be the other node's. Called by the admin routes."""
        return await lose(self._plane, self._supervisor) if self._terminations else 0

    # --- main loop ---------------------------------------------------------

    async def main_loop(self) -> None:
        """Act on intents until one says to end."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._operator.next_end()):
                    await self._wake.wait()
            self._wake.clear()
            if self._terminations:
                return
            for what in self._operator.forget_those_over():
                _log.info("operator's word is over", change=what)
                self._states_changed = True
            if (waiting := self._reloads.take()) is not None:
                await self._act_on_reload(waiting)
            if self._states_changed:
                await self._act_on_states()
            self._note_readiness()

    def _fold(self, loaded: Loaded) -> DesiredState:
        health, words = self._monitor.health(), self._operator.overrides
        where = self._room.where(loaded.config.max_sessions)
        return fold(loaded.config, health, words, hostname=self._hostname, room=where)

    def _watch_plane(self) -> None:
        loop = asyncio.get_running_loop()
        wake_fd = self._plane.wake_fd
        loop.add_reader(wake_fd, self._on_troubles)
        self._exits.callback(loop.remove_reader, wake_fd)
        noticing = asyncio.create_task(notice(self._plane.stats))
        self._exits.callback(noticing.cancel)

    def _targets(self, loaded: Loaded) -> dict[ServerKey, check.Target]:
        return check.targets(loaded.config, self._operator.overrides)

    async def _act_on_states(self) -> None:
        self._states_changed = False
        waiting, self._waiting = self._waiting, []
        self._monitor.update(self._targets(self._loaded))
        desired = self._fold(self._loaded)
        refused = ""
        try:
            await asyncio.to_thread(self._reconciler.reconcile, desired)
        except MailweirError as error:
            refused = str(error)
            _log.error("the data plane goes on as it was", reason=refused)
        answer(waiting, refused)

    async def _act_on_reload(self, waiting: list[asyncio.Future[ReloadOutcome]]) -> None:
        self._supervisor.reloading()
        self._last_load = outcome = await self._try_reload()
        self._supervisor.ready(outcome.message)
        self._metrics.reloaded(outcome)
        if outcome.ok:
            _log.info("reloaded", generation=outcome.generation, change=outcome.message)
        else:
            _log.error("reload refused, the old configuration stays", reason=outcome.message)
        answer(waiting, outcome)

    async def _load_anew(self) -> Loaded:
        """The file as it is now. Raises ConfigError, also where only a restart could take it."""
        loaded = await asyncio.to_thread(load, self._file, this_machine())
        if problems := restart_needed(self._loaded, loaded):
            raise ConfigError(problems, loaded.warnings)
        return loaded

    async def _try_reload(self) -> ReloadOutcome:
        try:
            loaded = await self._load_anew()
            is_another = loaded.config != self._loaded.config
            change = await self._take(loaded)
        except ConfigError as error:
            log_problems(error.problems, level="error")
            log_problems(error.warnings, level="warning")
            return self._refused(
                f"{self._file} has {len(error.problems)} problem(s)", error.problems, error.warnings
            )
        except MailweirError as error:
            return self._refused(str(error))
        except Exception as error:
            # A bug of ours: a reload that fails must never end the sessions that run.
            _log.exception("reload failed unexpectedly")
            return self._refused(f"internal error: {error!r}")
        log_problems(loaded.warnings, level="warning")
        generation = self._last_load.generation + is_another
        warnings = tuple(map(str, loaded.warnings))
        return ReloadOutcome(True, generation, change, time.time(), warnings=warnings)

    async def _take(self, loaded: Loaded) -> str:
        """Make a configuration the running one; the change in one sentence.

        Old and new servers are both checked until it is taken, so that new ones are
        known before sessions go there and old ones are still known if it is refused.
        """
        old, new = self._targets(self._loaded), self._targets(loaded)
        self._monitor.update(new | old)
        try:
            await first_checks(self._monitor)
            desired = self._fold(loaded)
            change = describe(
                self._reconciler.applied, desired, settings(self._loaded.config, loaded.config)
            )
            await asyncio.to_thread(self._reconciler.reconcile, desired)
        except Exception:
            self._monitor.update(old)
            raise
        await asyncio.to_thread(self._keep_listening)
        await self.pair.take(loaded.config)
        self._loaded = loaded
        self._admin.take(loaded.roles, loaded.config.admin.hosts)
        self._monitor.update(new)
        for what in self._operator.forget_absent(loaded.config):
            _log.info("operator's word is forgotten: what it was about is gone", change=what)
        return change

    def _refused(
        self,
        message: str,
        problems: tuple[Problem, ...] = (),
        warnings: tuple[Problem, ...] = (),
    ) -> ReloadOutcome:
        return ReloadOutcome(
            False,
            self._last_load.generation,
            message,
            time.time(),
            tuple(map(str, problems)),
            tuple(map(str, warnings)),
        )

    def _note_readiness(self) -> None:
        reasons = unready(self.situation())
        if reasons == self._reasons:
            return
        self._reasons = reasons
        if reasons:
            _log.error("not ready", reason="; ".join(reasons))
        else:
            _log.info("ready")

    # --- shutdown ----------------------------------------------------------

    async def shutdown(self) -> None:
        """Drain: no new sessions, the others go on until they end or the deadline is there."""
        answer(self._reloads.take() or [], self._refused("the process is ending"))
        answer(self._waiting, "the process is ending")
        terms = self.pair.terms(self._loaded.config)
        await drain(
            self._plane, self._supervisor, terms=terms, wake=self._wake, why_now=self._why_end_now
        )

    def _why_end_now(self) -> str:
        if self._reloads.take() is not None:
            _log.info("HUP ignored: the process is ending")
        return "told twice" if self._terminations > 1 else ""
