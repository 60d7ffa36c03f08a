"""What a network's machines are told and asked about floating addresses."""

import asyncio
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from harness.networks.segment import Segment, heard, segment
from harness.pair.lease_holder import floating
from harness.waiting import LIMIT
from mailweir.ha.kernel.announce import Announcer
from mailweir.ha.kernel.frames import ARP
from mailweir.ha.kernel.neighbours import ClaimWatch, any_answers, double_of, holder_of, who_has
from mailweir.ha.kernel.tap import Tap
from mailweir.ha.machine.facts import Holder

FOUR, SIX = "192.0.2.10/24", "2001:db8::10/64"
BOTH = floating("eth0", FOUR, SIX)


@pytest.fixture(scope="module")
def machines() -> Iterator[Segment]:
    """Two balancers and a client."""
    with segment("a", "b", "client") as made:
        yield made


@pytest.fixture(autouse=True)
def as_before(machines: Segment) -> Iterator[None]:
    """No test leaves an address behind, nor an idea where it is."""
    yield
    machines.forget(FOUR, SIX)
    for machine in ("a", "client"):
        for family in ("-4", "-6"):
            machines.ip(machine, family, "neighbour", "flush", "dev", "eth0")


def neighbour(machines: Segment, ip: str) -> str:
    """What the client knows of it."""
    shown = machines.ip("client", "neighbour", "show", ip, "dev", "eth0").split()
    return shown[shown.index("lladdr") + 1] if "lladdr" in shown else ""


def meet(ip: str) -> None:
    """Have to do with it, so that one knows where it is."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((ip, 2525), timeout=LIMIT)


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_announcement_moves_what_neighbours_know(machines: Segment, address: str) -> None:
    ip = address.split("/")[0]

    async def task() -> None:
        announcer = Announcer(floating("eth0", address))
        try:
            announcer.burst()
            moved = machines.mac("b")
            await heard(lambda: neighbour(machines, ip) == moved, "the client to learn it")
        finally:
            announcer.close()

    machines.ip("a", "address", "add", address, "dev", "eth0", "nodad")
    machines.inside("client", lambda: meet(ip)).result(LIMIT)
    assert neighbour(machines, ip) == machines.mac("a")
    machines.ip("a", "address", "delete", address, "dev", "eth0")
    machines.on("b", task)


def test_announcements_come_again_until_stopped(machines: Segment) -> None:
    """And begin anew with the next burst."""

    async def task() -> None:
        times: list[float] = []
        began = time.monotonic()
        tap = await asyncio.wrap_future(machines.inside("b", lambda: Tap("eth0", ARP)))
        announcer = Announcer(floating("eth0", FOUR))
        loop = asyncio.get_running_loop()

        def hear() -> None:
            times.extend(time.monotonic() - began for _ in tap.heard())

        loop.add_reader(tap.fileno(), hear)
        try:
            announcer.burst()
            await heard(lambda: len(times) == 8, "four rounds of two forms")
            # A busy machine hears them late.
            planned = (0, 0.1, 0.3, 1)
            assert all(at > due - 0.01 for at, due in zip(times[::2], planned, strict=True))
            announcer.burst()
            await heard(lambda: len(times) >= 16, "four more; of the first burst there were three")
            announcer.stop()
            said = len(times)
            await asyncio.sleep(0.4)  # the next one's time
            assert len(times) == said
        finally:
            announcer.close()
            loop.remove_reader(tap.fileno())
            tap.close()

    machines.on("a", task)


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_who_has_an_address(machines: Segment, address: str) -> None:
    ip = ip_address(address.split("/")[0])

    async def ask() -> tuple[str | None, float]:
        began = time.monotonic()
        return await who_has(ip, "eth0", wait=0.3), time.monotonic() - began

    mac, took = machines.on("a", ask)
    assert mac is None
    assert 0.25 < took < 0.6
    machines.ip("b", "address", "add", address, "dev", "eth0", "nodad")
    mac, took = machines.on("a", ask)
    assert mac == machines.mac("b")
    assert took < 0.2
    # This machine's own doesn't count.
    assert machines.on("b", ask)[0] is None


def test_another_machine_with_an_own_address(machines: Segment) -> None:
    """But not another device of the same machine, in the same network."""
    own = [ip_address("192.0.2.1"), ip_address("2001:db8::1")]

    async def ask() -> str:
        return await double_of(own, wait=0.1)

    machines.connect_again("a", "eth1")
    assert machines.on("a", ask) == ""
    machines.ip("client", "address", "add", "192.0.2.1/32", "dev", "eth0")
    try:
        at = machines.mac("client")
        told = f"another machine has this node's own address: 192.0.2.1 is at {at} on eth0"
        assert machines.on("a", ask) == told
    finally:
        machines.ip("client", "address", "delete", "192.0.2.1/32", "dev", "eth0")
        machines.ip("a", "link", "delete", "eth1")


def test_devices_that_can_not_ask(machines: Segment) -> None:
    async def task() -> list[str | None]:
        ip = ip_address("192.0.2.10")
        return [await who_has(ip, dev, wait=0.1) for dev in ("lo", "eth7")]

    assert machines.on("a", task) == [None, None]


def test_a_gateway_answers(machines: Segment) -> None:
    async def task() -> list[bool]:
        asked = (
            ["192.0.2.254", "192.0.2.3"],
            ["2001:db8::3"],
            ["192.0.2.254", "2001:db8::fe", "203.0.113.1"],
            ["fe80::1%eth0"],
        )
        return [
            await any_answers([ip_address(ip) for ip in gateways], wait=0.3) for gateways in asked
        ]

    assert machines.on("a", task) == [True, True, False, False]


def test_nobody_holds_the_addresses(machines: Segment) -> None:
    async def task() -> tuple[Holder, float]:
        began = time.monotonic()
        holder, words = await holder_of(BOTH, [2525], wait=0.1)
        assert words == "nobody answers for the addresses"
        return holder, time.monotonic() - began

    holder, took = machines.on("a", task)
    assert holder is Holder.NOBODY
    assert 0.08 < took < 0.3


@pytest.mark.parametrize("address", [FOUR, SIX])
@pytest.mark.parametrize("serving", [True, False])
def test_what_holds_the_addresses(machines: Segment, address: str, serving: bool) -> None:
    """Although this node listens at the address, too; it is ready for it."""
    ip = address.split("/")[0]
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET

    def listener() -> socket.socket:
        return socket.create_server(("", 2525 if serving else 2526), family=family)

    async def task() -> tuple[Holder, str]:
        with socket.create_server(("", 2525), family=family):
            return await holder_of(BOTH, [2525, 2527], wait=0.1)

    machines.ip("b", "address", "add", address, "dev", "eth0", "nodad")
    with machines.inside("b", listener).result(LIMIT):
        holder, words = machines.on("a", task)
    expected = f"{ip} is at {machines.mac('b')} on eth0; "
    if serving:
        assert (holder, words) == (
            Holder.SERVING,
            f"{expected}port 2525 of {ip} accepts connections",
        )
    else:
        assert (holder, words) == (Holder.SILENT, f"{expected}no connection is accepted")


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_who_answers_is_asked_for_connections(machines: Segment, address: str) -> None:
    """Not who had the address before, as the kernel may still know."""
    ip = address.split("/")[0]
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    machines.ip("b", "address", "add", address, "dev", "eth0", "nodad")
    before = ["lladdr", machines.mac("client"), "nud", "stale", "dev", "eth0"]
    machines.ip("a", "neighbour", "replace", ip, *before)

    def listener() -> socket.socket:
        return socket.create_server(("", 2525), family=family)

    async def task() -> Holder:
        return (await holder_of(BOTH, [2525], wait=0.1))[0]

    with machines.inside("b", listener).result(LIMIT):
        assert machines.on("a", task) is Holder.SERVING


def test_who_drops_connections_is_silent(machines: Segment) -> None:
    chain = "chain in {\n type filter hook input priority 0;\n tcp dport 2525 drop\n}"
    machines.ip("b", "address", "add", FOUR, "dev", "eth0")

    async def task() -> tuple[Holder, float]:
        began = time.monotonic()
        holder, _ = await holder_of(BOTH, [2525], wait=0.1)
        return holder, time.monotonic() - began

    machines.run("b", "nft", f"table inet drops {{\n{chain}\n}}")
    try:
        holder, took = machines.on("a", task)
    finally:
        machines.run("b", "nft", "delete table inet drops")
    assert holder is Holder.SILENT
    assert 0.9 < took < 1.6


def test_who_can_not_be_asked_is_taken_to_serve(machines: Segment) -> None:
    machines.ip("b", "address", "add", FOUR, "dev", "eth0")
    machines.ip("a", "address", "delete", "192.0.2.1/24", "dev", "eth0")

    async def task() -> tuple[Holder, str]:
        return await holder_of(BOTH, [2525], wait=0.1)

    try:
        holder, words = machines.on("a", task)
    finally:
        machines.ip("a", "address", "add", "192.0.2.1/24", "dev", "eth0")
    assert holder is Holder.SERVING
    assert words.endswith("whether it accepts connections can't be asked from here")


def test_others_claims_are_heard(machines: Segment) -> None:
    claims: list[tuple[str, str]] = []

    async def task() -> None:
        watch = ClaimWatch(BOTH, lambda ip, mac: claims.append((str(ip), mac)))
        watch.open()
        own, foreign = Announcer(BOTH), await asyncio.wrap_future(machines.inside("b", announcer))
        try:
            own.burst()
            foreign.burst()  # three rounds within the second
            await heard(lambda: len(claims) >= 2, "the claims to be heard")
            await asyncio.sleep(0.4)
        finally:
            for each in (own, foreign, watch):
                each.close()

    def announcer() -> Announcer:
        return Announcer([*BOTH, *floating("eth0", "192.0.2.11/24")])

    machines.on("a", task)
    mac = machines.mac("b")
    assert sorted(claims) == [("192.0.2.10", mac), ("2001:db8::10", mac)]


@pytest.mark.parametrize("replaced", [False, True])
def test_claims_are_heard_after_a_device_was_away(machines: Segment, replaced: bool) -> None:
    """It was down for a moment, or is another one now."""
    claims: list[str] = []

    async def task() -> None:
        loop = asyncio.get_running_loop()
        watch = ClaimWatch(floating("eth0", FOUR), lambda _, mac: claims.append(mac))
        watch.open()
        foreign = await asyncio.wrap_future(machines.inside("b", lambda: Announcer(BOTH)))

        def said() -> bool:
            loop.call_soon_threadsafe(foreign.burst)
            return bool(claims)

        try:
            if replaced:
                machines.ip("a", "link", "delete", "eth0")
                machines.connect("a")
            else:
                machines.ip("a", "link", "set", "eth0", "down")
                machines.ip("a", "link", "set", "eth0", "up")
                machines.ip("a", "address", "add", "2001:db8::1/64", "dev", "eth0", "nodad")
            await heard(said, "a claim to be heard")
        finally:
            foreign.close()
            watch.close()

    machines.on("a", task)
    assert claims[0] == machines.mac("b")


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_announcements_go_on_with_another_device(machines: Segment, address: str) -> None:
    ip = address.split("/")[0]

    async def task() -> None:
        announcer = Announcer(floating("eth0", address))
        try:
            machines.ip("a", "address", "add", address, "dev", "eth0", "nodad")
            await asyncio.wrap_future(machines.inside("client", lambda: meet(ip)))
            before = machines.mac("a")
            assert neighbour(machines, ip) == before
            machines.ip("a", "link", "delete", "eth0")
            announcer.burst()
            machines.connect("a")
            after = machines.mac("a")
            assert after != before
            await heard(lambda: neighbour(machines, ip) == after, "the client to learn it")
        finally:
            announcer.close()

    machines.on("a", task)
