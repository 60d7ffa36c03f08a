"""What the kernel has of the floating addresses and their devices, by what it said of them.

Pure: `addresses` feeds it and asks it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from mailweir.config.ha import Floating
from mailweir.ha.kernel.frames import IP
from mailweir.ha.kernel.netlink import AddressSaid, LinkSaid, Said


@dataclass(frozen=True, slots=True)
class KernelView:
    """One moment of it, for every thread to read."""

    held: frozenset[IP]
    carrier: dict[str, bool]
    devices: frozenset[str]  # of these, those that are there


class Mirror:
    """Of all devices and addresses, since any device may get one of those that float."""

    def __init__(self, floating: Sequence[Floating]) -> None:
        self._floating = tuple(floating)
        self._links: dict[int, LinkSaid] = {}
        self._addresses: dict[tuple[int, IP], AddressSaid] = {}

    def fill(self, said: Iterable[Said]) -> None:
        """This is all there is."""
        self._links.clear()
        self._addresses.clear()
        self.apply(said)

    def apply(self, said: Iterable[Said]) -> None:
        """This was said since."""
        for one in said:
            match one:
                case LinkSaid(gone=True):
                    self._links.pop(one.index, None)
                case LinkSaid():
                    self._links[one.index] = one
                case AddressSaid(gone=True):
                    self._addresses.pop((one.index, one.ip), None)
                case AddressSaid():
                    self._addresses[one.index, one.ip] = one

    def view(self) -> KernelView:
        """How it is by now."""
        held = frozenset(each.address.ip for each in self._floating if self.there(each))
        carrier = {each.dev: False for each in self._floating}
        there = [link for link in self._links.values() if link.name in carrier]
        carrier |= {link.name: link.carrier for link in there}
        return KernelView(held, carrier, frozenset(link.name for link in there))

    def index(self, dev: str) -> int | None:
        """The kernel's number of a device."""
        return next((link.index for link in self._links.values() if link.name == dev), None)

    def name(self, index: int) -> str:
        """The name of a device."""
        link = self._links.get(index)
        return link.name if link else f"device {index}"

    def there(self, floating: Floating) -> AddressSaid | None:
        """A floating address on its device."""
        index = self.index(floating.dev)
        return None if index is None else self._addresses.get((index, floating.address.ip))

    def anywhere(self, ip: IP) -> list[AddressSaid]:
        """An address on whatever devices have it."""
        return [one for one in self._addresses.values() if one.ip == ip]

    def has_another(self, dev: str, address: IPv4Interface | IPv6Interface) -> bool:
        """The device has an address of this network that stays: there is a route to it."""
        index = self.index(dev)
        ours = {each.address.ip for each in self._floating}
        return any(
            one.index == index
            and one.ip.version == address.version
            and one.ip in address.network
            and one.prefixlen == address.network.prefixlen
            and one.ip not in ours
            for one in self._addresses.values()
        )
