"""The running process: startup, main loop, shutdown. The only module that knows everyone.

Started by `mailweir run`. Signals and check results only leave an intent; the main
loop acts on it, one thing at a time, so that no two changes ever meet. The way of a
change: `config.load`, `state.desired.fold`, `state.diff` (the log line),
`state.reconcile`, the data plane.
"""

import asyncio
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from random import Random

import structlog

from mailweir.admin.metrics import Metrics
from mailweir.admin.server import AdminServer
from mailweir.admin.views import ReloadOutcome, Situation, unready
from mailweir.config.load import Loaded, load
from mailweir.config.units import format_duration
from mailweir.errors import ConfigError, MailweirError, Problem
from mailweir.health import check
from mailweir.health.monitor import Monitor, Result
from mailweir.instance import only_instance
from mailweir.plane import EmbeddedPlane, Plane
from mailweir.state.desired import Health, fold
from mailweir.state.diff import describe, settings
from mailweir.state.reconcile import Reconciler

# Servers are down until their first check. Waiting for that before listeners open (or
# a reload sends sessions to new servers) keeps sessions from being refused needlessly;
# a server that takes longer than this isn't waited for.
FIRST_CHECKS = 3.0
# Between looks at the sessions that are left while draining, in seconds.
_DRAIN_LOOK = 0.25

_log = structlog.get_logger("mailweir")


class Daemon:
    """One `mailweir run`."""

    def __init__(
        self,
        config_file: Path,
        *,
        version: str,
        start_plane: Callable[[int], Plane] = EmbeddedPlane,
    ) -> None:
        self._file = config_file
        self._version = version
        self._start_plane = start_plane
        self._started = time.time()
        self._hostname = socket.gethostname()
        self._exits = AsyncExitStack()
        # Intents: set anywhere in the event loop, acted on in the main loop.
        self._wake = asyncio.Event()
        self._reload_wanted = False
        self._health_changed = False
        self._terminations = 0
        self._waiting: list[asyncio.Future[ReloadOutcome]] = []
        self._reasons: list[str] | None = None  # nothing said yet
        # Made in startup, in this order.
        self._loaded: Loaded
        self._plane: Plane
        self._reconciler: Reconciler
        self._metrics: Metrics
        self._monitor: Monitor
        self._last_load: ReloadOutcome

    async def run(self) -> None:
        """Serve until told to stop. Raises MailweirError where it can't start."""
        async with self._exits:
            await self.startup()
            await self.main_loop()
            await self.shutdown()

    # --- startup -----------------------------------------------------------

    async def startup(self) -> None:
        """From the file to open listeners. Whatever was begun is undone by `run`."""
        # First: a HUP from here on is a reload after the start, and doesn't end the process.
        self._watch_signals()
        self._loaded = loaded = await asyncio.to_thread(load, self._file)
        _log_problems(loaded.warnings, level="warning")
        config = loaded.config
        self._last_load = ReloadOutcome(True, 0, "starting", self._started)
        self._exits.enter_context(only_instance(config.state_dir))
        descriptors = raise_descriptor_limit()
        workers = config.workers or len(os.sched_getaffinity(0))

        self._plane = await asyncio.to_thread(self._start_plane, workers)
        self._exits.push_async_callback(asyncio.to_thread, self._plane.stop)
        self._reconciler = Reconciler(self._plane)
        self._metrics = Metrics(self._plane.stats, version=self._version, started=self._started)
        self._monitor = Monitor(
            probe=partial(check.run, hostname=self._hostname),
            on_result=self._on_check,
            random=Random(),  # noqa: S311 - spreads checks, keeps no secret
        )
        self._exits.push_async_callback(self._monitor.close)
        self._monitor.update(check.targets(config))
        # Before the listeners: a process that can't be asked shouldn't take sessions.
        admin = AdminServer(config.admin)
        self._exits.push_async_callback(admin.close)
        await admin.open(self, self._metrics.registry, hostname=self._hostname)
        await self._first_checks()
        await self._open_listeners()
        _log.info(
            "started",
            version=self._version,
            pid=os.getpid(),
            workers=workers,
            descriptors=descriptors,
            admin=str(config.admin.socket),
            http=str(config.admin.http or "off"),
            config=self._last_load.message,
        )
        self._note_readiness()

    async def _open_listeners(self) -> None:
        desired = fold(self._loaded.config, self._monitor.health(), hostname=self._hostname)
        generation = await asyncio.to_thread(self._reconciler.reconcile, desired)
        self._last_load = ReloadOutcome(
            True,
            generation,
            describe(None, desired),
            time.time(),
            warnings=tuple(map(str, self._loaded.warnings)),
        )
        self._metrics.loaded(at=self._last_load.at)

    async def _first_checks(self) -> None:
        try:
            async with asyncio.timeout(FIRST_CHECKS):
                await self._monitor.first_results()
        except TimeoutError:
            unknown = [k for k, h in self._monitor.health().items() if h is Health.UNKNOWN]
            _log.warning(
                "servers without a first check result stay down until they have one",
                servers=", ".join(map(str, unknown)),
                waited=format_duration(FIRST_CHECKS),
            )

    # --- intents -----------------------------------------------------------

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        actions: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGHUP: self._on_hup,
            signal.SIGTERM: self._on_term,
            signal.SIGINT: self._on_term,
            signal.SIGUSR1: lambda: _log.info(
                "USR1 ignored: no log files are written, so there are none to reopen"
            ),
            signal.SIGUSR2: lambda: _log.info(
                "USR2 ignored: upgrading in place isn't possible; restart instead"
            ),
        }
        for number, action in actions.items():
            loop.add_signal_handler(number, action)
            self._exits.callback(loop.remove_signal_handler, number)

    def _on_hup(self) -> None:
        # Any number of them before the loop comes round is one reload.
        self._reload_wanted = True
        self._wake.set()

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
        self._health_changed = True
        self._wake.set()

    async def reload(self) -> ReloadOutcome:
        """Ask the main loop for a reload and wait for its outcome. Called by the admin routes."""
        if self._terminations:
            return self._refused("the process is ending; nothing is reloaded any more")
        waiter: asyncio.Future[ReloadOutcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._on_hup()
        return await waiter

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
            last_check=self._monitor.last,
        )

    # --- main loop ---------------------------------------------------------

    async def main_loop(self) -> None:
        """Act on intents until one says to end."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._terminations:
                return
            if self._reload_wanted:
                await self._act_on_reload()
            if self._health_changed:
                await self._act_on_health()
            self._note_readiness()

    async def _act_on_health(self) -> None:
        self._health_changed = False
        desired = fold(self._loaded.config, self._monitor.health(), hostname=self._hostname)
        await asyncio.to_thread(self._reconciler.reconcile, desired)

    async def _act_on_reload(self) -> None:
        # Cleared first: what is asked for from here on is another reload.
        self._reload_wanted = False
        waiting, self._waiting = self._waiting, []
        self._last_load = outcome = await self._try_reload()
        self._metrics.reloaded(ok=outcome.ok, at=outcome.at)
        if outcome.ok:
            _log.info("reloaded", generation=outcome.generation, change=outcome.message)
        else:
            _log.error("reload refused, the old configuration stays", reason=outcome.message)
        _answer(waiting, outcome)

    async def _try_reload(self) -> ReloadOutcome:
        try:
            loaded = await asyncio.to_thread(load, self._file)
            problems = restart_needed(self._loaded, loaded)
            if problems:
                raise ConfigError(problems, loaded.warnings)
            change = await self._take(loaded)
        except ConfigError as error:
            _log_problems(error.problems, level="error")
            _log_problems(error.warnings, level="warning")
            return self._refused(
                f"{self._file} has {len(error.problems)} problem(s)", error.problems, error.warnings
            )
        except MailweirError as error:
            return self._refused(str(error))
        except Exception as error:
            # A bug of ours: a reload that fails must never end the sessions that run.
            _log.exception("reload failed unexpectedly")
            return self._refused(f"internal error: {error!r}")
        _log_problems(loaded.warnings, level="warning")
        generation = self._reconciler.generation
        warnings = tuple(map(str, loaded.warnings))
        return ReloadOutcome(True, generation, change, time.time(), warnings=warnings)

    async def _take(self, loaded: Loaded) -> str:
        """Make a configuration the running one; the change in one sentence.

        Old and new servers are both checked until it is taken, so that new ones are
        known before sessions go there and old ones are still known if it is refused.
        """
        old, new = check.targets(self._loaded.config), check.targets(loaded.config)
        self._monitor.update(new | old)
        try:
            await self._first_checks()
            desired = fold(loaded.config, self._monitor.health(), hostname=self._hostname)
            change = describe(
                self._reconciler.applied, desired, settings(self._loaded.config, loaded.config)
            )
            await asyncio.to_thread(self._reconciler.reconcile, desired)
        except Exception:
            self._monitor.update(old)
            raise
        self._loaded = loaded
        self._monitor.update(new)
        return change

    def _refused(
        self,
        message: str,
        problems: tuple[Problem, ...] = (),
        warnings: tuple[Problem, ...] = (),
    ) -> ReloadOutcome:
        return ReloadOutcome(
            False,
            self._reconciler.generation,
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
        _answer(self._waiting, self._refused("the process is ending"))
        await asyncio.to_thread(self._plane.drain)
        limit = self._loaded.config.drain.deadline
        until = time.monotonic() + limit
        left = self._plane.stats().active
        _log.info(
            "draining; a second TERM ends it now", sessions=left, deadline=format_duration(limit)
        )
        while left and self._terminations < 2 and time.monotonic() < until:
            try:
                async with asyncio.timeout(_DRAIN_LOOK):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self._reload_wanted:
                self._reload_wanted = False
                _log.info("HUP ignored: the process is ending")
            left = self._plane.stats().active
        if left:
            why = "told twice" if self._terminations > 1 else "deadline reached"
            _log.warning("stopping with open sessions", sessions=left, reason=why)
        else:
            _log.info("stopping, every session has ended")


def restart_needed(old: Loaded, new: Loaded) -> list[Problem]:
    """What differs in `new` that a running process can't change."""
    keys: tuple[tuple[str, ...], ...] = (
        ("workers",),
        ("admin", "socket"),
        ("admin", "http"),
        ("state_dir",),
    )
    problems = []
    for path in keys:
        before: object = old.config
        after: object = new.config
        for step in path:
            before, after = getattr(before, step), getattr(after, step)
        if before != after:
            default = "auto" if path == ("workers",) else "off"
            change = (
                f"{default if before is None else before} -> {default if after is None else after}"
            )
            problems.append(
                new.problem(path, f"can't change while running ({change}); restart mailweir")
            )
    return problems


def raise_descriptor_limit() -> int:
    """Use all the descriptors that the system allows; the number.

    The usual soft limit of 1024 is there for select(2), which nothing here uses; it
    would end at some 500 sessions.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _answer(waiting: list[asyncio.Future[ReloadOutcome]], outcome: ReloadOutcome) -> None:
    for waiter in waiting:
        if not waiter.done():
            waiter.set_result(outcome)


def _log_problems(problems: tuple[Problem, ...], *, level: str) -> None:
    for problem in problems:
        getattr(_log, level)("configuration", problem=str(problem))
