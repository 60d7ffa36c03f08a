"""What is said to neighbours, byte by byte, and what is made of theirs."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.ha.kernel.frames import Claim, announcements, claim, claims_filter, question, spelled

OURS = bytes.fromhex("020000000001")
FOUR, SIX = ip_address("192.0.2.10"), ip_address("2001:db8::10")
# As Linux 6.18 answers the two probes below.
LINUX4 = bytes.fromhex(
    "36c3204fa0df 020000000002 08060001 0800 06 04 0002 020000000002 c000020a 36c3204fa0df 00000000"
)
LINUX6 = bytes.fromhex(
    "333300000001 020000000002 86dd"
    "60000000 0020 3a ff 20010db8000000000000000000000010 ff020000000000000000000000000001"
    "88 00 f90b 20000000 20010db8000000000000000000000010 0201020000000002"
)
# Of an advertisement: its place in a frame.
VERSION, LENGTH, NEXT, HOPS, TYPE, CODE, SUM, TARGET, OPTION = 14, 18, 20, 21, 54, 55, 56, 62, 78


def test_announcement_by_arp() -> None:
    assert announcements(FOUR, OURS) == [
        bytes.fromhex(
            "ffffffffffff 020000000001 0806"
            "0001 0800 06 04 0001 020000000001 c000020a 000000000000 c000020a"
        ),
        bytes.fromhex(
            "ffffffffffff 020000000001 0806"
            "0001 0800 06 04 0002 020000000001 c000020a 020000000001 c000020a"
        ),
    ]


def test_announcement_by_advertisement() -> None:
    assert announcements(SIX, OURS) == [
        bytes.fromhex(
            "333300000001 020000000001 86dd"
            "60000000 0020 3a ff 20010db8000000000000000000000010 ff020000000000000000000000000001"
            "88 00 f90c 20000000 20010db8000000000000000000000010 0201020000000001"
        )
    ]


@pytest.mark.parametrize(("source", "sender"), [(None, "00000000"), ("192.0.2.1", "c0000201")])
def test_question_by_arp(source: str | None, sender: str) -> None:
    assert question(FOUR, OURS, ip_address(source) if source else None) == bytes.fromhex(
        f"ffffffffffff 020000000001 0806"
        f"0001 0800 06 04 0001 020000000001 {sender} 000000000000 c000020a"
    )


def test_question_by_solicitation() -> None:
    """A probe says nothing of who asks."""
    assert question(SIX, OURS, None) == bytes.fromhex(
        "3333ff000010 020000000001 86dd"
        "60000000 0018 3a ff 00000000000000000000000000000000 ff0200000000000000000001ff000010"
        "87 00 4ccf 00000000 20010db8000000000000000000000010"
    )
    assert question(SIX, OURS, ip_address("2001:db8::1")) == bytes.fromhex(
        "3333ff000010 020000000001 86dd"
        "60000000 0020 3a ff 20010db8000000000000000000000001 ff0200000000000000000001ff000010"
        "87 00 1c0b 00000000 20010db8000000000000000000000010 0101020000000001"
    )


def test_linux_answers() -> None:
    mac = spelled(bytes.fromhex("020000000002"))
    assert mac == "02:00:00:00:00:02"
    assert claim(LINUX4) == Claim(FOUR, mac)
    assert claim(LINUX6) == Claim(SIX, mac)
    # Ethernet fills short frames up.
    assert claim(LINUX4 + bytes(18)) == Claim(FOUR, mac)
    assert claim(LINUX6 + b"\xff") == Claim(SIX, mac)


def test_own_words_are_claims_and_questions_of_probes_are_none() -> None:
    for ip in (FOUR, SIX):
        for frame in announcements(ip, OURS):
            assert claim(frame) == Claim(ip, spelled(OURS))
        assert claim(question(ip, OURS, None)) is None


def changed(frame: bytes, at: int, to: bytes) -> bytes:
    return frame[:at] + to + frame[at + len(to) :]


def summed(frame: bytes) -> bytes:
    """With the checksum it has to have, reckoned by 32-bit words."""
    length = int.from_bytes(frame[LENGTH:NEXT])
    frame = changed(frame, SUM, bytes(2))
    message = frame[TYPE : TYPE + length]
    data = frame[22:54] + struct.pack("!II", length, 58) + message
    data += bytes(-len(data) % 4)
    total = sum(word for (word,) in struct.iter_unpack("!I", data))
    return changed(frame, SUM, struct.pack("!H", 0xFFFF - (total % 0xFFFF or 0xFFFF)))


def test_the_sum_is_reckoned_right() -> None:
    assert summed(LINUX6) == LINUX6


@pytest.mark.parametrize(
    ("at", "to"),
    [
        (14, b"\0\6"),  # not Ethernet
        (16, b"\x86\xdd"),
        (18, b"\x08"),
        (19, b"\x10"),
        (20, b"\0\3"),
        (22, bytes(6)),  # nobody
        (22, b"\x01"),  # a group
        (28, bytes(4)),  # a probe
        (12, b"\x81\0"),
    ],
)
def test_arp_that_claims_nothing(at: int, to: bytes) -> None:
    assert claim(changed(LINUX4, at, to)) is None


@pytest.mark.parametrize(
    "frame",
    [
        changed(LINUX6, VERSION, b"\x40"),
        changed(LINUX6, NEXT, b"\0"),
        changed(LINUX6, HOPS, b"\xfe"),
        changed(LINUX6, SUM, b"\xf9\x0c"),
        changed(LINUX6, LENGTH, b"\0\x21"),
        summed(changed(LINUX6, LENGTH, b"\0\x17")),
        summed(changed(LINUX6, TYPE, b"\x87")),
        summed(changed(LINUX6, CODE, b"\1")),
        summed(changed(LINUX6, TARGET, b"\xff")),
        summed(changed(LINUX6, OPTION, b"\2\0")),
        summed(changed(LINUX6, OPTION, b"\2\2")),
        summed(changed(LINUX6, OPTION + 2, b"\1")),
    ],
)
def test_advertisements_that_claim_nothing(frame: bytes) -> None:
    assert claim(frame) is None


def test_the_sender_is_meant_where_no_option_says_otherwise() -> None:
    frame = summed(changed(LINUX6, OPTION, b"\x0e"))
    assert claim(changed(frame, 6, OURS)) == Claim(SIX, spelled(OURS))


@given(st.binary(max_size=128))
def test_rubbish_is_harmless(frame: bytes) -> None:
    claim(frame)
    claim(b"\xff" * 12 + b"\x08\x06" + frame)
    claim(b"\xff" * 12 + b"\x86\xdd" + frame)


@given(st.sampled_from([LINUX4, LINUX6]), st.data())
def test_mutations_are_harmless(frame: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(12, len(frame) - 1))
    to = data.draw(st.binary(min_size=1, max_size=8))
    mutated = changed(frame, at, to)[: data.draw(st.integers(0, len(frame)))]
    found = claim(mutated if frame is LINUX4 or len(mutated) < TARGET else summed(mutated))
    assert found is None or found.mac not in ("00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff")


def passes(program: bytes, frame: bytes) -> bool:
    """What the kernel does with a filter."""
    steps = list(struct.iter_unpack("=HBBI", program))
    at = value = 0
    while True:
        code, when, otherwise, constant = steps[at]
        at += 1
        if code == 0x06:
            return bool(constant)
        if code == 0x15:
            at += when if value == constant else otherwise
        else:
            size = {0x20: 4, 0x30: 1}[code]
            if constant + size > len(frame):
                return False
            value = int.from_bytes(frame[constant : constant + size])


def test_the_filter_takes_claims_to_its_addresses() -> None:
    four = [ip_address("198.51.100.1"), FOUR]
    six = [ip_address("2001:db8::1:10"), SIX]
    assert passes(claims_filter(four), LINUX4)
    assert passes(claims_filter(six), LINUX6)
    assert not passes(claims_filter(four[:1]), LINUX4)
    assert not passes(claims_filter(six[:1]), LINUX6)
    assert not passes(claims_filter(six), question(SIX, OURS, ip_address("2001:db8::1")))
    assert not passes(claims_filter(six), changed(LINUX6, NEXT, b"\6"))


@given(st.lists(st.ip_addresses(v=4), min_size=1, max_size=40), st.data())
def test_the_filter_takes_each_ipv4_and_no_other(
    ips: list[IPv4Address], data: st.DataObject
) -> None:
    takes_the_listed(ips, data.draw(st.sampled_from(ips) | st.ip_addresses(v=4)))


@given(st.lists(st.ip_addresses(v=6), min_size=1, max_size=40), st.data())
def test_the_filter_takes_each_ipv6_and_no_other(
    ips: list[IPv6Address], data: st.DataObject
) -> None:
    takes_the_listed(ips, data.draw(st.sampled_from(ips) | st.ip_addresses(v=6)))


def takes_the_listed(
    ips: list[IPv4Address] | list[IPv6Address], asked: IPv4Address | IPv6Address
) -> None:
    for frame in announcements(asked, OURS):
        assert passes(claims_filter(ips), frame) is (asked in ips)
