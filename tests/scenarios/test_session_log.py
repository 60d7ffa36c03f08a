"""The session log as operators keep it: moved away under load, and in its other format."""

import json
import shlex
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.clients.dialogue import Address, Client
from harness.clients.witness import witnesses
from harness.mailweir.run import Tree, configuration
from harness.scale import count
from harness.servers.scripted import serving
from harness.servers.takers import Takers
from harness.waiting import until
from scenarios.conftest import Start

_MOVES = count(3, 20)
_LATER = count(50, 1000)
_PARALLEL = 8
_KEYS = (
    *("ts", "id", "listener", "client", "client_address", "client_port", "pool", "server", "tried"),
    *("wait_ms", "connect_ms", "greeting_ms", "duration_ms", "received_bytes", "sent_bytes"),
    *("greeting_code", "tls", "path", "in_data", "spoke_last", "end_by", "end_reason"),
)


def test_what_was_moved_away_is_opened_anew(
    tmp_path: Path, start: Start, counted: Callable[[str], None]
) -> None:
    file = tmp_path / "the.log"
    moved: list[Path] = []
    with Takers(0.0).server("a") as a:
        balancer = start(_config(tmp_path, {"a": a}, sessions=str(file)))

        def move() -> None:
            moved.append(file.rename(tmp_path / f"moved.{len(moved)}"))
            balancer.process.send(signal.SIGUSR1)
            until(file.exists, "the new file")

        with witnesses(balancer.address(), _PARALLEL) as witness:
            for number in range(1, _MOVES + 1):
                enough = number * 10 * _PARALLEL
                until(lambda: len(witness.between(0)) >= enough, "sessions")  # noqa: B023
                move()
        seen = len(witness.between(0))
        assert not [one for one in witness.between(0) if one.failure]
        until(lambda: _lines(*moved, file) >= seen, "all of them in the files")
        move()
        _sessions(balancer.address(), _LATER)
        until(lambda: _lines(file) >= _LATER, "the later ones in the new file")

        assert (_lines(*moved), _lines(file)) == (seen, _LATER)
        ids = {line["id"] for line in map(json.loads, _texts(*moved, file))}
        assert len(ids) == seen + _LATER
        counted(f"{len(moved)} moves, {seen} sessions meanwhile and {_LATER} later: each once")


def test_logfmt(tmp_path: Path, start: Start) -> None:
    file = tmp_path / "the.log"
    with (
        Takers(0.0).server("a") as a,
        serving(lambda stream: stream.send(b"421 busy\r\n")) as busy,
    ):
        servers = {"a": a, "busy": busy}
        balancer = start(_config(tmp_path, servers, sessions=str(file), format="logfmt"))
        until(lambda: all(balancer.server_is(name, "up") for name in servers), "both to be up")
        _sessions(balancer.address(), 4)
        until(lambda: _lines(file) == 4, "all in the log")
    for text in _texts(file):
        words = [word.partition("=") for word in shlex.split(text)]
        line = {key: value for key, _, value in words}
        # What isn't known is left out, and nothing was tried in vain at times.
        assert [key for key in _KEYS if key in line or key != "tried"] == list(line)
        assert (line["listener"], line["server"]) == ("mx", "a")
        assert (line["greeting_code"], line["tls"]) == ("220", "false")
        assert (line["end_by"], line["end_reason"]) == ("client", "client_quit")
        assert line.get("tried", "busy: greeting 4xx") == "busy: greeting 4xx"
    assert "tried=" in file.read_text()


def _config(directory: Path, servers: dict[str, str], **log: str) -> Tree:
    check = {"kind": "tcp", "every": "1h"}
    return configuration(directory, servers, check=check, log=log)


def _sessions(address: Address, number: int) -> None:
    """Sessions that end in order."""

    def one(_: int) -> None:
        with Client(address) as client:
            client.expect("220")
            client.expect("250", "EHLO client.test")
            client.expect("221", "QUIT")

    with ThreadPoolExecutor(_PARALLEL) as pool:
        list(pool.map(one, range(number)))


def _texts(*files: Path) -> list[str]:
    """Whole lines."""
    return [line for file in files for line in file.read_text().split("\n")[:-1]]


def _lines(*files: Path) -> int:
    return len(_texts(*files))
