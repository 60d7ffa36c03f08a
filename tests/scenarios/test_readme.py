"""`README.md` is true: its configuration runs, each command is run in turn, and says what it shows.

Its servers are scripted, on machines of the test's: what `ssh` does there the test does.
"""

import re
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.waiting import until
from scenarios.pages import ROOT, UNTIL_READY, Farm, Terminal, farm, neutral, steps, terminal

_SERVERS = {"mx1": "10.0.0.1", "mx2": "10.0.0.2"}
_SAID_IN_TIME = ("mailweir events", "mailweir explain")


@pytest.mark.needs("iproute2")
def test_every_step(tmp_path: Path) -> None:
    (configuration,) = re.findall(r"(?ms)^```yaml\n(.*?)^```$", (ROOT / "README.md").read_text())
    with (
        farm(_SERVERS, proxy=True) as servers,
        terminal(servers.networks, tmp_path) as shell,
        ExitStack() as mails,
    ):
        (tmp_path / "folder/mailweir.yaml").write_text(configuration)
        shell.run("mailweir run -c mailweir.yaml 2>mailweir.log &")
        shell.run(UNTIL_READY)
        reader = _Reader(servers, shell, mails)
        for step in steps("README.md"):
            reader.types(step.command, step.said)
        assert reader.taken == [True, True]


class _Reader:
    """Somebody who has the page before him, and two clients who send mails meanwhile."""

    def __init__(self, servers: Farm, shell: Terminal, mails: ExitStack) -> None:
        self.taken: list[bool] = []
        self._servers = servers
        self._shell = shell
        self._mails = mails
        self._clients: list[Client] = []

    def types(self, command: str, expected: str) -> None:
        """Runs a command, and compares."""
        match command.split():
            case ["ssh", name, "systemctl", "stop", "postfix"]:
                self._servers.stop(name)
            case ["ssh", name, "systemctl", "start", "postfix"]:
                # Its server is down, so that they come to the other one.
                self._clients = [self._in_a_mail() for _ in range(2)]
                self._servers.start(name)
                self._wait_for(f"{name} to be up", "mailweir servers", rf"{name}  \S+  up ")
            case ["mailweir", "drain", *_]:
                said = self._shell.run(command, lambda _: self._end_mails())
                assert neutral(said) == neutral(expected), command
            case _ if command.startswith(_SAID_IN_TIME):
                # Whoever reads the page takes longer for it than checks do.
                self._wait_for(command, command, re.escape(neutral(expected)))
            case _:
                said = self._shell.run(command)
                assert neutral(said) == neutral(expected), command

    def _wait_for(self, what: str, command: str, pattern: str) -> None:
        until(lambda: re.search(pattern, neutral(self._shell.run(command))) is not None, what)

    def _in_a_mail(self) -> Client:
        make: Callable[[], Client] = partial(Client, ("127.0.0.1", 25))
        client = self._mails.enter_context(self._servers.networks.inside("l", make).result())
        for said, answer in ((b"", "220"), (b"EHLO c", "250"), (b"DATA", "354")):
            client.send(said + b"\r\n" if said else b"")
            assert client.line().startswith(answer)
        return client

    def _end_mails(self) -> None:
        """Once: at the first line, by which the server drains."""
        clients, self._clients = self._clients, []
        for client in clients:
            client.send(b"text\r\n.\r\n")
            self.taken.append(client.line().startswith("250"))
            client.send(b"QUIT\r\n")
            client.close()


def test_it_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
