"""Floating addresses, as the kernel has them for the length of a lease."""

import asyncio
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from harness.needs import program
from harness.networks.segment import Segment, heard, segment
from harness.pair import lease_holder
from harness.pair.lease_holder import floating
from harness.process import running
from harness.waiting import LIMIT, until
from mailweir.config.ha import Floating
from mailweir.ha.kernel.addresses import AddressError, Addresses, AddressGone, CarrierChanged, Event

# As they are written, and as the kernel has the first one: in no network.
WRITTEN, SIX = "192.0.2.10/24", "2001:db8::10/64"
FOUR = "192.0.2.10/32"
BOTH = floating("eth0", WRITTEN, SIX)
IPS = frozenset(each.address.ip for each in BOTH)


@pytest.fixture(scope="module")
def machines() -> Iterator[Segment]:
    """Two balancers and a client."""
    with segment("a", "b", "client") as made:
        yield made


@pytest.fixture(autouse=True)
def as_before(machines: Segment) -> Iterator[None]:
    """No test leaves an address behind."""
    yield
    machines.forget(FOUR, SIX)


@asynccontextmanager
async def opened(
    what: list[Floating] = BOTH, *, lease: float = 3
) -> AsyncIterator[tuple[Addresses, list[Event]]]:
    """Ready to have addresses, and what is heard of them."""
    events: list[Event] = []
    addresses = Addresses(what, lease=lease, on_event=events.append)
    await addresses.open()
    try:
        yield addresses, events
    finally:
        await addresses.remove()
        await addresses.close()


def test_are_had_renewed_and_given_up(machines: Segment) -> None:
    async def task() -> None:
        async with opened() as (addresses, events):
            await addresses.add()
            assert addresses.held() == IPS
            assert {FOUR, SIX} <= set(machines.addresses("a"))  # without tentative ones
            await addresses.add()
            await addresses.renew()
            await addresses.remove()
            assert addresses.held() == frozenset()
            assert not {FOUR, SIX} & set(machines.addresses("a"))
            await addresses.remove()
            assert not events

    machines.on("a", task)


def test_other_routes_and_sources_stay_as_they_were(machines: Segment) -> None:
    def routes() -> str:
        return "".join(machines.ip("a", family, "route", "show") for family in ("-4", "-6"))

    async def task() -> None:
        before = routes()
        async with opened() as (addresses, _):
            await addresses.add()
            assert routes() == before
            assert "src 192.0.2.1 " in machines.ip("a", "route", "get", "192.0.2.2")
            assert "src 2001:db8::1 " in machines.ip("a", "route", "get", "2001:db8::2")
        assert routes() == before

    machines.on("a", task)


@pytest.mark.parametrize("promoted", ["0", "1"])
@pytest.mark.parametrize("first", [True, False])
def test_the_machines_own_address_outlives_it(
    machines: Segment, *, promoted: str, first: bool, counted: Callable[[str], None]
) -> None:
    """Whichever of the two was there first, with the kernel's default or without; and the routes
    that go by it.
    """
    own, way = ["192.0.2.1/24", "dev", "eth0"], ["default", "via", "192.0.2.2"]

    async def task() -> None:
        async with opened(floating("eth0", WRITTEN)) as (addresses, _):
            if first:
                await addresses.add()
            machines.ip("a", "address", "add", *own)
            machines.ip("a", "route", "add", *way)
            if not first:
                await addresses.add()
            await addresses.renew()
            await addresses.remove()
        assert own[0] in machines.addresses("a")
        assert "default via 192.0.2.2" in machines.ip("a", "route", "show")
        assert "192.0.2.0/24 dev eth0 proto kernel" in machines.ip("a", "route", "show")

    machines.ip("a", "address", "delete", *own)
    machines.setting("a", "net/ipv4/conf/eth0/promote_secondaries", promoted)
    try:
        machines.on("a", task)
    finally:
        machines.ip("a", "route", "delete", *way)
    order = "behind the virtual one" if first else "before it"
    counted(f"promote_secondaries={promoted}, own address {order}: it and its routes stay")


def test_networks_the_device_has_no_address_of_are_reached(machines: Segment) -> None:
    """And not for longer than the lease: the kernel keeps the route of IPv6 for so long."""
    what = floating("eth0", "198.51.100.10/24", "2001:db8:5::10/64")

    def routes() -> str:
        return "".join(machines.ip("a", family, "route", "show") for family in ("-4", "-6"))

    async def task() -> None:
        async with opened(what) as (addresses, _):
            await addresses.add()
            await addresses.renew()
            assert "198.51.100.0/24 dev eth0" in routes()
            assert "2001:db8:5::/64 dev eth0" in routes()
        assert "198.51.100.0" not in routes()
        assert re.search(r"2001:db8:5::/64 dev eth0 .* expires [0-3]sec", routes())

    machines.on("a", task)


def test_ipv6_takes_connections_at_once(machines: Segment) -> None:
    def connect() -> None:
        socket.create_connection(("2001:db8::10", 2525), timeout=LIMIT).close()

    async def task() -> float:
        with socket.create_server(("::", 2525), family=socket.AF_INET6):
            async with opened() as (addresses, _):
                await addresses.add()
                began = time.monotonic()
                await asyncio.wrap_future(machines.inside("client", connect))
                return time.monotonic() - began

    # The search for duplicates would take a second.
    assert machines.on("a", task) < 0.9


def test_lease_of_a_killed_process_ends(machines: Segment, tmp_path: Path) -> None:
    lease = 2
    command = [*machines.before("a"), sys.executable, lease_holder.__file__]
    with running([*command, str(lease), "eth0", WRITTEN, SIX], tmp_path, "holder") as process:
        process.until(lambda: "held" in process.out, "the addresses to be had")
        began = time.monotonic()
        while time.monotonic() < began + lease + 1.2:
            assert {FOUR, SIX} <= set(machines.addresses("a"))  # renewed
            time.sleep(0.1)
        process.send(signal.SIGKILL)
        killed = time.monotonic()
        until(lambda: not {FOUR, SIX} & set(machines.addresses("a")), "the lease to end")
        took = time.monotonic() - killed
    # Up to a third of the lease had passed since the last renewal; the kernel is up to 1 s late.
    assert lease * 2 / 3 - 0.5 < took < lease + 1.5


def test_removal_by_hand_is_noticed(machines: Segment) -> None:
    async def task() -> None:
        async with opened() as (addresses, events):
            await addresses.add()
            machines.ip("a", "address", "delete", FOUR, "dev", "eth0")
            gone = AddressGone(ip_address("192.0.2.10"))
            await heard(lambda: gone in events, "the address's end to be noticed")
            assert addresses.held() == IPS - {gone.address}
            with pytest.raises(AddressError, match=r"192\.0\.2\.10 isn't on eth0 any more"):
                await addresses.renew()
            assert FOUR not in machines.addresses("a")
            await addresses.add()
            assert addresses.held() == IPS
            assert events == [gone]

    machines.on("a", task)


def test_end_of_a_lease_is_noticed(machines: Segment) -> None:
    async def task() -> None:
        async with opened(lease=2) as (addresses, events):
            await addresses.add()
            await heard(lambda: len(events) == 2, "the leases' end to be noticed")
            assert {event.address for event in events if isinstance(event, AddressGone)} == IPS
            with pytest.raises(AddressError, match="any more"):
                await addresses.renew()
            assert not {FOUR, SIX} & set(machines.addresses("a"))

    machines.on("a", task)


def test_carrier_is_noticed(machines: Segment) -> None:
    async def task() -> None:
        async with opened() as (addresses, events):
            assert addresses.lost() == []
            machines.unplug("a")
            try:
                await heard(
                    lambda: CarrierChanged("eth0", False) in events, "the cut to be noticed"
                )
                assert addresses.lost() == ["eth0 has no carrier"]
            finally:
                machines.plug("a")
            await heard(lambda: CarrierChanged("eth0", True) in events, "the mending to be noticed")

    machines.on("a", task)


def test_a_device_may_go_and_another_one_come(machines: Segment) -> None:
    async def task() -> None:
        async with opened() as (addresses, events):
            await addresses.add()
            machines.ip("a", "link", "delete", "eth0")
            await heard(lambda: CarrierChanged("eth0", False) in events, "the end to be noticed")
            assert {event.address for event in events if isinstance(event, AddressGone)} == IPS
            with pytest.raises(AddressError, match="there is no device eth0"):
                await addresses.add()
            await addresses.remove()
            machines.connect("a")
            await heard(lambda: CarrierChanged("eth0", True) in events, "the next to be noticed")
            await addresses.add()
            assert {FOUR, SIX} <= set(machines.addresses("a"))

    machines.on("a", task)


def test_addresses_are_had_without_carrier(machines: Segment) -> None:
    """Whether that is wise the caller decides."""

    async def task() -> None:
        async with opened() as (addresses, _):
            machines.unplug("a")
            try:
                await addresses.add()
                assert addresses.held() == IPS
            finally:
                machines.plug("a")

    machines.on("a", task)


def test_stale_ones_are_cleared(machines: Segment, tmp_path: Path) -> None:
    command = [*machines.before("a"), sys.executable, lease_holder.__file__]
    with running([*command, "60", "eth0", WRITTEN, SIX], tmp_path, "holder") as process:
        process.until(lambda: "held" in process.out, "the addresses to be had")
        process.kill()

    async def task() -> list[str]:
        async with opened() as (addresses, events):
            cleared = await addresses.clear()
            assert not {FOUR, SIX} & set(machines.addresses("a"))
            assert not events
            return cleared

    assert machines.on("a", task) == ["192.0.2.10 on eth0", "2001:db8::10 on eth0"]


@pytest.mark.parametrize("device", ["eth0", "lo"])
def test_static_one_is_refused(machines: Segment, device: str) -> None:
    machines.ip("a", "address", "add", SIX, "dev", device, "nodad")

    async def task() -> None:
        async with opened() as (addresses, _):
            with pytest.raises(AddressError, match=f"2001:db8::10 .* {device} has it for good"):
                await addresses.clear()
            if device == "eth0":
                with pytest.raises(AddressError, match="for good already"):
                    await addresses.add()
            there = {ip_address("2001:db8::10")} if device == "eth0" else set()
            assert addresses.held() == there

    try:
        machines.on("a", task)
        assert SIX in machines.ip("a", "address", "show", "dev", device)
    finally:
        machines.ip("a", "address", "delete", SIX, "dev", device)


def test_none_is_had_where_one_can_not_be(machines: Segment) -> None:
    async def task() -> None:
        async with opened() as (addresses, _):
            with pytest.raises(AddressError, match="IPv6 is switched off there"):
                await addresses.add()
            assert addresses.held() == frozenset()

    machines.setting("a", "net/ipv6/conf/eth0/disable_ipv6", "1")
    try:
        machines.on("a", task)
    finally:
        machines.setting("a", "net/ipv6/conf/eth0/disable_ipv6", "0")
        machines.ip("a", "address", "add", "2001:db8::1/64", "dev", "eth0", "nodad")


def test_a_device_that_comes_later(machines: Segment) -> None:
    async def task() -> None:
        async with opened(floating("eth7", FOUR)) as (addresses, events):
            assert addresses.lost() == ["this machine has no device eth7"]
            with pytest.raises(AddressError, match="there is no device eth7"):
                await addresses.add()
            machines.connect_again("a", "eth7")
            await heard(lambda: CarrierChanged("eth7", True) in events, "it to be noticed")
            await addresses.add()
            assert addresses.lost() == []

    machines.on("a", task)


def test_a_process_that_stood_still_does_not_renew(machines: Segment, tmp_path: Path) -> None:
    """It finds the addresses gone, and somebody else may have them by now."""
    command = [*machines.before("a"), sys.executable, lease_holder.__file__]
    with running([*command, "2", "eth0", WRITTEN, SIX], tmp_path, "holder") as process:
        process.until(lambda: "held" in process.out, "the addresses to be had")
        process.send(signal.SIGSTOP)
        until(lambda: not {FOUR, SIX} & set(machines.addresses("a")), "the lease to end")
        process.send(signal.SIGCONT)
        assert process.wait() == 1
        assert "isn't on eth0 any more" in process.err
        assert not {FOUR, SIX} & set(machines.addresses("a"))


@pytest.mark.parametrize(
    ("capability", "needs"), [("net_admin", "may not give"), ("net_raw", "may not speak")]
)
def test_permissions_are_named(
    machines: Segment, tmp_path: Path, capability: str, needs: str
) -> None:
    command = [*machines.before("a"), program("setpriv"), f"--bounding-set=-{capability}"]
    holder = [sys.executable, lease_holder.__file__, "2", "eth0", FOUR]
    with running([*command, *holder], tmp_path, "holder") as process:
        assert process.wait() == 1
        assert needs in process.err
        assert f"CAP_{capability.upper()}" in process.err
