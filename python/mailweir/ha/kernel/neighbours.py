"""Asks neighbours on the network, and hears what they claim. Called by `ha.agent`.

Before a node takes the addresses it asks whether they are somebody's already: the peer may be well
and only its heartbeats lost. And whether the network is there at all: a gateway answers.
"""

import asyncio
import errno
import fcntl
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv6Address

from mailweir.config.ha import Floating
from mailweir.ha.kernel.frames import ARP, IP, IPV6, MAC, claim, claims_filter, question, spelled
from mailweir.ha.kernel.netlink import AddressSaid, Netlink, Route
from mailweir.ha.kernel.tap import Tap, is_absent
from mailweir.ha.machine.facts import Holder

# linux/sockios.h
_SIOCGIFHWADDR = 0x8927
# How often an address is asked for within the time there is.
_TRIES = 3
_NOBODY = "nobody answers for the addresses"
# Seconds for a connection to be accepted by who answers for an address, and from one try to the
# next: the kernel's own second try comes too late.
_ACCEPT_LIMIT, _ACCEPT_TRIES = 1.0, (0.0, 0.3, 0.6)
# This node can't send what asks for it: no way, no right, no such address or device (any more).
_UNASKABLE = {
    errno.ENETUNREACH,
    errno.EADDRNOTAVAIL,
    errno.EACCES,
    errno.EPERM,
    errno.EINVAL,
    errno.ENODEV,
}
# Seconds between two claims of an address that are told, and until a lost device is tried again.
_TOLD_EVERY, _REOPEN = 1.0, 1.0


async def who_has(address: IP, dev: str, *, wait: float) -> MAC | None:
    """Who answers for an address; this machine itself doesn't count.

    Asked as a probe, so that nobody learns anything of us. None, too, where the device is down,
    absent, or isn't Ethernet.
    """
    return (await _ask(dev, {address: None}, wait)).get(address)


async def any_answers(gateways: Sequence[IP], *, wait: float) -> bool:
    """One of them answers, on the device that the way to it leaves by."""
    ways = await asyncio.to_thread(_ways, gateways)
    asked = [asyncio.create_task(_ask(way.dev, {ip: way.source}, wait)) for ip, way in ways]
    try:
        for answers in asyncio.as_completed(asked):
            if await answers:
                return True
    finally:
        for task in asked:
            task.cancel()
    return False


async def double_of(own: Sequence[IP], *, wait: float) -> str:
    """Another machine that answers for one of this node's own addresses, in words; or nothing.

    Other devices of this machine answer too where they are in the same network: they are no double.
    """
    groups, macs = await asyncio.to_thread(_own_places, own)
    answers = await asyncio.gather(
        *(_ask(dev, dict.fromkeys(ips), wait) for (dev, _), ips in groups.items())
    )
    found = [
        f"{ip} is at {mac} on {dev}"
        for (dev, _), answer in zip(groups, answers, strict=True)
        for ip, mac in answer.items()
        if mac not in macs
    ]
    return f"another machine has this node's own address: {', '.join(found)}" if found else ""


async def holder_of(
    virtual: Sequence[Floating], ports: Sequence[int], *, wait: float
) -> tuple[Holder, str]:
    """What has these addresses that we don't have, and how that shows.

    NOBODY after `wait`. Whoever answers for one is asked to accept a connection at these ports,
    from an address this node has on the same device. Where that can't be asked (no port, or no such
    address) it is taken to serve: a dead node's addresses are gone with their lease anyway.
    """
    found = await _found(virtual, wait)
    if not found:
        return Holder.NOBODY, _NOBODY
    accepting = asyncio.create_task(_accepting(found, ports))
    try:
        while True:
            over, _ = await asyncio.wait([accepting], timeout=wait)
            if over:
                return accepting.result()
            # A lease may end right here, and then there is nobody to wait for.
            if not await _found(virtual, wait):
                return Holder.NOBODY, _NOBODY
    finally:
        accepting.cancel()


async def _found(virtual: Sequence[Floating], wait: float) -> list[tuple[Floating, MAC]]:
    """Those that somebody answers for, and where that is."""
    groups = _by_tap(virtual)
    answers = await asyncio.gather(
        *(_ask(dev, dict.fromkeys(ips), wait) for (dev, _), ips in groups.items())
    )
    macs = dict(zip(groups, answers, strict=True))
    return [
        (it, mac)
        for it in virtual
        if (mac := macs[it.dev, it.address.version].get(it.address.ip)) is not None
    ]


async def _accepting(
    found: Sequence[tuple[Floating, MAC]], ports: Sequence[int]
) -> tuple[Holder, str]:
    at = ", ".join(f"{it.address.ip} is at {mac} on {it.dev}" for it, mac in found)
    own = await asyncio.to_thread(_prepare, found)
    places = [
        (it, source, port)
        for it, _ in found
        if (source := _source(own, it)) is not None
        for port in ports
    ]
    tries = [asyncio.create_task(_accepts(*place)) for place in places]
    known = False
    try:
        for result in asyncio.as_completed(tries):
            place = await result
            if place:
                return Holder.SERVING, f"{at}; {place} accepts connections"
            known = known or place is not None
    finally:
        for task in tries:
            task.cancel()
    if known:
        return Holder.SILENT, f"{at}; no connection is accepted"
    return Holder.SERVING, f"{at}; whether it accepts connections can't be asked from here"


class ClaimWatch:
    """Hears others claim one of the addresses; told once a second for each address at most."""

    def __init__(self, virtual: Sequence[Floating], on_claim: Callable[[IP, MAC], None]) -> None:
        self._wanted = _by_tap(virtual)
        self._on_claim = on_claim
        self._told: dict[IP, float] = {}
        self._taps: dict[tuple[str, int], Tap] = {}
        self._timers: dict[tuple[str, int], asyncio.TimerHandle] = {}

    def open(self) -> None:
        """Hear from now on. StartError: no permission."""
        for key in self._wanted:
            self._listen(key)

    def close(self) -> None:
        """Hear nothing more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for key in list(self._taps):
            self._drop(key)

    def _listen(self, key: tuple[str, int]) -> None:
        self._timers.pop(key, None)
        try:
            tap = _tap_for(key[0], self._wanted[key])
        except OSError:
            self._later(key)
            return
        self._taps[key] = tap
        asyncio.get_running_loop().add_reader(tap.fileno(), self._hear, key)

    def _hear(self, key: tuple[str, int]) -> None:
        try:
            for ip, mac in _others(self._taps[key], self._wanted[key]).items():
                self._tell(ip, mac)
        except OSError:
            # It is down, or gone; one that comes back is another one.
            self._drop(key)
            self._later(key)

    def _tell(self, ip: IP, mac: MAC) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._told.get(ip, -_TOLD_EVERY) >= _TOLD_EVERY:
            self._told[ip] = now
            self._on_claim(ip, mac)

    def _later(self, key: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(_REOPEN, self._listen, key)

    def _drop(self, key: tuple[str, int]) -> None:
        tap = self._taps.pop(key)
        asyncio.get_running_loop().remove_reader(tap.fileno())
        tap.close()


def _by_tap(floating: Sequence[Floating]) -> dict[tuple[str, int], list[IP]]:
    """What one tap can hear of: the addresses of a device, of one family."""
    groups: dict[tuple[str, int], list[IP]] = {}
    for each in floating:
        groups.setdefault((each.dev, each.address.version), []).append(each.address.ip)
    return groups


def _tap_for(dev: str, ips: Sequence[IP]) -> Tap:
    """Hears claims to these, all of one family."""
    return Tap(dev, ARP if ips[0].version == 4 else IPV6, claims_filter(ips))


async def _ask(dev: str, sources: Mapping[IP, IP | None], wait: float) -> dict[IP, MAC]:
    """Who answers for these, all of one family, each asked from its source."""
    try:
        tap = _tap_for(dev, list(sources))
    except OSError as error:
        if is_absent(error):
            return {}
        raise
    try:
        own = tap.mac()
        return {} if own is None else await _answers(tap, own, sources, wait)
    finally:
        tap.close()


async def _answers(
    tap: Tap, own: bytes, sources: Mapping[IP, IP | None], wait: float
) -> dict[IP, MAC]:
    loop = asyncio.get_running_loop()
    answers: dict[IP, MAC] = {}
    complete = asyncio.Event()

    def hear() -> None:
        with suppress(OSError):  # it went down
            answers.update(_others(tap, list(sources)))
        if len(answers) == len(sources):
            complete.set()

    loop.add_reader(tap.fileno(), hear)
    try:
        for _ in range(_TRIES):
            with suppress(OSError):  # it is down
                for ip, source in sources.items():
                    if ip not in answers:
                        tap.send(question(ip, own, source))
            with suppress(TimeoutError):
                await asyncio.wait_for(complete.wait(), wait / _TRIES)
                break
        return answers
    finally:
        loop.remove_reader(tap.fileno())


def _others(tap: Tap, ips: Sequence[IP]) -> dict[IP, MAC]:
    """What was claimed by others. OSError once where the device went down."""
    own = tap.mac()
    said = [claim(frame) for frame in tap.heard()]
    return {
        one.ip: one.mac
        for one in said
        if one and one.ip in ips and (own is None or one.mac != spelled(own))
    }


def _ways(ips: Iterable[IP]) -> list[tuple[IP, Route]]:
    """To those there is one to."""
    found: list[tuple[IP, Route]] = []
    kernel = Netlink()
    try:
        for ip in ips:
            if isinstance(ip, IPv6Address) and ip.scope_id:
                found.append((IPv6Address(int(ip)), Route(ip.scope_id, None)))
                continue
            with suppress(OSError):
                found.append((ip, kernel.route(ip)))
    finally:
        kernel.close()
    return found


def _own_places(own: Sequence[IP]) -> tuple[dict[tuple[str, int], list[IP]], set[MAC]]:
    """The devices that have these, and the hardware addresses of all devices."""
    groups: dict[tuple[str, int], list[IP]] = {}
    macs = set()
    kernel = Netlink()
    try:
        said = [one for one in kernel.addresses() if isinstance(one, AddressSaid)]
    finally:
        kernel.close()
    names = dict(socket.if_nameindex())
    for one in said:
        if one.ip in own and one.index in names:
            groups.setdefault((names[one.index], one.ip.version), []).append(one.ip)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for name in names.values():
            with suppress(OSError):  # it is gone
                asked = struct.pack("16s24x", name.encode())
                told = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, asked)
                macs.add(spelled(told[18:24]))
    return groups, macs


def _prepare(found: Sequence[tuple[Floating, MAC]]) -> list[AddressSaid]:
    """The addresses of this node.

    The kernel is told who answered: with an older idea of it, it would ask the wrong one for 11 s.
    """
    kernel = Netlink()
    try:
        for it, mac in found:
            with suppress(OSError):
                kernel.neighbour(socket.if_nametoindex(it.dev), it.address.ip, mac)
        return [one for one in kernel.addresses() if isinstance(one, AddressSaid)]
    finally:
        kernel.close()


def _source(own: Sequence[AddressSaid], to: Floating) -> IP | None:
    """An address of this node on the device, of the same network if there is one."""
    with suppress(OSError):
        index = socket.if_nametoindex(to.dev)
        there = [
            one.ip
            for one in own
            if one.index == index and one.ip.version == to.address.version and not one.ours
        ]
        there.sort(key=lambda ip: (ip not in to.address.network, ip.is_link_local))
        return there[0] if there else None
    return None


async def _accepts(to: Floating, source: IP, port: int) -> str | None:
    """Where a connection was accepted; "" where none was, None where it can't be asked."""
    tries = [asyncio.create_task(_connect(to, source, port, delay)) for delay in _ACCEPT_TRIES]
    try:
        async with asyncio.timeout(_ACCEPT_LIMIT):
            for accepted in asyncio.as_completed(tries):
                await accepted
                return f"port {port} of {to.address.ip}"
    except TimeoutError:
        return ""
    except OSError as error:
        return None if error.errno in _UNASKABLE else ""
    finally:
        for each in tries:
            each.cancel()
    return ""


async def _connect(to: Floating, source: IP, port: int, delay: float) -> None:
    await asyncio.sleep(delay)
    family = socket.AF_INET if source.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, to.dev.encode())
        # The other side is told at once that nothing follows, and we keep nothing of it.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.bind(_socket_address(source, 0, to.dev))
        await asyncio.get_running_loop().sock_connect(
            one, _socket_address(to.address.ip, port, to.dev)
        )


def _socket_address(ip: IP, port: int, dev: str) -> tuple[str, int] | tuple[str, int, int, int]:
    if ip.version == 4:
        return str(ip), port
    return str(ip), port, 0, socket.if_nametoindex(dev) if ip.is_link_local else 0
