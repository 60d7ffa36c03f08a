"""Debian's HAProxy, to show what it does where mailweir does something else.

Needs the package haproxy. Its figures are printed and not asserted: it is here as a
measure, and its own versions may change them.
"""

import csv
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.clients.dialogue import Address
from harness.needs import program
from harness.networks.ports import SERVER_HOST
from harness.process import Running, running
from harness.waiting import LIMIT

# Only what is needed to compare: the names are those of `harness.mailweir.run.configuration`.
_CONFIGURATION = """\
global
    maxconn 4096
    stats socket {socket} mode 600 level admin
defaults
    mode tcp
    maxconn 4096
    timeout client 11m
{settings}
frontend mx
    bind {address}
{frontend}    default_backend farm
backend farm
    balance {balance}
{servers}
"""


class HAProxy:
    """The running process, and the way to tell it something."""

    def __init__(self, process: Running, address: Address, stats_socket: Path) -> None:
        self.process = process
        self.address = address
        self._socket = stats_socket

    def tell(self, command: str) -> str:
        """What it answers to a command on its stats socket; nothing where all is well."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT)
            connection.connect(str(self._socket))
            connection.sendall(f"{command}\n".encode())
            with connection.makefile("r") as answer:
                return answer.read().strip()

    def sessions(self, server: str) -> int:
        """How many sessions a server has at this moment."""
        return int(self._of(server)["scur"])

    def is_up(self, server: str) -> bool:
        """Whether sessions go to it."""
        return self._of(server)["status"].startswith("UP")

    def told_by_agent(self, server: str) -> tuple[str, int, int]:
        """A server's state in mailweir's words, its weight and its `maxconn` (0: none)."""
        row = self._of(server)
        state = row["status"].split()[0].lower()
        return {"no": "up"}.get(state, state), int(row["uweight"]), int(row["slim"] or 0)

    def is_listening(self) -> bool:
        """Whether it takes commands, which it does once it listens."""
        try:
            return "Pid" in self.tell("show info")
        except OSError:
            return False

    def _of(self, server: str) -> dict[str, str]:
        table = csv.DictReader(self.tell("show stat").removeprefix("# ").splitlines())
        return {row["svname"]: row for row in table if row["pxname"] == "farm"}[server]


@contextmanager
def haproxy(
    directory: Path,
    servers: Mapping[str, str],
    settings: Sequence[str],
    balance: str = "roundrobin",
    frontend: Sequence[str] = (),
) -> Iterator[HAProxy]:
    """An HAProxy before `servers`; `settings` are lines of its section `defaults`, `frontend` of
    where it listens.
    """
    stats_socket, file = directory / "haproxy.sock", directory / "haproxy.cfg"
    with socket.socket() as kept:
        # It has no word for "any free port". This one is kept for it: bound, not listening,
        # and shared, as HAProxy binds its own.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((SERVER_HOST, 0))
        address: Address = kept.getsockname()
        file.write_text(
            haproxy_configuration(stats_socket, address, servers, settings, balance, frontend)
        )
        with running([program("haproxy"), "-db", "-f", file], directory, "haproxy") as process:
            balancer = HAProxy(process, address, stats_socket)
            process.until(balancer.is_listening, "HAProxy to listen")
            yield balancer


def haproxy_configuration(
    stats_socket: Path,
    address: Address,
    servers: Mapping[str, str],
    settings: Sequence[str],
    balance: str = "roundrobin",
    frontend: Sequence[str] = (),
) -> str:
    """Where it listens, and `servers`: their addresses, with what HAProxy is to know of them."""
    return _CONFIGURATION.format(
        socket=stats_socket,
        balance=balance,
        address="{}:{}".format(*address),
        settings="".join(f"    {setting}\n" for setting in settings),
        frontend="".join(f"    {line}\n" for line in frontend),
        servers="".join(f"    server {name} {at}\n" for name, at in servers.items()),
    )
