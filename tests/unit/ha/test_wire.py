"""The datagrams: their bytes, and that nothing but the very same bytes at the right place opens."""

import dataclasses
import hmac
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.ha.machine.wire import (
    LONGEST,
    MOST_WORDS,
    SIZE,
    WITNESS,
    Flag,
    Kind,
    Message,
    Opener,
    Refusal,
    Refused,
    State,
    Trouble,
    cluster_number,
    seal,
)

KEY, OTHER = bytes(range(32)), bytes(32)
CLUSTER = cluster_number("mailweir")

HELLO = Message(
    kind=Kind.HELLO,
    state=State.ACTIVE,
    flags=Flag.DATAPLANE_OK | Flag.CARRIER_OK | Flag.HOLDS,
    priority=50,
    configured=100,
    cluster=CLUSTER,
    sender=1,
    receiver=2,
    newest_key=3,
    epoch=0x1122334455667788,
    seq=42,
    echo_epoch=0x99AABBCCDDEEFF00,
    echo_seq=41,
    term=7,
    interval=200,
    dead=2000,
    lease=3000,
    hold=10000,
    up=3,
    servers=4,
    sessions=12345,
    pair_digest=b"pairpair",
    config_digest=b"confconf",
    generation=9,
    clock=1_000_000,
    trouble=Trouble.AWAY | Trouble.FORCED,
    parts=3,
    part=b"abc",
    part_digest=b"xyz",
)
# Written down by hand from the layout in `wire`; the HMAC by openssl.
SIGNED = bytes.fromhex(
    "4d574831 01 01 0019 0003 01 04 32 64 0003"
    + "7bd83dd7 0001 0002"
    + "1122334455667788 000000000000002a"
    + "99aabbccddeeff00 0000000000000029 0000000000000007"
    + "000000c8 000007d0 00000bb8 00002710 0003 0004 00003039"
    + "7061697270616972 636f6e66636f6e66 0000000000000009"
    + "00000000000f4240 09 03 616263 78797a"
)
MAC = bytes.fromhex("c7688a634574874f862b162b258be437")


def opener(**changed: object) -> Opener:
    given = {"cluster": CLUSTER, "receiver": 2, "keys": {3: KEY, 4: OTHER}, **changed}
    return Opener(**given)  # type: ignore[arg-type]


def sealed(message: Message = HELLO, link: int = 1) -> bytes:
    return seal(message, link=link, key_id=3, key=KEY)


def why(datagram: bytes, *, link: int = 1, **changed: object) -> Refusal:
    with pytest.raises(Refused) as refused:
        opener(**changed).open(datagram, link=link)
    return refused.value.why


def test_the_bytes_are_these() -> None:
    assert sealed() == SIGNED + MAC
    assert len(sealed()) == SIZE
    assert opener().open(SIGNED + MAC, link=1) == HELLO


NUMBERS = {
    "priority": 8, "configured": 8, "newest_key": 16, "echo_epoch": 64, "echo_seq": 64,
    "term": 64, "interval": 32, "dead": 32, "lease": 32, "hold": 32, "up": 16, "servers": 16,
    "sessions": 32, "generation": 64, "clock": 64,
}  # fmt: skip


@st.composite
def messages(draw: st.DrawFn) -> Message:
    numbers = {key: draw(st.integers(0, 2**bits - 1)) for key, bits in NUMBERS.items()}
    sender, receiver = draw(st.sampled_from([(1, 2), (2, 1), (WITNESS, 1), (2, WITNESS)]))
    kind = draw(st.sampled_from(Kind))
    return Message(
        kind=kind,
        state=draw(st.sampled_from(State)),
        flags=Flag(draw(st.integers(0, 255))),
        cluster=draw(st.integers(0, 2**32 - 1)),
        sender=sender,
        receiver=receiver,
        epoch=draw(st.integers(1, 2**64 - 1)),
        seq=draw(st.integers(1, 2**64 - 1)),
        pair_digest=draw(st.binary(min_size=8, max_size=8)),
        config_digest=draw(st.binary(min_size=8, max_size=8)),
        trouble=Trouble(draw(st.integers(0, 15))),
        parts=draw(st.integers(0, 255)),
        part=draw(st.binary(min_size=3, max_size=3)),
        part_digest=draw(st.binary(min_size=3, max_size=3)),
        words=draw(st.binary(max_size=MOST_WORDS)) if kind is Kind.WORDS else b"",
        **numbers,
    )


@given(messages(), st.integers(0, 255), st.integers(0, 2**16 - 1), st.binary(min_size=1))
def test_what_is_sealed_opens_as_it_was(
    message: Message, link: int, key_id: int, key: bytes
) -> None:
    datagram = seal(message, link=link, key_id=key_id, key=key)
    at = Opener(cluster=message.cluster, receiver=message.receiver, keys={key_id: key})
    assert at.open(datagram, link=link) == message


def test_no_bit_can_be_another_one() -> None:
    datagram = sealed()
    for bit in range(SIZE * 8):
        flipped = bytearray(datagram)
        flipped[bit // 8] ^= 1 << bit % 8
        assert why(bytes(flipped)) in (
            Refusal.MALFORMED,
            Refusal.FOREIGN,
            Refusal.UNKNOWN_KEY,
            Refusal.FORGED,
        )


@given(st.binary(max_size=2 * SIZE))
def test_rubbish_is_refused(rubbish: bytes) -> None:
    assert why(rubbish) is Refusal.MALFORMED


@pytest.mark.parametrize("length", range(SIZE))
def test_a_part_is_refused(length: int) -> None:
    assert why(sealed()[:length]) is Refusal.MALFORMED


def test_more_is_refused() -> None:
    assert why(sealed() + b"\0") is Refusal.MALFORMED


def test_words_stand_under_the_hmac() -> None:
    told = dataclasses.replace(HELLO, kind=Kind.WORDS, words=b"deny 192.0.2.0/24")
    datagram = sealed(told)
    assert (len(datagram), opener().open(datagram, link=1)) == (SIZE + 17, told)
    for bit in range(len(datagram) * 8):
        flipped = bytearray(datagram)
        flipped[bit // 8] ^= 1 << bit % 8
        assert why(bytes(flipped)) is not Refusal.COPY
    assert why(datagram[:-1]) is Refusal.FORGED
    assert why(datagram[: SIZE - 16] + datagram[-16:]) is Refusal.FORGED


def test_only_words_may_be_long_and_not_for_ever() -> None:
    """Also of somebody who has the key."""
    assert why(sealed(dataclasses.replace(HELLO, words=b"x"))) is Refusal.MALFORMED
    most = dataclasses.replace(HELLO, kind=Kind.WORDS, words=bytes(MOST_WORDS))
    assert len(sealed(most)) == LONGEST
    assert opener().open(sealed(most), link=1) == most
    over = dataclasses.replace(most, words=bytes(MOST_WORDS + 1))
    assert why(sealed(over)) is Refusal.MALFORMED


@pytest.mark.parametrize(
    "changed",
    [
        {"cluster": CLUSTER + 1},
        {"receiver": 1},  # reflected: it is sent back to who has sent it
        {"receiver": WITNESS},
    ],
)
def test_what_is_for_somebody_else_is_refused(changed: dict[str, Any]) -> None:
    assert why(sealed(), **changed) is Refusal.FOREIGN


def test_who_speaks_to_himself_is_refused() -> None:
    assert why(sealed(dataclasses.replace(HELLO, sender=2))) is Refusal.FOREIGN


@pytest.mark.parametrize("sender", [0, 3, 7, WITNESS - 1])
def test_a_node_that_there_is_not_is_refused(sender: int) -> None:
    assert why(sealed(dataclasses.replace(HELLO, sender=sender))) is Refusal.FOREIGN


def test_what_was_for_another_link_is_refused() -> None:
    assert why(sealed(link=2), link=1) is Refusal.FOREIGN


def test_keys_are_told_apart() -> None:
    assert why(sealed(), keys={4: KEY}) is Refusal.UNKNOWN_KEY
    assert why(sealed(), keys={3: OTHER}) is Refusal.FORGED
    assert why(seal(HELLO, link=1, key_id=4, key=KEY)) is Refusal.FORGED
    assert opener().open(seal(HELLO, link=1, key_id=4, key=OTHER), link=1) == HELLO


def _none(field: str) -> dict[str, Any]:
    return {field: 0}


@pytest.mark.parametrize("field", ["epoch", "seq"])
def test_none_is_no_life_and_no_number(field: str) -> None:
    assert why(sealed(dataclasses.replace(HELLO, **_none(field)))) is Refusal.MALFORMED


@pytest.mark.parametrize(("place", "value"), [(5, 5), (11, 9), (4, 2)])
def test_kinds_states_and_versions_that_there_are_not(place: int, value: int) -> None:
    """Also of somebody who has the key."""
    signed = bytearray(SIGNED)
    signed[place] = value
    mac = hmac.digest(KEY, bytes(signed), sha256)[:16]
    assert why(bytes(signed) + mac) is Refusal.MALFORMED


def test_flags_of_a_later_version_are_none_of_ours() -> None:
    signed = bytearray(SIGNED)
    signed[6] = 0xFF
    mac = hmac.digest(KEY, bytes(signed), sha256)[:16]
    assert opener().open(bytes(signed) + mac, link=1) == HELLO
