"""Addresses: IP and port, nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.config.address import parse_bind, parse_server


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("10.0.0.1:25", "10.0.0.1:25"),
        ("[2001:DB8:0::1]:587", "[2001:db8::1]:587"),
        ("0.0.0.0:0", "0.0.0.0:0"),
        ("[::]:25", "[::]:25"),
    ],
)
def test_binds(text: str, written: str) -> None:
    assert str(parse_bind(text)) == written


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("mx.example.com:25", "must be an IP address and port, for example 10.0.0.1:25"),
        ("10.0.0.1", "10.0.0.1 needs a port"),
        ("2001:db8::1", "2001:db8::1 needs a port"),
        ("[2001:db8::1]", "must be an IP address and port"),
        ("2001:db8::1:25", "needs a port"),
        ("[10.0.0.1]:25", "in brackets"),
        ("[::ffff:10.0.0.1]:25", "write the IPv4 address itself: 10.0.0.1:25"),
        ("[fe80::1%eth0]:25", "with a zone"),
        ("10.0.0.1:65536", "port 65536 is above 65535"),
        ("10.0.0.1:-1", "must be an IP address and port"),
        ("010.0.0.1:25", "must be an IP address and port"),
        ("224.0.0.1:25", "multicast"),
        (":25", "must be an IP address and port"),
        ("", "must be an IP address and port"),
        (25, "must be an IP address and port"),
        ("10.0.0.1:0", "a server needs a port"),
        ("0.0.0.0:25", "stands for every address"),
        ("[::]:25", "stands for every address"),
    ],
)
def test_refuses_as_a_server(value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        parse_server(value)
    assert message in str(caught.value)


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(1, 65535))
def test_reads_back_what_it_writes(ip: object, port: int) -> None:
    text = f"[{ip}]:{port}" if ":" in str(ip) else f"{ip}:{port}"
    try:
        address = parse_bind(text)
    except ValueError:
        return
    assert parse_bind(str(address)) == address
