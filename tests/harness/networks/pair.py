"""Networks for two nodes that share an address: a switch, the nodes, and who is around them.

    sw   the switch: a bridge for the LAN, another one for the cross link
    a b  the nodes: eth0 is on the LAN, eth1 on the cross link
    gw   the gateway   cl  clients   srv  mail servers   all on the LAN, by eth0
    w    a witness behind the gateway, where one is asked for

Needs root, iproute2 and nftables. Programs are run there by `before`. What goes wrong with links,
traffic and whole nodes happens at the switch, so that a node learns of it as from a real one.
"""

import json
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from harness.needs import needs
from harness.networks.named import NamedNetworks
from harness.process import run
from harness.waiting import until

Node = Literal["a", "b"]
Link = Literal["lan", "cross"]
NODES: tuple[Node, Node] = ("a", "b")
DEVICES: dict[Link, str] = {"lan": "eth0", "cross": "eth1"}

# The shared addresses; nobody has them at first.
VIRTUAL, VIRTUAL6 = "192.0.2.10", "2001:db8::10"
GATEWAY, CLIENT, SERVER, WITNESS = "192.0.2.254", "192.0.2.100", "192.0.2.200", "203.0.113.9"
GATEWAY6, CLIENT6, SERVER6, WITNESS6 = (
    "2001:db8::fe",
    "2001:db8::100",
    "2001:db8::200",
    "2001:db8:9::9",
)
ADDRESSES: dict[Node, dict[Link, str]] = {
    "a": {"lan": "192.0.2.1", "cross": "198.51.100.1"},
    "b": {"lan": "192.0.2.2", "cross": "198.51.100.2"},
}
ADDRESSES6: dict[Node, dict[Link, str]] = {
    "a": {"lan": "2001:db8::1", "cross": "2001:db8:c::1"},
    "b": {"lan": "2001:db8::2", "cross": "2001:db8:c::2"},
}
_AROUND = {"gw": (GATEWAY, GATEWAY6), "cl": (CLIENT, CLIENT6), "srv": (SERVER, SERVER6)}
_TO_WITNESS = ("203.0.113.1", "2001:db8:9::1")  # the gateway's
# All ports of a node are set by one call, so that no link outlives the other.
_GROUPS: dict[Node, str] = {"a": "1", "b": "2"}


class Pair(NamedNetworks):
    """The networks, and what can be done to them."""

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self._own: dict[tuple[Node, Link], frozenset[str]] = {}

    def cut(self, node: Node, link: Link) -> None:
        """Nothing goes through any more, and the node isn't told: its carrier stays."""
        self.run("sw", "bridge", "link", "set", "dev", f"{node}-{link}", "state", "0")

    def heal(self, node: Node, link: Link) -> None:
        """Undo `cut`."""
        self.run("sw", "bridge", "link", "set", "dev", f"{node}-{link}", "state", "3")

    def unplug(self, node: Node, link: Link) -> None:
        """The cable is out: the node's device has no carrier."""
        self.run("sw", "ip", "link", "set", f"{node}-{link}", "down")

    def plug(self, node: Node, link: Link) -> None:
        """Undo `unplug`, and a `cut` before it."""
        self.run("sw", "ip", "link", "set", f"{node}-{link}", "up")

    def take_out(self, node: Node, link: Link) -> None:
        """The node's device is gone, with its addresses and routes."""
        self.run(node, "ip", "link", "delete", DEVICES[link])

    def put_in(self, node: Node, link: Link) -> None:
        """Undo that; addresses of IPv6 are checked meanwhile, as always."""
        self._connect(node, link, (ADDRESSES[node][link], ADDRESSES6[node][link]))
        self.run("sw", "ip", "link", "set", f"{node}-{link}", "group", _GROUPS[node])
        if link == "lan":
            self._route(node, (GATEWAY, GATEWAY6))
        until(lambda: self._settled(node), f"the addresses of {node}")
        floating = (f"{VIRTUAL}/", f"{VIRTUAL6}/")
        found = self.addresses(node, link)
        self._own[node, link] = frozenset(one for one in found if not one.startswith(floating))

    def lose(
        self,
        sender: str,
        receiver: str | None = None,
        match: str = "",
        *,
        link: Link = "lan",
        percent: int = 100,
    ) -> None:
        """Of what goes from one to the other (to all) so much is lost; `match` is nftables' word.

        `lose("a", "b", "udp dport 5405")`: of heartbeats from a alone. Without a match ARP and
        neighbour discovery are lost as well. Losses add up until `lose_nothing`.
        """
        way = [f'iifname "{sender}-{link}"'] + (
            [f'oifname "{receiver}-{link}"'] if receiver else []
        )
        share = [] if percent == 100 else [f"numgen random mod 100 < {percent}"]
        rule = " ".join([*way, match, *share, "drop"])
        self.run("sw", "nft", f"add rule bridge losses forward {rule}")

    def lose_nothing(self) -> None:
        """Undo every `lose`."""
        self.run("sw", "nft", "flush chain bridge losses forward")

    def kill(self, node: Node, pids: Iterable[int]) -> None:
        """The node's power is gone, and with it these processes; its peers see no last word.

        Processes stand still while the links go down: else the kernel would reset their
        connections, or they would tell others what they see. Addresses they added go too.
        """
        doomed = tuple(pids)
        _signal(doomed, signal.SIGSTOP)
        self.run("sw", "ip", "link", "set", "group", _GROUPS[node], "down")
        _signal(doomed, signal.SIGKILL)
        self._forget(node)

    def revive(self, node: Node) -> None:
        """Power again: links, the node's own addresses, nothing else."""
        self._forget(node)
        for link, device in DEVICES.items():
            self.run(node, "ip", "neighbour", "flush", "dev", device)
            self.plug(node, link)
        until(lambda: self._settled(node), f"the addresses of {node}")

    def addresses(self, node: Node, link: Link = "lan") -> list[str]:
        """What a node's device has, with prefix lengths; link-local ones too."""
        found = json.loads(self.run(node, "ip", "-json", "address", "show", DEVICES[link]))
        return [f"{one['local']}/{one['prefixlen']}" for one in found[0]["addr_info"]]

    @contextmanager
    def twin(self, network: str, node: Node, *, heard: bool) -> Iterator[None]:
        """One more machine that has a node's own addresses, until the block ends.

        The other node finds the first one over the LAN; over the cross link the second one where
        that is `heard`, else the first one too.
        """
        other = "b" if node == "a" else "a"
        with self.made([network]):
            for link in DEVICES:
                self._connect(network, link, (ADDRESSES[node][link], ADDRESSES6[node][link]))
            self._route(network, (GATEWAY, GATEWAY6))
            until(lambda: self._settled(network), f"the addresses of {network}")
            for link, whose in (("lan", node), ("cross", network if heard else node)):
                shown = json.loads(self.run(whose, "ip", "-json", "link", "show", DEVICES[link]))
                at = ["lladdr", shown[0]["address"], "nud", "permanent"]
                self._neighbour("replace", other, ADDRESSES[node][link], link, *at)
            try:
                yield
            finally:
                for link in DEVICES:
                    self._neighbour("delete", other, ADDRESSES[node][link], link)

    def _neighbour(self, change: str, of: str, address: str, link: Link, *at: str) -> None:
        self.run(of, "ip", "neighbour", change, address, "dev", DEVICES[link], *at)

    def _forget(self, node: Node) -> None:
        for link, device in DEVICES.items():
            for address in set(self.addresses(node, link)) - self._own[node, link]:
                # Its lease may be over meanwhile.
                run([*self.before(node), "ip", "address", "delete", address, "dev", device])

    def _settled(self, network: str) -> bool:
        """Whether every device has its carrier and checked its addresses."""
        up = json.loads(self.run(network, "ip", "-json", "address", "show"))
        devices = [one for one in up if one["ifname"] != "lo"]
        return all(
            "NO-CARRIER" not in one["flags"]
            and not any(address.get("tentative") for address in one["addr_info"])
            for one in devices
        )

    def _connect(self, network: str, link: Link, addresses: tuple[str, str]) -> None:
        """A cable to the switch."""
        device, port = DEVICES[link], f"{network}-{link}"
        peer = f"peer name {port} netns {self.name('sw')}"
        self.set_up(network, f"link add {device} type veth {peer}", *_up(device, addresses))
        self.set_up("sw", f"link set {port} master {link} up")

    def _route(self, network: str, gateways: tuple[str, str]) -> None:
        self.set_up(network, *(f"route add default via {gateway}" for gateway in gateways))

    def build(self, *, witness: bool) -> None:
        """Connect what `made` has made. Called by `pair_networks` alone."""
        self.run("sw", "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
        for link in DEVICES:
            bridge = "type bridge forward_delay 0 mcast_snooping 0"
            self.set_up("sw", f"link add {link} {bridge}", f"link set {link} up")
        self.run("sw", "nft", "add table bridge losses")
        self.run(
            "sw", "nft", "add chain bridge losses forward { type filter hook forward priority 0; }"
        )
        # What is the machines' own needn't be looked for, nor be waited for, up to a second; what
        # floats comes when that is over.
        for network in (*NODES, *_AROUND):
            self.run(network, *_checks("default", transmits=0, delay=0))
        for network, addresses in _AROUND.items():
            self._connect(network, "lan", addresses)
        for node in NODES:
            for link in DEVICES:
                self._connect(node, link, (ADDRESSES[node][link], ADDRESSES6[node][link]))
                self.run("sw", "ip", "link", "set", f"{node}-{link}", "group", _GROUPS[node])
        for network in (*NODES, "cl", "srv"):
            self._route(network, (GATEWAY, GATEWAY6))
        if witness:
            self._witness()
        everyone = (*NODES, *_AROUND)
        until(lambda: all(map(self._settled, everyone)), "all addresses to be usable")
        for node in NODES:
            # A device that is put in has its addresses a moment later, as on any machine.
            self.run(node, *_checks("default", transmits=0, delay=1))
            for link, device in DEVICES.items():
                self.run(node, *_checks(device, transmits=1, delay=1))
                self._own[node, link] = frozenset(self.addresses(node, link))

    def _witness(self) -> None:
        self.run("gw", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        peer = f"peer name eth0 netns {self.name('w')}"
        self.set_up("gw", f"link add eth1 type veth {peer}", *_up("eth1", _TO_WITNESS))
        self.set_up("w", *_up("eth0", (WITNESS, WITNESS6)))
        self._route("w", _TO_WITNESS)


def _checks(device: str, *, transmits: int, delay: int) -> tuple[str, ...]:
    """Looks for an address so often; begins within so many seconds (RFC 4862, 5.4.2)."""
    name = f"net.ipv6.conf.{device}"
    return (
        "sysctl",
        "-qw",
        f"{name}.dad_transmits={transmits}",
        f"{name}.router_solicitation_delay={delay}",
    )


def _up(device: str, addresses: tuple[str, str]) -> tuple[str, str, str]:
    four, six = addresses
    return (
        f"link set {device} up",
        f"address add {four}/24 dev {device}",
        f"address add {six}/64 dev {device} nodad",
    )


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it has ended, or went with its parent
            os.kill(pid, number)


@contextmanager
def pair_networks(prefix: str = "pair", *, witness: bool = False) -> Iterator[Pair]:
    """The networks, connected and gone afterwards."""
    needs("iproute2", "nftables", "procps")
    pair = Pair(prefix)
    with pair.made(["sw", *NODES, *_AROUND, *(["w"] if witness else [])]):
        pair.build(witness=witness)
        yield pair
