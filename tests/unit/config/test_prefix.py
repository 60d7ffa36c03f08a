"""Prefixes: one writing of each, and what is said of what is none."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.config.prefix import parse_prefix


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("192.0.2.0/024", "192.0.2.0/24"),
        ("::/0", "::/0"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("2001:db8::1", "2001:db8::1/128"),
        ("2001:0db8:0:0::/64", "2001:db8::/64"),
        ("1:2:3:4:5:6:7::/112", "1:2:3:4:5:6:7:0/112"),
        ("64:ff9b::192.0.2.0/120", "64:ff9b::c000:200/120"),
    ],
)
def test_reads(text: str, written: str) -> None:
    assert parse_prefix(text) == written


EXAMPLE = "must be a prefix such as 10.0.0.0/8 or 2001:db8::/32, not"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"{EXAMPLE} ''"),
        ("mx.example", f"{EXAMPLE} 'mx.example'"),
        ("10.0.0/8", f"{EXAMPLE} '10.0.0/8'"),
        ("010.0.0.0/8", f"{EXAMPLE} '010.0.0.0/8'"),
        ("10.0.0.0/", f"{EXAMPLE} '10.0.0.0/'"),
        ("10.0.0.0/255.0.0.0", f"{EXAMPLE} '10.0.0.0/255.0.0.0'"),
        ("10.0.0.0/+8", f"{EXAMPLE} '10.0.0.0/+8'"),
        ("10.0.0.0/٨", f"{EXAMPLE} '10.0.0.0/٨'"),
        ("10.0.0.0/8/8", f"{EXAMPLE} '10.0.0.0/8/8'"),
        ("10.0.0.0/33", "10.0.0.0 has 32 bits, so no prefix of 33 bits"),
        ("2001:db8::/129", "2001:db8:: has 128 bits, so no prefix of 129 bits"),
        (
            "10.1.2.3/8",
            "10.1.2.3/8 has bits behind its length; did you mean 10.0.0.0/8, or 10.1.2.3 alone?",
        ),
        (
            "2001:db8::1/32",
            "2001:db8::1/32 has bits behind its length; did you mean 2001:db8::/32, or"
            " 2001:db8::1 alone?",
        ),
        ("::ffff:10.0.0.0/104", "write the IPv4 prefix itself: 10.0.0.0/8"),
        ("::ffff:10.0.0.1", "write the IPv4 prefix itself: 10.0.0.1/32"),
        ("fe80::1%eth0", "addresses with a zone (%) can't be used"),
        ("x" * 500, f"{EXAMPLE} '{'x' * 64}...'"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is compared below
        parse_prefix(text)
    assert str(caught.value) == message


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(0, 128))
def test_there_is_one_writing_of_each(ip: IPv4Address | IPv6Address, bits: int) -> None:
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped:
        return
    network = ip_network((ip, min(bits, ip.max_prefixlen)), strict=False)
    if network.version == 6 and str(network).startswith("::ffff:"):
        return
    assert parse_prefix(str(network)) == str(network)
    assert parse_prefix(network.exploded.upper()) == str(network)


@given(st.one_of(st.text(), st.from_regex(r"[0-9a-f:.%]{0,20}/[0-9]{0,4}", fullmatch=True)))
def test_what_is_read_is_what_others_read(text: str) -> None:
    try:
        written = parse_prefix(text)
    except ValueError:
        return
    assert str(ip_network(text)) == written == parse_prefix(written)
