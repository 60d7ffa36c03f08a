"""Speaks with the peer over all links, and with the witness: sockets, keys, counts.

A connected UDP socket for each link, so that the kernel keeps out what comes from elsewhere. What
comes is opened here and is authentic from then on; `machine` says whether it is news. Used by
`agent`.
"""

import errno
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress

from mailweir.config.address import Address
from mailweir.config.ha import Ha
from mailweir.errors import StartError
from mailweir.ha.machine.wire import (
    LONGEST,
    WITNESS,
    Message,
    Opener,
    Refusal,
    Refused,
    cluster_number,
    seal,
)
from mailweir.ha.unheard import Unheard

# The witness is reached by routing, not by a link of the pair.
WITNESS_LINK = 0
# RFC 2474: class selector 6, network control.
_TOS = 0xC0
# One byte more tells one that is too long.
_ROOM = LONGEST + 1
# An address, a device or a way isn't there (any more): it may come, or come back.
_ABSENT = frozenset(
    {
        errno.EADDRNOTAVAIL,
        errno.EINVAL,
        errno.ENODEV,
        errno.ENXIO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
    }
)
# Datagrams that are read before anything else is done. A peer sends some ten a second.
MOST_AT_ONCE = 256


class Links:
    """The sockets of one node."""

    def __init__(self, ha: Ha, node: str, keys: Mapping[int, bytes]) -> None:
        peer = next(name for name in ha.nodes if name != node)
        self.names = tuple(sorted(ha.nodes[node].links))
        self._ends = {
            number: (ha.nodes[node].links[link], ha.nodes[peer].links[link])
            for number, link in enumerate(self.names, start=1)
        }
        self._witness = ha.witness.address if ha.witness else None
        self._cluster = cluster_number(ha.cluster)
        self._number = 1 + sorted(ha.nodes).index(node)
        self._node = node
        self._sockets: dict[int, socket.socket] = {}
        # Those that can't be used now, and why; and those whose sockets can't send any more.
        self.absent: dict[int, str] = {}
        self._failing: set[int] = set()
        self.sent: Counter[int] = Counter()
        self.received: Counter[int] = Counter()
        self.refused = Unheard()
        # Of links over which something came with a key that isn't ours; taken by who tells of it.
        self.misheard: dict[int, int] = {}
        self.take_keys(keys)

    def take_keys(self, keys: Mapping[int, bytes]) -> None:
        """Let these count from here on."""
        self._keys = dict(keys)
        # Until the peer says which keys it has, they are tried in turn.
        self._turn = 0
        self._opener = Opener(cluster=self._cluster, receiver=self._number, keys=self._keys)

    def open(self) -> None:
        """Bind and connect those that can be used by now. Raises StartError with what to do."""
        for number in self._ends:
            try:
                self._open(number)
            except StartError:
                self.close()
                raise
        if self._witness is not None:
            self._open_to_witness()

    def needs_mending(self) -> bool:
        """Whether `mend` could be of use."""
        lacks_witness = self._witness is not None and WITNESS_LINK not in self._sockets
        return bool(self.absent or self._failing or lacks_witness)

    def mend(self) -> None:
        """Open what couldn't be used so far, or can't be any more: addresses, devices and ways come
        late after a power cut, and may go and come back. Nobody waits for the sockets meanwhile.
        """
        for number in self._failing:
            self._sockets.pop(number).close()
        self._failing.clear()
        for number in self._ends.keys() - self._sockets.keys():
            # Somebody else may have taken its port meanwhile.
            with suppress(StartError):
                self._open(number)
        if self._witness is not None and WITNESS_LINK not in self._sockets:
            self._open_to_witness()

    def close(self) -> None:
        """Close them all."""
        for one in self._sockets.values():
            one.close()
        self._sockets.clear()

    def sockets(self) -> list[socket.socket]:
        """To be waited for."""
        return list(self._sockets.values())

    def numbers(self) -> list[int]:
        """Of those that are open; the witness's is `WITNESS_LINK`."""
        return list(self._sockets)

    def socket_of(self, number: int) -> socket.socket:
        """Of one link."""
        return self._sockets[number]

    def receive(self) -> Iterator[tuple[Message, int]]:
        """What has come and is authentic, with the number of its link; counts the rest."""
        for number, one in self._sockets.items():
            for _ in range(MOST_AT_ONCE):
                try:
                    datagram = one.recv(_ROOM)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # the other side's refusal of what was sent before
                self.received[number] += 1
                try:
                    message = self._opener.open(datagram, link=number)
                except Refused as refused:
                    self.refused.note(refused.why)
                    if refused.key_id is not None and number != WITNESS_LINK:
                        self.misheard[number] = refused.key_id
                    continue
                if (message.sender == WITNESS) == (number == WITNESS_LINK):
                    yield message, number
                else:
                    self.refused.note(Refusal.FOREIGN)

    def send(self, message: Message, *, to_witness: bool, peer_newest: int | None) -> None:
        """Over all links, or to the witness. `peer_newest` is the newest key that it has, if that
        is known.
        """
        key_id = self._key_for(peer_newest)
        for number, one in self._to(to_witness):
            datagram = seal(message, link=number, key_id=key_id, key=self._keys[key_id])
            try:
                one.send(datagram)
            except OSError as error:
                # What was refused before is told now: this one wasn't sent yet.
                if error.errno == errno.ECONNREFUSED:
                    with suppress(OSError):
                        one.send(datagram)
                elif error.errno in _ABSENT:
                    self._failing.add(number)
                continue
            self.sent[number] += 1

    def _to(self, to_witness: bool) -> list[tuple[int, socket.socket]]:
        of = self._sockets.items()
        return [(n, one) for n, one in of if (n == WITNESS_LINK) == to_witness]

    def _key_for(self, newest: int | None) -> int:
        if newest is not None:
            return keyed(self._keys, newest)
        self._turn += 1
        return sorted(self._keys)[self._turn % len(self._keys)]

    def _open(self, number: int) -> None:
        own, peer = self._ends[number]
        try:
            self._sockets[number] = _connected(own, peer)
            self.absent.pop(number, None)
        except OSError as error:
            why = _why_absent(error, own, peer)
            self.absent[number] = why or str(error.strerror)
            if not why:
                at = f"ha.nodes.{self._node}.links.{self.names[number - 1]}"
                raise StartError(f"{at}: {own}: {error.strerror}") from None

    def _open_to_witness(self) -> None:
        if self._witness is not None:
            with suppress(OSError):  # no way there now
                self._sockets[WITNESS_LINK] = _connected(None, self._witness)


def _why_absent(error: OSError, own: Address, peer: Address) -> str:
    """Why a link can't be used for now; empty where that isn't to be waited for."""
    if isinstance(error, socket.gaierror) or error.errno in (errno.ENODEV, errno.ENXIO):
        return f"this machine doesn't have the device of {own.ip}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine doesn't have {own.ip}, or it isn't ready yet"
    if error.errno in _ABSENT:
        return f"there is no way from {own.ip} to {peer.ip}"
    return ""


def keyed(keys: Mapping[int, bytes], newest: int) -> int:
    """The newest key that both have: each says which its newest is, and has some older ones."""
    return max((key_id for key_id in keys if key_id <= newest), default=min(keys))


def _connected(own: Address | None, peer: Address) -> socket.socket:
    family = socket.AF_INET6 if peer.ip.version == 6 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _TOS)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _TOS)
        if own is not None:
            made.bind((str(own.ip), own.port))
        made.connect((str(peer.ip), peer.port))
    except OSError:
        made.close()
        raise
    return made
