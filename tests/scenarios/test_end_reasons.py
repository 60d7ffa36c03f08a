"""However a session ends, log and metrics say why and by whom, and count its bytes right."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from harness.mailweir.run import Mailweir, Tree, configuration
from harness.networks.ports import refusing
from harness.servers.ends import Acceptor, Session, accepting
from harness.waiting import until
from scenarios.conftest import Start

_SHORT = "300ms"
# Limits like these make duplicates, and have to be asked for in so many words.
_IMPATIENT = {"idle_client": _SHORT, "idle_server": _SHORT, "i_accept_duplicates": True}
_LISTENERS: Tree = {
    "mx": {"pool": "farm"},
    "impatient": {"pool": "farm", "timeouts": _IMPATIENT},
    "half": {"pool": "farm", "timeouts": {"half_closed": _SHORT}},
    "aged": {"pool": "farm", "max_age": "1s"},
    "single": {"pool": "farm", "limits": {"sessions": 1}},
    "leaving": {"pool": "leaving"},
    "dead": {"pool": "dead"},
    "dying": {"pool": "dying"},
    "rude": {"pool": "rude"},
}


@dataclass(frozen=True)
class _Rig:
    """mailweir, and a server for each pool."""

    balancer: Mailweir
    servers: dict[str, Acceptor]
    exits: ExitStack
    # The listener and the client's port of each session: two listeners may see the same port.
    places: dict[Session, tuple[str, int]] = field(default_factory=dict)

    def connect(self, listener: str) -> Session:
        """A client, whatever becomes of it."""
        session = Session(self.balancer.address(listener))
        self.places[session] = (listener, session.port)
        self.exits.callback(session.close)
        return session

    def session(self, listener: str = "mx") -> Session:
        """A session that is through with its EHLO."""
        session = self.connect(listener)
        session.taken_by(self.servers[_LISTENERS[listener]["pool"]])
        return session

    def in_data(self) -> Session:
        """A session whose server waits for the message."""
        session = self.session()
        session.client_says(b"DATA\r\n")
        session.server_says(b"354 go\r\n")
        return session

    def does(self, *command: str) -> None:
        done = self.balancer.command(*command)
        assert done.returncode == 0, done.stderr


def test_each_has_its_reason(tmp_path: Path, start: Start, counted: Callable[[str], None]) -> None:
    with _rig(tmp_path, start) as rig:
        sessions = {end: end.happen(rig) for end in _ENDS}
        balancer = rig.balancer
        until(lambda: balancer.status()["sessions"] == 0, "all sessions to end")
        places = {rig.places[session] for session in sessions.values()}
        until(lambda: places <= _by_place(balancer).keys(), "all sessions in the log")

        lines = _by_place(balancer)
        for end, session in sessions.items():
            line = lines[rig.places[session]]
            assert (line["end_reason"], line["end_by"]) == (end.reason, end.by)
            assert (line["received_bytes"], line["sent_bytes"]) == session.counted(), line
            assert line["in_data"] == end.in_data, line
            assert line["greeting_code"] == (220 if session.was_taken else None), line
        logged = Counter((line["listener"], line["end_reason"]) for line in lines.values())
        assert logged == _in_metrics(balancer)
        _is_counted_by_server(balancer, lines.values())
        counted(f"{len(sessions)} endings: {sorted({end.reason for end in _ENDS})}")


def _client_quit(rig: _Rig) -> Session:
    session = rig.session()
    session.client_says(b"QUIT\r\n")
    session.server_says(b"221 bye\r\n")
    session.server.end()
    session.both_end(session.client)
    return session


def _client_closed(rig: _Rig) -> Session:
    session = rig.session()
    session.client.end()
    session.both_end(session.server)
    return session


def _client_lost(rig: _Rig) -> Session:
    session = rig.session()
    session.client.reset()
    session.is_reset(session.server)
    return session


def _drifts(rig: _Rig) -> Session:
    """The server answers what nobody asked: nobody can tell what its next reply answers."""
    session = rig.session()
    session.server_says(b"250 whatever\r\n")
    session.client.end()
    session.both_end(session.server)
    return session


def _server_closed(rig: _Rig) -> Session:
    session = rig.session()
    session.server.end()
    session.both_end(session.client)
    return session


def _server_421(rig: _Rig) -> Session:
    session = rig.session()
    session.server_says(b"421 4.4.2 mx.server.test timeout\r\n")
    session.server.end()
    session.both_end(session.client)
    return session


def _server_lost(rig: _Rig) -> Session:
    session = rig.session()
    # With it the client has acknowledged all: a reset takes nothing back.
    session.client_says(b"NOOP\r\n")
    session.server.reset()
    session.is_reset(session.client)
    return session


def _client_lost_in_data(rig: _Rig) -> Session:
    session = rig.in_data()
    session.client_says(b"Subject: not to its end\r\n")
    session.client.reset()
    # In the place of a reset, which could take back what it hasn't acknowledged yet.
    session.is_reset_or_ended(session.server)
    return session


def _server_lost_before_its_answer(rig: _Rig) -> Session:
    session = rig.in_data()
    session.client_says(b".\r\n")
    session.server.reset()
    session.is_reset(session.client)
    return session


def _idle_client(rig: _Rig) -> Session:
    session = rig.session("impatient")
    session.both_end(session.client)
    return session


def _idle_server(rig: _Rig) -> Session:
    session = rig.session("impatient")
    session.client_says(b"NOOP\r\n")
    session.both_end(session.client)
    return session


def _half_closed(rig: _Rig) -> Session:
    session = rig.session("half")
    session.client.end()
    # The server hears the end and doesn't close.
    assert session.server.rest() == b""
    session.both_end(session.client)
    return session


def _drain(rig: _Rig) -> Session:
    session = rig.session("leaving")
    rig.does("drain", "leaving/leaving", "--wait")
    session.is_told("out of service")
    return session


def _age(rig: _Rig) -> Session:
    session = rig.session("aged")
    session.is_told("too old")
    return session


def _killed(rig: _Rig) -> Session:
    session = rig.session()
    live = json.loads(rig.balancer.command("sessions", "--json").stdout)["sessions"]
    [found] = [one["id"] for one in live if one["client"].endswith(f":{session.port}")]
    rig.does("kill", found)
    session.is_told("ended by an operator")
    return session


def _refused(listener: str, words: str) -> Callable[[_Rig], Session]:
    def happen(rig: _Rig) -> Session:
        session = rig.connect(listener)
        session.is_told(words)
        return session

    return happen


def _connect_failed(rig: _Rig) -> Session:
    rig.servers["dying"].close()
    return _refused("dying", "no mail server")(rig)


def _greeting_failed(rig: _Rig) -> Session:
    session = rig.connect("rude")
    server = rig.servers["rude"].accept()
    server.send(b"421 4.7.0 rude.test go away\r\n")
    assert server.rest() == b"QUIT\r\n"
    server.socket.close()
    session.is_told("no mail server")
    return session


def _full(rig: _Rig) -> Session:
    first = rig.session("single")
    session = rig.connect("single")
    session.is_told("too many sessions")
    first.client.end()
    first.both_end(first.server)
    return session


@dataclass(frozen=True)
class _End:
    """What is to come of what `happen` does."""

    happen: Callable[[_Rig], Session]
    reason: str
    by: str
    in_data: bool | None = False


# In this order: what is drained stays drained.
_ENDS = (
    _End(_client_quit, "client_quit", "client"),
    _End(_client_closed, "client_closed", "client"),
    _End(_client_lost, "client_lost", "client"),
    _End(_drifts, "client_closed", "client", in_data=None),
    _End(_server_closed, "server_closed", "server"),
    _End(_server_421, "server_421", "server"),
    _End(_server_lost, "server_lost", "server"),
    _End(_client_lost_in_data, "cut_in_data", "client", in_data=True),
    _End(_server_lost_before_its_answer, "cut_in_data", "server", in_data=True),
    _End(_idle_client, "idle_client", "balancer"),
    _End(_idle_server, "idle_server", "balancer"),
    _End(_half_closed, "half_closed", "balancer"),
    _End(_drain, "drain", "balancer"),
    _End(_refused("leaving", "being taken out of service"), "draining", "balancer"),
    _End(_age, "age", "balancer"),
    _End(_killed, "killed", "balancer"),
    _End(_refused("dead", "no mail server"), "no_server", "balancer"),
    _End(_connect_failed, "connect_failed", "balancer"),
    _End(_greeting_failed, "greeting_failed", "balancer"),
    _End(_full, "full", "balancer"),
)


@contextmanager
def _rig(directory: Path, start: Start) -> Iterator[_Rig]:
    with ExitStack() as exits:
        pools = {str(listener["pool"]) for listener in _LISTENERS.values()}
        servers = {pool: exits.enter_context(accepting()) for pool in pools - {"dead"}}
        addresses = {pool: server.address for pool, server in servers.items()}
        addresses["dead"] = exits.enter_context(refusing())

        check = {"kind": "tcp", "every": "1h"}
        config = configuration(directory, {}, drain={"quiet": "100ms", "spread": "0s"})
        config["listeners"] = {
            name: {"bind": ["127.0.0.1:0"], **listener} for name, listener in _LISTENERS.items()
        }
        config["pools"] = {
            pool: {"servers": {pool: address}, "check": check, "panic": "0%"}
            for pool, address in addresses.items()
        }
        balancer = start(config)
        until(lambda: all(balancer.server_is(name, "up") for name in servers), "all to be up")
        for server in servers.values():
            server.forget_check()
        yield _Rig(balancer, servers, exits)


def _by_place(balancer: Mailweir) -> dict[tuple[str, int], Tree]:
    """The lines of the log, by the listener and the client's port."""
    lines = balancer.session_log()
    return {(line["listener"], int(line["client"].rpartition(":")[2])): line for line in lines}


def _is_counted_by_server(balancer: Mailweir, lines: Iterable[Tree]) -> None:
    """Of each server the sessions that it took: why they ended, and how long they lasted."""
    reasons: Counter[tuple[str, ...]] = Counter()
    lasted: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        if line["server"]:
            server = (line["pool"], line["server"])
            reasons[*server, line["end_reason"]] += 1
            lasted[server] += line["duration_ms"]
    families = text_string_to_metric_families(balancer.page("/metrics"))
    told = {family.name: family.samples for family in families}
    found = {
        tuple(sample.labels[label] for label in ("pool", "server", "reason")): sample.value
        for sample in told["mailweir_server_sessions_ended"]
    }
    assert found == reasons
    for sample in told["mailweir_server_session_seconds"]:
        server = (sample.labels["pool"], sample.labels["server"])
        if sample.name.endswith("_count"):
            assert sample.value == sum(n for key, n in reasons.items() if key[:2] == server)
        else:
            # The log's time goes on to the last word.
            assert 0 <= lasted[server] / 1e3 - sample.value < 1


def _in_metrics(balancer: Mailweir) -> Counter[tuple[str, str]]:
    """How many sessions of each listener ended for which reason."""
    name = "mailweir_listener_connections_ended_total"
    reasons = {end.reason for end in _ENDS}
    found = {
        (listener, reason): int(balancer.metric(name, listener=listener, reason=reason))
        for listener in _LISTENERS
        for reason in reasons
    }
    return +Counter(found)
