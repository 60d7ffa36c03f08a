"""Three networks in a row: clients, a balancer's, servers'. The balancer's host routes as well."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

CLIENT, LISTENER = "10.91.0.1", "10.91.0.2"
SOURCE, SERVER = "10.92.0.2", "10.92.0.1"


class Networks:
    """Their names are `clients`, `balancer` and `servers`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def name(self, network: str) -> str:
        """As `ip netns` knows it."""
        return f"{self._prefix}-{network}"

    def inside(self, network: str) -> list[str]:
        """The beginning of a command that is to run in one of them."""
        return ["nsenter", f"--net=/run/netns/{self.name(network)}"]

    def run(self, network: str, *command: str) -> None:
        """Runs a command there."""
        _run(*self.inside(network), *command)


@contextmanager
def networks(prefix: str) -> Iterator[Networks]:
    """The networks, connected; gone afterwards."""
    made = Networks(prefix)
    names = ("clients", "balancer", "servers")
    try:
        for network in names:
            _run("ip", "netns", "add", made.name(network))
            made.run(network, "ip", "link", "set", "lo", "up")
        for network, here, there in (("clients", LISTENER, CLIENT), ("servers", SOURCE, SERVER)):
            peer = ["peer", "name", "balancer", "netns", made.name(network)]
            made.run("balancer", "ip", "link", "add", network, "type", "veth", *peer)
            for where, device, address in (
                ("balancer", network, here),
                (network, "balancer", there),
            ):
                made.run(where, "ip", "address", "add", f"{address}/24", "dev", device)
                made.run(where, "ip", "link", "set", device, "up")
            made.run(network, "ip", "route", "add", "default", "via", here)
        made.run("balancer", "sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield made
    finally:
        for network in names:
            subprocess.run(["ip", "netns", "delete", made.name(network)], check=False)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
