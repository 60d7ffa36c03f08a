"""What is known of the kernel's addresses, by what it said."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface

from mailweir.config.ha import Floating
from mailweir.ha.kernel.mirror import KernelView, Mirror
from mailweir.ha.kernel.netlink import AddressSaid, LinkSaid

FOUR = Floating.model_validate({"address": "192.0.2.10/24", "dev": "eth0"})
SIX = Floating.model_validate({"address": "2001:db8::10/64", "dev": "eth1"})
ETH0 = LinkSaid(2, "eth0", carrier=True, gone=False)
ETH1 = LinkSaid(3, "eth1", carrier=False, gone=False)
BOTH = frozenset({"eth0", "eth1"})


def said(address: str, index: int) -> AddressSaid:
    found = ip_interface(address)
    return AddressSaid(
        index, found.ip, found.network.prefixlen, permanent=False, ours=True, gone=False
    )


def mirror() -> Mirror:
    made = Mirror([FOUR, SIX])
    made.fill([ETH0, ETH1])
    return made


def test_nothing_is_known_at_first() -> None:
    assert Mirror([FOUR, SIX]).view() == KernelView(
        frozenset(), {"eth0": False, "eth1": False}, frozenset()
    )


def test_an_address_counts_on_its_own_device_alone() -> None:
    seen = mirror()
    seen.apply([said("192.0.2.10/24", 2), said("2001:db8::10/64", 2)])
    assert seen.view() == KernelView(
        frozenset({FOUR.address.ip}), {"eth0": True, "eth1": False}, BOTH
    )
    assert [one.index for one in seen.anywhere(SIX.address.ip)] == [2]
    assert seen.there(SIX) is None


def test_the_last_word_counts() -> None:
    seen = mirror()
    there = said("192.0.2.10/24", 2)
    seen.apply([there, replace(there, gone=True)])
    assert not seen.view().held
    seen.apply([there, replace(ETH0, carrier=False)])
    assert seen.view() == KernelView(
        frozenset({FOUR.address.ip}), {"eth0": False, "eth1": False}, BOTH
    )


def test_a_device_may_go_and_come_back_with_another_number() -> None:
    seen = mirror()
    seen.apply([replace(ETH0, gone=True)])
    assert seen.index("eth0") is None
    assert seen.view().carrier["eth0"] is False
    seen.apply([replace(ETH0, index=9)])
    assert seen.index("eth0") == 9
    assert seen.name(9) == "eth0"
    assert seen.name(2) == "device 2"


def test_a_renamed_device_is_another_one() -> None:
    seen = mirror()
    seen.apply([said("192.0.2.10/24", 2), replace(ETH0, name="wan")])
    assert seen.index("eth0") is None
    assert not seen.view().held


def test_whether_there_is_a_route_already() -> None:
    seen = mirror()
    assert not seen.has_another("eth0", FOUR.address)
    # Its own, another network, another length, another device: none of these.
    seen.apply([said("192.0.2.10/24", 2), said("198.51.100.1/24", 2), said("192.0.2.1/32", 2)])
    seen.apply([said("192.0.2.2/24", 3)])
    assert not seen.has_another("eth0", FOUR.address)
    seen.apply([said("192.0.2.3/24", 2)])
    assert seen.has_another("eth0", FOUR.address)


def test_all_is_forgotten_for_a_new_look() -> None:
    seen = mirror()
    seen.apply([said("192.0.2.10/24", 2)])
    seen.fill([ETH0])
    assert seen.view() == KernelView(
        frozenset(), {"eth0": True, "eth1": False}, frozenset({"eth0"})
    )
    assert seen.anywhere(ip_address("192.0.2.10")) == []
