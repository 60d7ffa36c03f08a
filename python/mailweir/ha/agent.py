"""The process `mailweir ha run`: startup, inputs of the state machine, what it asks for, shutdown.
The only module of the pair that knows the others.

Everything happens in one event loop, so that no two inputs meet. What has come over the links is
read before anything else is told to the machine: a node that is late isn't to take its own
lateness for the peer's silence. Started by the command line.
"""

import asyncio
import secrets
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from mailweir.config.ha import Ha
from mailweir.config.load import Loaded, load
from mailweir.config.reading import Reading
from mailweir.config.words import HaMode
from mailweir.errors import ConfigError, MailweirError, StartError
from mailweir.ha import fence
from mailweir.ha.admin import HaAdmin
from mailweir.ha.asking import Asking
from mailweir.ha.clock import now
from mailweir.ha.flood import Flood
from mailweir.ha.holding import Holding
from mailweir.ha.kernel import neighbours
from mailweir.ha.kernel.addresses import AddressError, Addresses, AddressGone, CarrierChanged, Event
from mailweir.ha.kernel.announce import Announcer
from mailweir.ha.kernel.queues import anybody_listens
from mailweir.ha.key_files import read_keys
from mailweir.ha.links import Links
from mailweir.ha.machine.facts import (
    Action,
    Announce,
    Command,
    Drop,
    Facts,
    Fence,
    Holder,
    Probe,
    Say,
    Send,
    Take,
)
from mailweir.ha.machine.grace import Grace
from mailweir.ha.machine.inputs import Machine
from mailweir.ha.machine.wire import State
from mailweir.ha.maintenance import Maintenance
from mailweir.ha.settings import (
    fixed_differences,
    loaded,
    node_of,
    places_that_differ,
    ports_of,
    settings_of,
)
from mailweir.ha.signals import ignore_others
from mailweir.ha.watching import Watching
from mailweir.instance import only_instance
from mailweir.journal import Journal
from mailweir.lanes import Lane
from mailweir.supervisor import Supervisor

# What comes is read so often and no oftener, in seconds: whoever floods this node doesn't wake it
# for each datagram. What is decided in between reads first anyway.
_READ_EVERY, _READ_EVERY_IN_A_FLOOD = 0.01, 0.025
# Until the addresses are released, or taken from the peer that releases them.
_PATIENCE = 3.0
# For the disk of `state_dir`, at the start.
_DISK_LIMIT = 10.0
_ROLES = {State.ACTIVE: "active", State.FAULT: "fault"}

_log = structlog.get_logger("mailweir")


class Agent:
    """One `mailweir ha run`."""

    def __init__(self, file: Path, *, journal: Journal, supervisor: Supervisor) -> None:
        self._file = file
        self._lane = Lane("configuration")
        self._journal = journal
        self._supervisor = supervisor
        self._hostname = socket.gethostname()
        self._exits = AsyncExitStack()
        self._ending = asyncio.Event()
        self._changed = asyncio.Event()  # the machine's state may be another one
        self._timer: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None  # until it is read again
        self._tasks: set[asyncio.Task[None]] = set()
        # Made in startup, in this order.
        self._loaded: Loaded
        self._ha: Ha
        self._maintenance: Maintenance
        self._links: Links
        self._addresses: Addresses
        self._announcer: Announcer
        self._holding: Holding
        self._asking: Asking
        self._machine: Machine
        self._flood: Flood
        self._admin: HaAdmin

    async def run(self) -> None:
        """Until told to stop. Raises MailweirError where it can't start."""
        async with self._exits:
            await self._startup()
            await self._ending.wait()
            await self._release()

    async def _load(self) -> tuple[Loaded, Ha, dict[int, bytes]]:
        """The file as it is now, and the keys that it names. Raises ConfigError and StartError, and
        StalledError where that takes too long.
        """
        return await loaded(self._lane, self._file, _read_all)

    # --- startup -----------------------------------------------------------

    async def _startup(self) -> None:
        self._watch_signals()
        self._loaded, self._ha, found = await self._load()
        ha = self._ha
        node = node_of(ha, self._hostname)
        place = self._loaded.config.state_dir / "ha"
        what = f"state_dir: taking {place / 'lock'}"
        lock = Lane("lock").entered(only_instance(place), limit=_DISK_LIMIT, what=what)
        await self._exits.enter_async_context(lock)
        self._maintenance = Maintenance(place)
        in_maintenance = await self._maintenance.read()

        self._links = Links(ha, node, found)
        self._links.open()
        self._exits.callback(self._links.close)
        await self._open_kernel()
        health = await self._asking.ask()
        settings = settings_of(ha, node)
        self._machine = Machine(settings, epoch=secrets.randbits(63) | 1, now=now())
        self._flood = Flood(self._links, self._machine.known.heard_on)
        self._exits.callback(self._cancel)
        self._admin = HaAdmin(self, self._loaded, self._journal, hostname=self._hostname)
        self._exits.push_async_callback(self._admin.close)
        await self._admin.open()
        # The first word to the peer says how this node is.
        self._tell(Facts(health=health, absent_links=dict(self._links.absent)))
        self._begin(in_maintenance=in_maintenance)
        _log.info("started", node=node, peer=settings.peer, links=", ".join(self._links.names))
        self._supervisor.ready(f"node {node}")

    async def _open_kernel(self) -> None:
        ha = self._ha
        floating = [*ha.virtual, *ha.source]
        self._addresses = Addresses(floating, lease=ha.timers.lease, on_event=self._on_event)
        await self._addresses.open()
        self._exits.push_async_callback(self._addresses.close)
        try:
            for removed in await self._addresses.clear():
                _log.warning("an address of an earlier process is removed", address=removed)
        except AddressError as error:
            raise StartError(str(error)) from None
        self._announcer = Announcer(floating)
        self._exits.callback(self._announcer.close)
        watch = neighbours.ClaimWatch(ha.virtual, self._on_claim)
        watch.open()
        self._exits.callback(watch.close)
        self._holding = Holding(
            self._addresses,
            self._announcer,
            lease=ha.timers.lease,
            on_taken=lambda ticket: self._feed(lambda at: self._machine.taken(ticket, at)),
            on_dropped=lambda ticket: self._feed(lambda at: self._machine.dropped(ticket, at)),
            on_failed=lambda why: self._feed(lambda at: self._machine.failed(why, at)),
            before_drop=lambda: self._asking.addresses_move(),
            before_renewal=lambda: self._feed(self._machine.tick),
        )
        self._asking = Asking(
            self._loaded.config.admin.socket,
            Grace(ha.run_grace, ha.handover),
            lambda health: self._tell(Facts(health=health)),
            self._clients_wait,
        )

    def _begin(self, *, in_maintenance: bool) -> None:
        loop, ha = asyncio.get_running_loop(), self._ha
        self._listen()
        self._exits.callback(self._deafen)
        if in_maintenance:
            self._feed(lambda at: self._machine.command(Command.MAINT, at)[1])
        self._learn_carrier()
        self._spawn(self._holding.work())
        self._spawn(self._asking.watch())
        node = ha.nodes[self._machine.known.settings.node]
        watching = Watching(
            self._tell,
            gateways=lambda: self._ha.gateway,
            own=[address.ip for address in node.links.values()],
            mend_links=self._mend_links,
        )
        self._spawn(watching.gateways(), vital=False)
        self._spawn(watching.doubles(), vital=False)
        self._spawn(watching.links())
        self._spawn(self._supervisor.show_life(lambda: ()))
        loop.call_soon(self._feed, self._machine.tick)

    def _watch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._reload(), vital=False))
        ignore_others(loop)

    def _spawn(self, work: Coroutine[object, object, None], *, vital: bool = True) -> None:
        """Without what is `vital` the process is none: it ends, and gives the addresses away."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def is_done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled() or (error := task.exception()) is None:
                return
            if vital:
                _log.error("the process can't go on", reason=repr(error))
                self._ending.set()
            else:
                _log.error("something failed that isn't needed to go on", reason=repr(error))

        task.add_done_callback(is_done)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    # --- inputs ------------------------------------------------------------

    def _feed(self, told: Callable[[float], list[Action]]) -> None:
        """Tell the machine something, after what has come over the links."""
        self._read()
        self._perform(told(now()))
        self._set_timer()

    def _read(self) -> None:
        for message, link in self._links.receive():
            refusal, actions = self._machine.heard(message, link, now())
            if refusal is not None:
                self._links.refused.note(refusal)
            self._perform(actions)
        for link, key_id in self._links.misheard.items():
            self._perform(self._machine.misheard(link, key_id, now()))
        self._links.misheard.clear()
        self._flood.look(now())

    def _on_datagrams(self) -> None:
        self._read()
        self._deafen()
        pause = _READ_EVERY_IN_A_FLOOD if self._flood.is_on else _READ_EVERY
        self._rest = asyncio.get_running_loop().call_later(pause, self._listen)
        self._set_timer()

    def _listen(self) -> None:
        for one in self._links.sockets():
            asyncio.get_running_loop().add_reader(one, self._on_datagrams)

    def _deafen(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
        for one in self._links.sockets():
            asyncio.get_running_loop().remove_reader(one)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wait = max(0.0, self._machine.deadline() - now())
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(wait, self._feed, self._machine.tick)

    def _on_event(self, event: Event) -> None:
        match event:
            case CarrierChanged():
                self._learn_carrier()
            case AddressGone(address):
                self._feed(lambda at: self._machine.gone(str(address), at))

    def _learn_carrier(self) -> None:
        words = " and ".join(self._addresses.lost())
        self._tell(Facts(carrier_lost=words))

    def _tell(self, facts: Facts) -> None:
        self._feed(lambda at: self._machine.learn(at, facts))

    def _mend_links(self) -> dict[int, str]:
        if self._links.needs_mending():
            self._deafen()
            self._links.mend()
            self._listen()
        return dict(self._links.absent)

    def _clients_wait(self) -> bool:
        virtual = {one.address.ip for one in self._ha.virtual}
        return anybody_listens(virtual, ports_of(self._loaded.config))

    def _on_claim(self, address: object, mac: object) -> None:
        self._feed(lambda at: self._machine.claimed(str(address), str(mac), at))

    async def command(self, command: Command, *, force: bool = False) -> str:
        """What an operator wants; why not, or nothing. Called by the admin routes.

        Returns once it is done, or it can be told that it isn't.
        """
        before = self._machine.known.state
        refusals: list[str] = []

        def feed(at: float) -> list[Action]:
            refusal, actions = self._machine.command(command, at, force=force)
            refusals.append(refusal)
            return actions

        self._feed(feed)
        if refusals[0]:
            return refusals[0]
        if command in (Command.MAINT, Command.READY):
            await self._maintenance.keep(command is Command.MAINT)
        wanted = {
            Command.SWITCH: State.BACKUP if before is State.ACTIVE else State.ACTIVE,
            Command.MAINT: State.MAINT,
        }.get(command)
        if wanted is None or await self._becomes(wanted):
            return ""
        return f"it was tried, but this node is {self._machine.known.state}: see `mailweir events`"

    async def _becomes(self, state: State) -> bool:
        """Whether the machine comes to be in a state before it takes too long."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while self._machine.known.state is not state:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    @property
    def machine(self) -> Machine:
        """To be looked at."""
        return self._machine

    @property
    def links(self) -> Links:
        """To be looked at."""
        return self._links

    @property
    def not_kept(self) -> str:
        """Why maintenance won't outlive the process; empty where it will."""
        return self._maintenance.problem

    # --- what the machine asks for -------------------------------------------

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send(message, to_witness):
                    known = self._machine.known
                    heard = (known.witness if to_witness else known.peer).message
                    newest = heard.newest_key if heard else None
                    self._links.send(message, to_witness=to_witness, peer_newest=newest)
                case Say(level, event, reason):
                    getattr(_log, level)(event, reason=reason)
                    role = _ROLES.get(self._machine.known.state, "backup")
                    self._asking.has_role(role, alarms=len(self._machine.known.alarms))
                    self._changed.set()
                case Take() | Drop():
                    self._holding.do(action)
                case Announce():
                    self._announcer.burst()
                case Probe(ticket):
                    self._spawn(self._probe(ticket))
                case Fence(ticket):
                    self._spawn(self._fence(ticket))

    async def _probe(self, ticket: int) -> None:
        ha = self._ha
        wait = min(0.1, ha.timers.interval / 2)
        ports = ports_of(self._loaded.config)
        asked = asyncio.gather(
            neighbours.holder_of(ha.virtual, ports, wait=wait),
            neighbours.any_answers(ha.gateway, wait=wait) if ha.gateway else _nobody(),
            return_exceptions=True,
        )
        held, answers = await asked
        if isinstance(held, BaseException):
            # Where nothing can be found out, mail is to go on.
            _log.error("the addresses can't be probed", reason=repr(held))
            held = (Holder.NOBODY, "")
        holder, told = held

        def feed(at: float) -> list[Action]:
            found = answers is True
            first = self._machine.learn(at, Facts(gateway_answers=found)) if ha.gateway else []
            return [*first, *self._machine.probed(ticket, holder, told, at)]

        self._feed(feed)

    async def _fence(self, ticket: int) -> None:
        problem = await fence.run(self._ha.fence)
        self._feed(lambda at: self._machine.fenced(ticket, problem, at))

    # --- reload and end --------------------------------------------------------

    async def _reload(self) -> None:
        """What can change while the addresses stay where they are; the rest is refused."""
        self._supervisor.reloading()
        try:
            loaded, ha, found = await self._load()
            places = places_that_differ(self._loaded.config, loaded.config)
            if problems := [*fixed_differences(self._ha, ha), *places]:
                raise StartError("; ".join(problems))
        except MailweirError as error:
            for line in str(error).splitlines():
                _log.error("the reload is refused, the old configuration stays", reason=line)
        else:
            self._loaded, self._ha = loaded, ha
            self._links.take_keys(found)
            await self._admin.take(loaded)
            self._asking.grace.run_grace = ha.run_grace
            self._asking.grace.handover = ha.handover
            settings = settings_of(ha, self._machine.known.settings.node)
            self._feed(lambda at: self._machine.configure(settings, at))
            _log.info("reloaded")
        self._supervisor.ready(f"node {self._machine.known.settings.node}")

    async def _release(self) -> None:
        """Give the addresses to the peer before the process ends."""
        self._supervisor.stopping("the addresses are released")
        self._feed(lambda at: self._machine.command(Command.STOP, at)[1])
        if not await self._becomes(State.MAINT):
            _log.warning("the addresses stay until their lease is over")
        self._asking.has_role("stopped", alarms=0)
        await self._asking.ask()


def _read_all(file: Path, reading: Reading) -> tuple[Loaded, Ha, dict[int, bytes]]:
    loaded = load(file, reading=reading)
    ha = _native(loaded, file)
    return loaded, ha, read_keys(ha.keys)


def _native(loaded: Loaded, file: Path) -> Ha:
    """The pair of a configuration. Raises ConfigError or StartError where there is none."""
    ha = loaded.config.ha
    if ha is None:
        raise ConfigError([loaded.problem((), "has no `ha`: there is no pair to take part in")])
    if ha.mode is not HaMode.NATIVE:
        raise StartError(
            f"{file}: `ha.mode` is {ha.mode}: the addresses are somebody else's to move; mailweir"
            " takes his word by `mailweir ha notify`"
        )
    return ha


async def _nobody() -> bool:
    return False
