"""What is the machine's: addresses, and ports that it gives out."""

import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from mailweir.this_machine import given_ports, is_own


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


@pytest.mark.parametrize(
    ("given", "reserved", "found"),
    [
        ("32768\t60999\n", "\n", set(range(32768, 61000))),
        ("10\t20\n", "12,14-16,19-30\n", {10, 11, 13, 17, 18}),
        ("nonsense", "\n", set()),
        (None, None, set()),
    ],
)
def test_ports_that_the_system_gives(
    tmp_path: Path, given: str | None, reserved: str | None, found: set[int]
) -> None:
    for name, text in (("ip_local_port_range", given), ("ip_local_reserved_ports", reserved)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert given_ports(tmp_path) == found
