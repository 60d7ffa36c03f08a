"""The datagrams that the nodes of a pair and their witness exchange, to bytes and back. Pure.

144 bytes, network order, no options; where operators' words are told, these stand before the HMAC,
and are the only part of no fixed length. The last 16 bytes are HMAC-SHA256 over the others, cut
(RFC 2104, section 5). Who sends, to whom, over which link and of which cluster stands inside, so
that a datagram can be of use nowhere else. Nothing here is secret, so nothing is encrypted.

Called by `agent` and `witness`.
"""

import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, IntFlag
from hashlib import sha256

SIZE = 144
# Bytes of operators' words in a datagram, which isn't to be cut in pieces on any link.
MOST_WORDS = 1024
LONGEST = SIZE + MOST_WORDS
WITNESS = 0xFFFF  # the third node's number; those of the pair are 1 and 2
_NODES = (1, 2, WITNESS)
MAX_PRIORITY = 255
_MAGIC = b"MWH1"
_VERSION = 1
_MAC = 16
_BLOCK = 64  # of SHA-256; keys are shorter
_SIGNED = SIZE - _MAC
# Magic, version, kind, flags | key, link, state, priorities, newest key | cluster, from, to |
# epoch | seq | echoed epoch, seq | term | interval, dead | lease left, hold | servers up, servers,
# sessions | digests of the pair, of the configuration, its generation | clock | troubles, a part of
# the configuration: of how many, which, its digest.
_LAYOUT = struct.Struct("!4sBBH HBBBBH IHH Q Q QQ Q II II HHI 8s8sQ Q BB3s3s")
_HEAD = struct.Struct("!4sBBHH6xIHH")  # what is looked at before the HMAC is

# Where it says which life of the sender it is of, and which number it has in that; and the same of
# the newest one that the sender has heard.
LIFE_AT, ECHO_AT = 24, 40

Keys = Mapping[int, bytes]


class Kind(IntEnum):
    """What a datagram says."""

    HELLO = 1
    RELEASE = 2  # I had the addresses and have them no more
    CLAIM = 3  # give them to me
    WORDS = 4  # a hello, with a page of what operators have said here


class State(IntEnum):
    """What a node is; `states` says how it comes to be that."""

    INIT = 1
    BACKUP = 2
    CANDIDATE = 3
    ACTIVE = 4
    RELEASING = 5
    FAULT = 6
    MAINT = 7
    WITNESS = 8

    def __str__(self) -> str:
        return self.name.lower()


class Flag(IntFlag):
    """What a node says of itself beside its state."""

    DATAPLANE_OK = 1
    GATEWAY_OK = 2  # one answers, or none is configured
    WITNESS_OK = 4
    CARRIER_OK = 8
    HOLDS = 16  # it has the virtual addresses
    DEAF = 32  # it hears nobody
    STALLED = 64  # it stood still a moment ago
    GRANTED = 128  # strict mode, of the witness or the peer: you may be active


class Trouble(IntFlag):
    """What is wrong with the balancer of a node, and how a claim or a release is meant. A version
    that doesn't know them says 0.
    """

    AWAY = 1  # it takes no new sessions: it drains, or is gone for a moment
    PAUSED = 2  # an operator has it refuse new sessions
    NO_SERVER = 4  # a pool in use has none that is up
    FORCED = 8  # an operator wants the addresses there however its balancer is


class Refusal(Enum):
    """Why a datagram isn't listened to: words of a metric's label."""

    MALFORMED = "malformed"  # length, magic, version, or a value that there isn't
    FOREIGN = "foreign"  # of another cluster, for or from somebody else, over another link
    UNKNOWN_KEY = "unknown_key"
    FORGED = "forged"  # the HMAC is another one
    REPLAYED = "replayed"  # it was here before
    COPY = "copy"  # of the newest one, over another link: no news, but that link works
    RETIRED = "retired"  # of an earlier life of the peer
    HELD_BACK = "held_back"  # it was long on its way
    UNPROVEN = "unproven"  # of a new life that hasn't heard us yet


@dataclass(frozen=True, slots=True)
class Message:
    """What is said, whatever the link and the key. Times in milliseconds, as on the wire."""

    kind: Kind
    state: State
    flags: Flag
    priority: int  # as configured, less what is wrong
    configured: int
    cluster: int
    sender: int
    receiver: int
    newest_key: int  # the largest id of a key that the sender has
    epoch: int  # random for each life of the sender
    seq: int
    echo_epoch: int  # of the newest datagram that the sender has from the receiver; 0 for none
    echo_seq: int
    term: int  # rises with each takeover
    interval: int
    dead: int
    lease: int  # of the addresses; from a witness: how long its grant counts
    hold: int
    up: int
    servers: int
    sessions: int
    pair_digest: bytes
    config_digest: bytes
    generation: int
    clock: int  # microseconds of the sender's own clock; says how long it was on its way
    trouble: Trouble
    # With each datagram the next part of what the sender goes by, so that what differs has a name:
    # of so many parts (0: a version that says none), a digest of its name, and one of its value.
    parts: int
    part: bytes
    part_digest: bytes
    words: bytes = b""  # as `operator_words` has them; none but in WORDS


class Refused(Exception):  # noqa: N818 - not an error: anybody may send anything
    """A datagram that isn't listened to."""

    def __init__(self, why: Refusal, key_id: int | None = None) -> None:
        """`key_id` is the key's that it says it is sealed with, where the key is what is wrong."""
        super().__init__(why.value)
        self.why = why
        self.key_id = key_id


def cluster_number(name: str) -> int:
    """What stands for a cluster's name in a datagram."""
    return int.from_bytes(sha256(name.encode()).digest()[:4])


def seal(message: Message, *, link: int, key_id: int, key: bytes) -> bytes:
    """The datagram for one link."""
    m = message
    signed = _LAYOUT.pack(
        *(_MAGIC, _VERSION, m.kind, m.flags, key_id, link, m.state, m.priority, m.configured),
        *(m.newest_key, m.cluster, m.sender, m.receiver, m.epoch, m.seq, m.echo_epoch, m.echo_seq),
        *(m.term, m.interval, m.dead, m.lease, m.hold, m.up, m.servers, m.sessions),
        *(m.pair_digest, m.config_digest, m.generation, m.clock),
        *(m.trouble, m.parts, m.part, m.part_digest),
    )
    signed += m.words
    return signed + Mac(key).of(signed)


class Opener:
    """Opens datagrams for one receiver."""

    def __init__(self, *, cluster: int, receiver: int, keys: Keys) -> None:
        self._cluster = cluster
        self._receiver = receiver
        self._macs = {key_id: Mac(key) for key_id, key in keys.items()}

    def open(self, datagram: bytes, *, link: int) -> Message:
        """What came over `link`. Raises Refused; the cheap reasons come first."""
        if not SIZE <= len(datagram) <= LONGEST:
            raise Refused(Refusal.MALFORMED)
        magic, version, kind, _, key_id, cluster, sender, receiver = _HEAD.unpack_from(datagram)
        if magic != _MAGIC or version != _VERSION:
            raise Refused(Refusal.MALFORMED)
        if len(datagram) != SIZE and kind != Kind.WORDS:
            raise Refused(Refusal.MALFORMED)
        if cluster != self._cluster or receiver != self._receiver:
            raise Refused(Refusal.FOREIGN)
        if sender == receiver or sender not in _NODES:
            raise Refused(Refusal.FOREIGN)
        mac = self._macs.get(key_id)
        if mac is None:
            raise Refused(Refusal.UNKNOWN_KEY, key_id)
        signed = datagram[:-_MAC]
        if not hmac.compare_digest(mac.of(signed), datagram[-_MAC:]):
            raise Refused(Refusal.FORGED, key_id)
        message, over = _message(signed)
        if over != link:
            raise Refused(Refusal.FOREIGN)
        return message


class Mac:
    """HMAC-SHA256 by one key. What only the key decides is computed once: it is most of the work,
    and whoever floods a node has it done for each datagram.
    """

    def __init__(self, key: bytes) -> None:
        block = key.ljust(_BLOCK, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block))

    def of(self, signed: bytes) -> bytes:
        """Cut as it stands in a datagram."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(signed)
        outer.update(inner.digest())
        return outer.digest()[:_MAC]


def _message(signed: bytes) -> tuple[Message, int]:
    """With the link that it is for."""
    (_, _, kind, flags, _, link, state, priority, configured, newest_key, *rest) = (
        _LAYOUT.unpack_from(signed)
    )
    try:
        kind, state = Kind(kind), State(state)
    except ValueError:
        raise Refused(Refusal.MALFORMED) from None
    known = Flag(flags & 0xFF)  # a flag of a later version is none of ours
    cluster, sender, receiver, epoch, seq, *others, trouble, parts, part, part_digest = rest
    if not epoch or not seq:
        raise Refused(Refusal.MALFORMED)  # they stand for none
    message = Message(
        *(kind, state, known, priority, configured, cluster, sender, receiver, newest_key),
        *(epoch, seq, *others, Trouble(trouble & 0xF), parts, part, part_digest),
    )
    words = signed[_SIGNED:]
    return (replace(message, words=words) if words else message), link
