"""Stand-ins for the data plane, and configurations to begin with."""

import os
import socket
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from mailweir.config.load import Loaded, parse
from mailweir.config.model import Config
from mailweir.errors import PlaneError, PlanePanic
from mailweir.spec import DesiredRoom, DesiredState, Elsewhere, ServerKey, ServerState
from mailweir.state.overrides import Overrides
from mailweir.stats import (
    Admission,
    KernelPathStats,
    PoolConduct,
    RefusedSource,
    ServerConduct,
    ServerStats,
    ServerTrouble,
    Session,
    Stats,
)
from unit import figures

NOTHING_SAID = Overrides()
ROOM = DesiredRoom(sessions=9000, spare=1000)

MINIMAL = """\
listeners:
  mx:
    bind: ["192.0.2.1:25"]
    pool: farm
pools:
  farm:
    servers:
      a: 10.0.0.1:25
      b: 10.0.0.2:25
"""
# What is said of its servers, behind their names.
STRANGERS = (
    "won't know who the client is: write `proxy: v2` (in Postfix"
    " `smtpd_upstream_proxy_protocol = haproxy`), or `proxy: off` if that is meant"
)


def loaded(text: str = MINIMAL) -> Loaded:
    """A configuration from text, with its warnings and places."""
    return parse(text, "f.yaml")


def config(text: str = MINIMAL) -> Config:
    """A configuration from text."""
    return loaded(text).config


class FakePlane:
    """A plane that remembers what it was told. `refuse` makes the next apply fail."""

    def __init__(self, workers: int = 2) -> None:
        self.workers = workers
        self.applied: list[DesiredState] = []
        self.state_changes: list[dict[ServerKey, ServerState]] = []
        self.states: dict[ServerKey, ServerState] = {}
        self.refuse = ""
        # End reasons by clients.
        self.refuses: dict[str, str] = {}
        self.active = 0
        self.kernel_path: KernelPathStats | None = None
        self.draining = False
        self.left_to_successor = False
        self.handed_over = False
        self.elsewhere: list[Elsewhere] = []
        self.stopped = False
        self.hurries = False
        self.live: list[Session] = []
        self.ended: list[ServerKey] = []
        self.turned_away: list[RefusedSource] = []
        self.asked: tuple[object, ...] = ()
        self.reopened = 0
        self.troubles: list[ServerTrouble] = []
        self.panics: list[PlanePanic] = []
        self._wake = os.pipe()

    def apply(self, state: DesiredState) -> int:
        if self.refuse:
            raise PlaneError(self.refuse)
        self.applied.append(state)
        self.states = state.server_states()
        return len(self.applied)

    def set_server_states(self, states: Mapping[ServerKey, ServerState]) -> None:
        self.state_changes.append(dict(states))
        self.states.update(states)

    def hurry(self) -> None:
        self.hurries = True

    def drain(self, *, to_successor: bool) -> None:
        self.draining = True
        self.left_to_successor = to_successor

    def hand_over(self) -> None:
        self.handed_over = True

    def set_elsewhere(self, elsewhere: Elsewhere) -> None:
        self.elsewhere.append(elsewhere)

    def listening(self) -> list[socket.socket]:
        return []

    def sessions(
        self, *, listener: str | None, server: ServerKey | None, client: str | None, limit: int
    ) -> list[Session]:
        self.asked = (listener, server, client, limit)
        return self.live[:limit]

    def next_server(self, pool: str, client: str) -> ServerKey | None:
        up = (key for key, state in self.states.items() if state is ServerState.UP)
        return next(up, None)

    def admission(self, listener: str, client: str) -> Admission:
        return Admission(self.refuses.get(client), [])

    def refused(self, *, listener: str | None, limit: int) -> list[RefusedSource]:
        wanted = (one for one in self.turned_away if listener in (None, one.listener))
        return list(wanted)[:limit]

    def kill(self, session: str) -> bool:
        return any(one.id == session for one in self.live)

    def kill_from(self, prefix: str) -> int:
        network = ip_network(prefix)
        clients = (one.client.rpartition(":")[0].strip("[]") for one in self.live)
        return sum(ip_address(client) in network for client in clients)

    def end_of_server(self, key: ServerKey) -> int:
        self.ended.append(key)
        return 1

    def reopen_logs(self) -> None:
        self.reopened += 1

    @property
    def wake_fd(self) -> int:
        return self._wake[0]

    def take_troubles(self) -> list[ServerTrouble]:
        os.read(self.wake_fd, 8)
        taken, self.troubles = self.troubles, []
        return taken

    def take_panics(self) -> list[PlanePanic]:
        taken, self.panics = self.panics, []
        return taken

    def panic(self, words: str) -> None:
        """A thread panics."""
        self.panics.append(PlanePanic(words))
        os.write(self._wake[1], b"x")

    def trouble(self, pool: str, server: str) -> None:
        """A server fails a session."""
        self.troubles.append(ServerTrouble(pool, server, "greeting", "4xx"))
        os.write(self._wake[1], b"x")

    def stop(self) -> None:
        self.stopped = True
        for descriptor in self._wake:
            os.close(descriptor)
        self._wake = (-1, -1)

    def stats(self) -> Stats:
        now = self.applied[-1] if self.applied else None
        listeners = [
            figures.listener_stats(
                listener.name,
                *listener.bind,
                sources=figures.SOURCES if listener.per_source else None,
            )
            for listener in (now.listeners if now else ())
        ]
        pools = [
            figures.pool_stats(pool.name, sticky=figures.STICKY if pool.sticky else None)
            for pool in (now.pools if now else ())
        ]
        return figures.stats(
            len(self.applied),
            self.draining,
            self.active,
            listeners,
            pools=tuple(pools),
            kernel_path=self.kernel_path,
        )

    def conduct(self) -> list[PoolConduct]:
        return [
            PoolConduct(pool.name, 0, tuple(ServerConduct(s.name, *[0] * 5) for s in pool.servers))
            for pool in (self.applied[-1].pools if self.applied else ())
        ]

    def servers(self, *, with_times: bool = False) -> list[ServerStats]:
        now = self.applied[-1] if self.applied else None
        return [
            figures.server_stats(
                pool.name,
                server.name,
                server.address,
                server.weight,
                str(self.states[ServerKey(pool.name, server.name)]),
                backup=server.backup,
                **({} if with_times else {"times": None}),
            )
            for pool in (now.pools if now else ())
            for server in pool.servers
        ]
