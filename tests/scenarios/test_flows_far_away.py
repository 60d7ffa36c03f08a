"""Sessions in the kernel between ends far away, whose segments are lost, swapped and doubled."""

import socket
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import GREETING, PORT, kernel_rig, rig_configuration, serving_there
from harness.networks.row import LISTENER, row
from harness.networks.slow_path import Leg, Way, slow_path
from harness.scale import count
from harness.servers.exact import echo, exchange
from harness.servers.scripted import Stream
from harness.waiting import LIMIT, until

_SESSIONS = count(3, 20)
_GREETED = count(100, 2000)
_AT_A_TIME = 20
_SIZE = 1 << 20
_SMALL_TALK = 20 * len(b"NOOP\r\n")
_FAR = Way(delay=0.15)
_SWAPPED = Way(delay=0.01, swapped=0.05)
_DOUBLED = Way(delay=0.01, doubled=0.05)
_SOME_SWAPPED = Way(swapped=0.02)
_ALL = Way(delay=0.01, swapped=0.05, doubled=0.05, lost=0.01)

pytestmark = pytest.mark.needs("iproute2", "nftables", "clang")


@pytest.mark.parametrize(
    "ways",
    [
        pytest.param({"c": _FAR}, id="far"),
        pytest.param({"c": _SWAPPED}, id="swapped"),
        pytest.param({"c": _DOUBLED}, id="doubled"),
        pytest.param({"c": _ALL}, id="all"),
        pytest.param({"s": _ALL}, id="all-of-servers"),
        pytest.param({"c": _ALL, "s": _ALL}, id="all-of-both"),
    ],
)
def test_bytes_arrive_as_they_were_sent(
    tmp_path: Path, counted: Callable[[str], None], ways: dict[Leg, Way]
) -> None:
    with ExitStack() as exits:
        networks = exits.enter_context(row())
        legs = [
            (way, exits.enter_context(slow_path(networks, leg, way))) for leg, way in ways.items()
        ]
        exits.enter_context(serving_there(networks, echo))
        rig = exits.enter_context(kernel_rig(networks, tmp_path, rig_configuration(tmp_path)))
        talks = [networks.inside("c", partial(exchange, _SIZE)) for _ in range(_SESSIONS)]
        for talk in talks:
            assert talk.result(3 * LIMIT), "the same bytes came back"
        until(lambda: len(rig.balancer.session_log()) == _SESSIONS, "all in the log")
        log = rig.balancer.session_log()
    passed_by = ", ".join(str(passed) for _, passed in legs)
    longest = max(line["duration_ms"] for line in log)
    counted(
        f"{_SESSIONS} sessions of {_SIZE} bytes each way, {longest:.0f} ms at most: {passed_by}"
    )
    assert {line["path"] for line in log} == {"kernel"}
    assert {line["end_reason"] for line in log} == {"client_closed"}
    sizes = {(line["received_bytes"], line["sent_bytes"]) for line in log}
    assert sizes == {(_SIZE + _SMALL_TALK, len(GREETING) + _SIZE + _SMALL_TALK)}
    for way, passed in legs:
        # It was as bad as it was meant to be.
        happened = (passed.lost > 0, passed.swapped > 0, passed.doubled > 0)
        assert happened == (way.lost > 0, way.swapped > 0, way.doubled > 0)


_TEASER = b"220-mx.server.test please wait\r\n"
_HELLO, _FINE = b"EHLO client.test\r\n", b"250 fine\r\n"


def _greets_twice(stream: Stream) -> None:
    """In two lines, each in a segment of its own."""
    stream.send(_TEASER)
    stream.send(GREETING)
    if stream.line() == _HELLO:
        stream.send(_FINE)
    stream.rest()


def _is_greeted(number: int) -> str:
    """Empty where a client hears each word once; else what it met."""
    expected = _TEASER + GREETING
    with socket.create_connection((LISTENER, PORT), LIMIT) as stream:
        try:
            heard = b""
            while len(heard) < len(expected) and (piece := stream.recv(1000)):
                heard += piece
            stream.sendall(_HELLO)
            stream.shutdown(socket.SHUT_WR)
            while piece := stream.recv(1000):
                heard += piece
        except OSError as error:
            return f"client {number}: {error!r} behind {heard!r}"
    return "" if heard == expected + _FINE else f"client {number} heard {heard!r}"


def test_greetings_in_another_order(tmp_path: Path, counted: Callable[[str], None]) -> None:
    """Two in a hundred segments come late, those of the handshakes and of the greeting too."""

    def greeted() -> list[str]:
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            return list(pool.map(_is_greeted, range(_GREETED)))

    with ExitStack() as exits:
        networks = exits.enter_context(row())
        ways = [exits.enter_context(slow_path(networks, leg, _SOME_SWAPPED)) for leg in ("c", "s")]
        exits.enter_context(serving_there(networks, _greets_twice))
        rig = exits.enter_context(kernel_rig(networks, tmp_path, rig_configuration(tmp_path)))
        results = networks.inside("c", greeted).result(LIMIT + _GREETED)
        until(lambda: len(rig.balancer.session_log()) == _GREETED, "all in the log")
        log = rig.balancer.session_log()
    paths = Counter(line["path"] for line in log)
    counted(f"{results.count('')} of {_GREETED} greeted once, {dict(paths)}: {ways}")
    assert [told for told in results if told] == []
    assert paths["kernel"] > _GREETED / 2
    assert all(way.swapped > 0 for way in ways)
