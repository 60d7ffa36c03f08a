"""Which addresses this machine has, as `mailweir check` asks it: in a network of the test's own."""

from ipaddress import ip_address

import pytest

from harness.networks.named import NamedNetworks
from harness.waiting import LIMIT
from mailweir.this_machine import is_own

# Two in one network, where Linux takes the first one for whoever doesn't ask for the other.
_OWN = ("10.3.0.1", "10.3.0.2", "fd03::1", "fd03::2")
_OTHERS = ("10.3.0.3", "10.4.0.1", "fd03::3")

pytestmark = pytest.mark.needs("iproute2")


@pytest.mark.parametrize("binds_others", [False, True])
def test_each_address_of_its_own_is_known(binds_others: bool) -> None:
    """Also where addresses can be bound that it hasn't."""
    networks = NamedNetworks("own")
    with networks.made("n"):
        networks.run("n", "ip", "link", "add", "one", "type", "veth", "peer", "name", "other")
        for address in _OWN:
            bits, more = ("/24", []) if "." in address else ("/64", ["nodad"])
            networks.run("n", "ip", "address", "add", f"{address}{bits}", "dev", "one", *more)
        for link in ("one", "other"):
            networks.run("n", "ip", "link", "set", link, "up")
        for family in ("ipv4", "ipv6"):
            setting = f"net.{family}.ip_nonlocal_bind={int(binds_others)}"
            networks.run("n", "sysctl", "-qw", setting)
        asked = networks.inside(
            "n", lambda: {name for name in (*_OWN, *_OTHERS) if is_own(ip_address(name))}
        )
        assert asked.result(LIMIT) == set(_OWN)
