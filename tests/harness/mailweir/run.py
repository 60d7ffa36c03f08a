"""A `mailweir run` of its own: written configuration, commands, metrics, signals."""

import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from harness.process import Running, run, running
from harness.waiting import LIMIT
from mailweir.admin.client import ask
from mailweir.errors import MailweirError

# As tests start it: the code of this checkout, whatever is installed beside it; or a program that
# is named (`.ci/installed`).
_INSTALLED = os.environ.get("MAILWEIR_COMMAND")
# To import what it is made of takes a second of a processor, which others on the machine have too.
_START_LIMIT = 3 * LIMIT
COMMAND = (_INSTALLED,) if _INSTALLED else (sys.executable, "-m", "mailweir")

Tree = dict[str, Any]


def configuration(
    directory: Path,
    servers: Mapping[str, object],
    *,
    protocol: str = "smtp",
    balance: str = "round_robin",
    check: Mapping[str, object] | None = None,
    **more: object,
) -> Tree:
    """One listener `mx` on a free port of loopback, one pool `farm`; tests change the rest.

    That its servers don't learn who the client is, is meant where nothing else is said.
    """
    told = {
        name: {"proxy": "off", **(one if isinstance(one, dict) else {"address": one})}
        for name, one in servers.items()
    }
    return {
        "admin": {"socket": str(directory / "admin.sock"), "http": "off"},
        "state_dir": str(directory / "state"),
        "log": {"sessions": str(directory / "sessions.log")},
        "listeners": {"mx": {"bind": ["127.0.0.1:0"], "protocol": protocol, "pool": "farm"}},
        "pools": {"farm": {"balance": balance, "servers": told, "check": check or {}}},
        **more,
    }


class Mailweir:
    """The running process, and the ways to ask and tell it."""

    def __init__(self, process: Running, file: Path, admin_socket: Path) -> None:
        self.process = process
        self.file = file
        self._socket = admin_socket

    @property
    def pid(self) -> int:
        """Of the process as it was started."""
        return self.process.pid

    def write(self, config: Tree | str) -> None:
        """Replace the configuration file in one step, as a careful operator does."""
        write(self.file, config)

    def reload_by_signal(self) -> None:
        """Send HUP; the reload comes when it comes."""
        self.process.send(signal.SIGHUP)

    def change(self, config: Tree) -> None:
        """Replace the configuration and have it read again; it counts when this returns."""
        generation = self.status()["generation"]
        self.write(config)
        self.reload_by_signal()

        def counts() -> bool:
            status = self.status()
            assert status["config"]["last_load"]["ok"], status["config"]["last_load"]["message"]
            return bool(status["generation"] > generation)

        self.process.until(counts, "the reload")

    def command(self, *arguments: str, limit: float = LIMIT) -> subprocess.CompletedProcess[str]:
        """Run `mailweir ARGUMENTS` against this process."""
        return run([*COMMAND, *arguments, "--socket", str(self._socket)], limit=limit)

    def status(self) -> Tree:
        """What `mailweir status --json` prints, asked the way it asks."""
        return ask(str(self._socket), "GET", "/api/v1/status")

    def servers(self) -> dict[str, Tree]:
        """What `mailweir servers --json` prints, by name."""
        answer = ask(str(self._socket), "GET", "/api/v1/servers")
        return {server["name"]: server for server in answer["servers"]}

    def server(self, name: str, pool: str = "farm") -> Tree:
        """What `mailweir servers POOL/SERVER --json` prints."""
        return ask(str(self._socket), "GET", f"/api/v1/servers/{pool}/{name}")

    def address(self, listener: str = "mx") -> tuple[str, int]:
        """Where a listener really listens."""
        found = {one["name"]: one["addresses"] for one in self.status()["listeners"]}
        host, _, port = found[listener][0].rpartition(":")
        return host, int(port)

    def metric(self, name: str, **labels: str) -> float:
        """One sample of /metrics."""
        # Of all others reading takes longer than waiting for some.
        lines = [line for line in self.page("/metrics").splitlines() if line.startswith(name)]
        samples = [
            sample.value
            for family in text_string_to_metric_families("\n".join([*lines, ""]))
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert len(samples) == 1, f"{name} {labels}: {samples}"
        return float(samples[0])

    def session_log(self) -> list[Tree]:
        """The sessions that are in the log so far; the last ones come a moment later."""
        path = self.process.directory / "sessions.log"
        whole = path.read_text().split("\n")[:-1] if path.exists() else []
        return [json.loads(line) for line in whole]

    def ended(self, reason: str) -> float:
        """How many sessions of `mx` have ended so; that of a client that left comes a bit later."""
        name = "mailweir_listener_connections_ended_total"
        return self.metric(name, listener="mx", reason=reason)

    def is_listening(self) -> bool:
        """Whether the first configuration is applied."""
        try:
            return bool(self.status()["listeners"])
        except MailweirError:
            return False

    def server_is(self, name: str, state: str) -> bool:
        """Whether sessions may go to a server (`up`) or may not."""
        return bool(self.servers()[name]["state"] == state)

    def page(self, route: str) -> str:
        """What is answered to a browser at the socket."""
        connection = http.client.HTTPConnection("localhost", timeout=LIMIT)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(str(self._socket))
        try:
            connection.request("GET", route)
            answer = connection.getresponse()
            assert answer.status == 200, route
            return answer.read().decode()
        finally:
            connection.close()


@contextmanager
def mailweir(
    directory: Path, config: Tree, before: Sequence[str | Path] = ()
) -> Iterator[Mailweir]:
    """A `mailweir run` that listens, ended with the test; `before` begins the command."""
    file = directory / "mailweir.yaml"
    write(file, config)
    with running([*before, *COMMAND, "run", "-c", file], directory, "mailweir") as process:
        balancer = Mailweir(process, file, Path(config["admin"]["socket"]))
        process.until(balancer.is_listening, "mailweir to listen", limit=_START_LIMIT)
        yield balancer


def run_to_end(
    file: Path, *, limit: float = LIMIT, before: Sequence[str | Path] = ()
) -> subprocess.CompletedProcess[str]:
    """A `mailweir run` that is expected to end by itself; `before` begins the command."""
    return run([*before, *COMMAND, "run", "-c", file], limit=limit)


def on_path(directory: Path) -> dict[str, str]:
    """An environment in which `mailweir` is this checkout's, as a shell finds what is installed."""
    program = directory / "bin" / "mailweir"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}


def write(file: Path, config: Tree | str) -> None:
    """A configuration file, whole at every moment."""
    text = config if isinstance(config, str) else yaml.safe_dump(config, sort_keys=False)
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)
