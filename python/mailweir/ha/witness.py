"""The process `mailweir ha witness`, on a third machine with the same file: hears both nodes and
answers, so that a node can tell its own cut from its peer's death. `grants` decides.

It has no addresses, no balancer and no rights. Started by the command line.
"""

import asyncio
import secrets
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import structlog

from mailweir.config.address import Address
from mailweir.config.ha import Ha
from mailweir.config.load import load
from mailweir.config.reading import Reading
from mailweir.errors import MailweirError, StartError
from mailweir.ha.clock import now
from mailweir.ha.key_files import read_keys
from mailweir.ha.links import MOST_AT_ONCE, WITNESS_LINK, keyed
from mailweir.ha.machine.grants import WitnessMachine
from mailweir.ha.machine.wire import WITNESS, Opener, Refused, cluster_number, seal
from mailweir.ha.settings import loaded
from mailweir.ha.signals import ignore_others
from mailweir.ha.unheard import Unheard
from mailweir.lanes import Lane
from mailweir.late_addresses import may_come_later
from mailweir.supervisor import Supervisor

_ROOM = 2048

_log = structlog.get_logger("mailweir")


class Answering:
    """One `mailweir ha witness`."""

    def __init__(self, file: Path, *, supervisor: Supervisor) -> None:
        self._file = file
        self._lane = Lane("configuration")
        self._supervisor = supervisor
        self._refused = Unheard()
        self._holder: int | None = None

    async def run(self) -> None:
        """Until told to stop. Raises MailweirError where it can't start."""
        ha, witness, keys = await self._load()
        self._names = sorted(ha.nodes)
        self._take_keys(keys, ha.cluster)
        self._witness = WitnessMachine(
            cluster=cluster_number(ha.cluster),
            newest_key=max(self._keys),
            epoch=secrets.randbits(63) | 1,
            lease=ha.timers.lease,
            dead=ha.timers.dead,
            now=now(),
        )
        ending = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ending.set)
        reloads: set[asyncio.Task[None]] = set()
        loop.add_signal_handler(signal.SIGHUP, lambda: self._reload_beside(ha, reloads))
        ignore_others(loop)
        with _bound(witness) as self._socket:
            loop.add_reader(self._socket, self._read)
            _log.info("started", witness=str(witness), nodes=", ".join(self._names))
            self._supervisor.ready(self._status())
            living = loop.create_task(self._supervisor.show_life(lambda: ()))
            await ending.wait()
            living.cancel()
            loop.remove_reader(self._socket)

    async def _load(self) -> tuple[Ha, Address, dict[int, bytes]]:
        """Raises ConfigError and StartError, and StalledError where that takes too long."""
        return await loaded(self._lane, self._file, _read_all)

    def _take_keys(self, keys: Mapping[int, bytes], cluster: str) -> None:
        self._keys = dict(keys)
        number = cluster_number(cluster)
        self._opener = Opener(cluster=number, receiver=WITNESS, keys=self._keys)

    def _status(self) -> str:
        return f"witness of {' and '.join(self._names)}"

    def _reload_beside(self, before: Ha, reloads: set[asyncio.Task[None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._reload(before))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    async def _reload(self, before: Ha) -> None:
        """Keys can change while it runs, and nothing else."""
        self._supervisor.reloading()
        try:
            ha, _, keys = await self._load()
            for key, had in _fixed(before).items():
                if _fixed(ha)[key] != had:
                    raise StartError(
                        f"`ha.{key}` can't change while it runs: restart `mailweir ha witness`"
                    )
        except MailweirError as error:
            for line in str(error).splitlines():
                _log.error("the reload is refused, the old configuration stays", reason=line)
        else:
            self._take_keys(keys, ha.cluster)
            self._witness.newest_key = max(keys)
            _log.info("reloaded", keys=", ".join(map(str, sorted(keys))))
        self._supervisor.ready(self._status())

    def _read(self) -> None:
        for _ in range(MOST_AT_ONCE):
            try:
                datagram, sender = self._socket.recvfrom(_ROOM)
            except BlockingIOError:
                return
            except OSError:
                continue  # a refusal of what was sent before
            try:
                self._hear(datagram, sender)
            except Refused as refused:
                self._refused.note(refused.why)

    def _hear(self, datagram: bytes, sender: object) -> None:
        message = self._opener.open(datagram, link=WITNESS_LINK)
        refusal, answer = self._witness.heard(message, WITNESS_LINK, now())
        if answer is not None:
            key_id = keyed(self._keys, message.newest_key)
            sealed = seal(answer, link=WITNESS_LINK, key_id=key_id, key=self._keys[key_id])
            try:
                self._socket.sendto(sealed, sender)  # type: ignore[call-overload]
            except OSError:
                return  # the node asks again in a moment
        if refusal is not None:
            raise Refused(refusal)
        holder = self._witness.grants.holder
        if holder != self._holder:
            self._holder = holder
            name = self._names[holder - 1] if holder else "nobody"
            _log.info("leave to be active", node=name)


def _read_all(file: Path, reading: Reading) -> tuple[Ha, Address, dict[int, bytes]]:
    ha = load(file, reading=reading).config.ha
    if ha is None or ha.witness is None:
        raise StartError(f"{file}: there is no `ha.witness`, whose address this would be")
    return ha, ha.witness.address, read_keys(ha.keys)


def _fixed(ha: Ha) -> dict[str, object]:
    """What it has from its start to its end."""
    return {
        "cluster": ha.cluster,
        "nodes": sorted(ha.nodes),
        "witness": ha.witness,
        "timers": ha.timers,
    }


def _bound(address: Address) -> socket.socket:
    """Also where the address comes later."""
    family = socket.AF_INET6 if address.ip.version == 6 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        may_come_later(made)
        made.bind((str(address.ip), address.port))
    except OSError as error:
        made.close()
        raise StartError(f"ha.witness.address: {address}: {error.strerror}") from None
    return made
