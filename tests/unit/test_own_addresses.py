"""Which addresses are the machine's."""

import socket
from ipaddress import ip_address

import pytest

from mailweir.own_addresses import is_own


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_is(address: str) -> None:
    assert is_own(ip_address(address))


@pytest.mark.parametrize("address", ["192.0.2.1", "198.51.100.7", "2001:db8::1"])
def test_documentation_is_not(address: str) -> None:
    assert not is_own(ip_address(address))


def test_what_the_system_dials_from_is() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
        except OSError:
            own = "127.0.0.1"  # a machine without a network
        else:
            own = asking.getsockname()[0]
    assert is_own(ip_address(own))
