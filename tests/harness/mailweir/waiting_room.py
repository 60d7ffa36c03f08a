"""Two servers with room for so many sessions each, a queue before them, and who waits in it."""

import json
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from harness.clients.dialogue import Address, Client
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.servers.scripted import Stream, serving
from harness.waiting import until

MOST = 10  # sessions of a server


class Server:
    """It knows how many sessions it had at a time. They end with their QUIT."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def serve(self, stream: Stream) -> None:
        """One session."""
        self._count(1)
        stream.send(f"220 {self._name} ESMTP\r\n".encode())
        while (line := stream.line()) and line != b"QUIT\r\n":
            stream.send(b"250 fine\r\n")
        self._count(-1)
        stream.send(b"221 bye\r\n")

    def _count(self, more: int) -> None:
        with self._lock:
            self._now += more
            self.most = max(self.most, self._now)


class WaitingRoom:
    """The servers, the sessions that they have (`here`), and those that wait."""

    def __init__(
        self, balancer: Mailweir, config: Tree, servers: list[Server], exits: ExitStack
    ) -> None:
        self.balancer = balancer
        self.config = config
        self.servers = servers
        self.address: Address = balancer.address()
        self.here: list[Client] = []
        self._exits = exits

    def waiting(self) -> int:
        """How many there are."""
        return waiting(self.balancer)

    def ended(self, how: str) -> int:
        """How many waits ended so."""
        name = "mailweir_pool_queue_ends_total"
        return int(self.balancer.metric(name, pool="farm", end=how))

    def one_more(self, number: int, source: str = "") -> Client:
        """Who is the last of so many that wait; with 0, who is greeted."""
        client = self._exits.enter_context(closing(Client(self.address, host=source)))
        if number:
            until(lambda: self.waiting() == number, f"{number} to wait")
        else:
            client.expect("220")
            self.here.append(client)
        return client

    def server_of(self, client: Client) -> str:
        """Where the session of a client is."""
        done = self.balancer.command("sessions", "--json")
        assert done.returncode == 0, done.stderr
        own = "{}:{}".format(*client.socket.getsockname())
        (found,) = [one for one in json.loads(done.stdout)["sessions"] if one["client"] == own]
        return str(found["server"])

    def end_one(self) -> None:
        """Who has been here longest leaves."""
        leave(self.here.pop(0))

    def end_all(self) -> None:
        """Everybody leaves."""
        while self.here:
            self.end_one()
        self.is_empty()

    def is_empty(self) -> None:
        """Nobody is here and nobody waits."""
        until(lambda: self.balancer.status()["sessions"] == 0, "all to end")
        assert self.waiting() == 0
        assert {one["active"] for one in self.balancer.servers().values()} == {0}


@contextmanager
def waiting_room(
    directory: Path, start: Callable[[Tree], Mailweir], queue: Tree, *, full: bool = True
) -> Iterator[WaitingRoom]:
    """One of four workers, its servers full or without sessions."""
    with ExitStack() as exits:
        servers = [Server("a"), Server("b")]
        where: Tree = {
            name: {"address": exits.enter_context(serving(one.serve)), "max_sessions": MOST}
            for name, one in zip("ab", servers, strict=True)
        }
        # Sessions alone come to the servers, but for one check.
        config = configuration(directory, where, workers=4, check={"every": "1h"})
        config["pools"]["farm"]["queue"] = queue
        balancer = start(config)
        until(lambda: all(balancer.server_is(name, "up") for name in where), "both to be up")
        room = WaitingRoom(balancer, config, servers, exits)
        for _ in range(2 * MOST if full else 0):
            room.one_more(0)
        yield room


def waiting(balancer: Mailweir) -> int:
    """How many wait."""
    return int(balancer.metric("mailweir_pool_waiting", pool="farm"))


def leave(client: Client) -> None:
    """As one should."""
    client.expect("221", "QUIT")
    client.close()


def told(clients: list[Client]) -> list[Client]:
    """Those of them that were told something by now."""
    said, _, _ = select.select([client.socket for client in clients], [], [], 0)
    return [client for client in clients if client.socket in said]
