"""Which sockets the supervisor is to keep, and which are taken from it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import mailweir
from mailweir.errors import StoreError
from mailweir.store import Store

_TAKES = """\
import os, socket, sys
from mailweir.errors import StoreError
from mailweir.store import Store
environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "3", "LISTEN_FDNAMES": "x"}
os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.dup2(1, 5)
store = Store(environment, lambda words, sockets: print(words))
print([one.getsockname() for one in store.take()], [one.get_inheritable() for one in store.take()])
print(environment)
store.keep([])
"""


@pytest.fixture
def listening() -> Iterator[list[socket.socket]]:
    """Two workers' sockets at one address."""
    first = socket.create_server(("127.0.0.1", 0), reuse_port=True)
    second = socket.create_server(first.getsockname(), reuse_port=True)
    with first, second:
        yield [first, second]


class Heard:
    """What a store tells, with the number of sockets."""

    def __init__(self, *, listens: bool = True) -> None:
        self.listens = listens
        self.words: list[tuple[dict[str, str], int]] = []

    def __call__(self, words: Mapping[str, str], sockets: Sequence[socket.socket]) -> bool:
        self.words.append((dict(words), len(sockets)))
        return self.listens


def test_what_is_kept_and_forgotten(listening: list[socket.socket]) -> None:
    heard = Heard()
    store = Store({}, heard)
    name = f"127.0.0.1-{listening[0].getsockname()[1]}"
    store.keep([one.dup() for one in listening])
    assert heard.words == [({"FDSTORE": "1", "FDNAME": name}, 2)]
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        store.keep([other.dup()])
        last = f"..1-{other.getsockname()[1]}"
    assert heard.words[1:] == [
        ({"FDSTORE": "1", "FDNAME": last}, 1),
        ({"FDSTOREREMOVE": "1", "FDNAME": name}, 0),
    ]
    store.keep([])
    store.keep([])
    assert heard.words[3:] == [({"FDSTOREREMOVE": "1", "FDNAME": last}, 0)]


def test_who_takes_nothing_is_asked_once(listening: list[socket.socket]) -> None:
    heard = Heard(listens=False)
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        with pytest.raises(StoreError, match="takes no listening sockets"):
            Store({}, heard).keep([one.dup() for one in (*listening, other)])
    assert len(heard.words) == 1


def test_more_than_a_datagram_takes(listening: list[socket.socket]) -> None:
    heard = Heard()
    Store({}, heard).keep([listening[0].dup() for _ in range(300)])
    assert [number for _, number in heard.words] == [253, 47]


def test_what_is_handed_over_is_taken_once_and_the_rest_closed(
    listening: list[socket.socket],
) -> None:
    """In a process of its own, since the numbers are fixed. One isn't a socket of ours."""
    a, b = socket.socketpair()
    with a, b:
        numbers = [listening[0].fileno(), a.fileno()]
        done = subprocess.run(
            [sys.executable, "-c", _TAKES.replace("os.dup2(1, 5)", f"os.dup2({b.fileno()}, 5)")]
            + [str(number) for number in numbers],
            pass_fds=[*numbers, b.fileno()],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(mailweir.__path__[0]).parent)},
        )
    assert done.returncode == 0, done.stderr
    address = listening[0].getsockname()
    said = done.stdout.splitlines()
    assert f"[{address}] []" in said
    assert said[-2] == "{}"
    assert str({"FDSTOREREMOVE": "1", "FDNAME": f"{address[0]}-{address[1]}"}) == said[-1]
    assert done.stdout.count("of no use") == 2


@pytest.mark.parametrize(
    "environment",
    [{"LISTEN_FDS": "1"}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid())}],
)
def test_what_is_somebody_elses_stays_there(environment: dict[str, str]) -> None:
    store = Store(environment, Heard())
    assert (store.take(), environment) == ([], {})


def test_what_an_earlier_process_has_kept_is_given_up_too(listening: list[socket.socket]) -> None:
    heard = Heard()
    store = Store({}, heard)
    store.inherit(["gone-25"])
    assert store.names == ("gone-25",)
    store.keep([one.dup() for one in listening])
    assert ({"FDSTOREREMOVE": "1", "FDNAME": "gone-25"}, 0) in heard.words
