"""Who may change something at the admin addresses: nobody but operators, whatever others try."""

import grp
import json
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from harness.clients.dialogue import Client
from harness.mailweir.admin_ends import (
    Answer,
    User,
    ask,
    connect_as,
    connect_http,
    http_port,
    open_folder,
    rest,
)
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.servers.scripted import Stream, serving
from harness.waiting import until
from mailweir.admin.access import Access
from mailweir.admin.balancer import Balancer
from mailweir.admin.guard import Hosts, at_socket
from mailweir.admin.refusals import Refusals
from mailweir.admin.routes import answers
from mailweir.config.roles import Roles
from mailweir.faults import Faults
from mailweir.journal import Journal
from scenarios.conftest import Start

_OPERATOR = User("daemon")
_READER = User("bin", (grp.getgrnam("mail").gr_gid,))
_STRANGER = User("nobody")
_ROLES = {"operators": ["daemon"], "readers": ["@mail"]}

_METHODS = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "GET", "HEAD", "PROPFIND")
_EVIL = "http://evil.example"
# What a page of evil.example can have a browser say: to our address, and to a name of its own
# that it points at us.
_OF_BROWSERS = (
    {"Origin": _EVIL},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000", "Host": "localhost:8025"},
    {"Host": "evil.example"},
    {"Host": "evil.example:8025", "Origin": f"{_EVIL}:8025"},
)
# Each changing route, with what can stand in it.
_CHANGES = {
    # First: another word ends all sessions of an address.
    "/api/v1/sessions/{session}/kill": ["/api/v1/sessions/{session}/kill"],
    "/api/v1/reload": ["/api/v1/reload"],
    "/api/v1/upgrade": ["/api/v1/upgrade"],
    "/api/v1/servers/{pool}/{server}/{word}": [
        *(f"/api/v1/servers/farm/a/{word}" for word in ("drain", "maint", "ready", "own-weight")),
        "/api/v1/servers/farm/a/weight?weight=7",
    ],
    "/api/v1/listeners/{listener}/{word}": [
        "/api/v1/listeners/mx/pause",
        "/api/v1/listeners/mx/resume",
    ],
    "/api/v1/{word}": ["/api/v1/pause", "/api/v1/resume"],
    "/api/v1/deny/{prefix}": ["/api/v1/deny/192.0.2.1", "/api/v1/deny/127.0.0.1?end=1"],
    "/api/v1/undeny/{prefix}": ["/api/v1/undeny/192.0.2.1"],
    "/api/v1/ha/{role}": ["/api/v1/ha/active?by=native", "/api/v1/ha/stopped"],
    # Of a process that doesn't end it changes nothing, whoever says so.
    "/api/v1/ha/move": ["/api/v1/ha/move"],
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture
def server() -> Iterator[str]:
    with serving(_greet) as address:
        yield address


def test_no_changing_route_is_forgotten_here() -> None:
    access, registry = Access(Roles()), CollectorRegistry()
    guard = at_socket(access, Refusals(registry), Faults(), Hosts("h", []))
    app = answers(cast(Balancer, None), registry, Journal())[0](access, guard)
    reading = {"GET", "HEAD"}
    changing = {_canonical(route) for route in app.router.routes() if route.method not in reading}
    assert changing == _CHANGES.keys()


def test_nobody_else_changes_anything(
    folder: Path, tmp_path: Path, start: Start, server: str, counted: Callable[[str], None]
) -> None:
    balancer = start(_configuration(folder, tmp_path, server, _ROLES))
    path = folder / "admin.sock"
    until(lambda: balancer.server_is("a", "up"), "the server to be up")
    with Client(balancer.address()) as client:
        client.expect("220")
        session = _sessions(path)[0]["id"]
        routes = [route.format(session=session) for found in _CHANGES.values() for route in found]
        # Whoever changes something is seen in this: a word that is kept, a generation, an event.
        _drain_and_back(path)
        before = _state(balancer, path, tmp_path)

        tried = list(_refused(balancer, path, routes))
        counted(f"{len(tried)} tries to change something")

        assert _state(balancer, path, tmp_path) == before
        assert [one["id"] for one in _sessions(path)] == [session]
        for route in routes:
            # Another process would answer afterwards; `test_upgrade` has that.
            if route != "/api/v1/upgrade":
                assert ask(connect_as(_OPERATOR, path), "POST", route).status == 200
        assert client.rest().startswith(b"421 ")
    assert _state(balancer, path, tmp_path) != before


def test_who_has_a_role_by_name_or_group(
    folder: Path, tmp_path: Path, start: Start, server: str
) -> None:
    balancer = start(_configuration(folder, tmp_path, server, _ROLES))
    path = folder / "admin.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    for route in ("/api/v1/status", "/api/v1/sessions", "/api/v1/events", "/metrics"):
        assert ask(connect_as(_READER, path), "GET", route).status == 200
    answer = ask(connect_as(_READER, path), "POST", "/api/v1/reload")
    assert answer.status == 403
    assert "you are bin and may only read" in json.loads(answer.body)["error"]
    for _ in range(3):
        answer = ask(connect_as(_STRANGER, path), "GET", "/healthz")
        assert answer.status == 403
        assert "be under `admin.readers` or `admin.operators`" in json.loads(answer.body)["error"]
        assert "you are nobody" in json.loads(answer.body)["error"]
    said = ask(connect_as(_OPERATOR, path), "POST", "/api/v1/servers/farm/a/drain")
    assert json.loads(said.body)["by"] == "daemon"
    assert balancer.metric("mailweir_admin_refusals_total", reason="no_role") == 3
    assert balancer.metric("mailweir_admin_refusals_total", reason="reader") == 1
    event = 'event="refused at the admin addresses"'
    assert balancer.process.err.count(f"{event} who=nobody reason=no_role") == 1
    assert balancer.process.err.count(f"{event} who=bin reason=reader") == 1


def test_a_reload_takes_roles(folder: Path, tmp_path: Path, start: Start, server: str) -> None:
    config = _configuration(folder, tmp_path, server, {})
    balancer = start(config)
    path = folder / "admin.sock"
    assert _is_closed(path)

    _reload(balancer, config, {"readers": ["bin"]}, "admin: readers none -> bin")
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    with connect_as(_READER, path) as following, connect_as(_STRANGER, path) as early:
        following.sendall(
            b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        )
        assert following.recv(100).startswith(b"HTTP/1.1 200 ")
        _reload(balancer, config, {"operators": ["nobody"]}, "admin: operators none -> nobody")
        rest(following)  # it ends
        assert ask(connect_as(_READER, path), "GET", "/healthz").status == 403
        assert ask(connect_as(_STRANGER, path), "POST", "/api/v1/reload").status == 200
        late = connect_as(_READER, path)

        # Whoever has the socket open from before can't do more now than who can't open it.
        _reload(balancer, config, {}, "admin: operators nobody -> none")
        assert _is_closed(path)
        for stream in (early, late):
            assert _is_refused(stream)
    for user in (None, User("nobody", (path.stat().st_gid,))):
        assert ask(connect_as(user, path), "POST", "/api/v1/reload").status == 200
    assert balancer.status()["ready"]


def test_names_that_nobody_has(folder: Path, tmp_path: Path, start: Start, server: str) -> None:
    roles = {"operators": ["nobody-of-that-name"], "readers": ["@no-group-of-that-name"]}
    balancer = start(_configuration(folder, tmp_path, server, roles))
    path = folder / "admin.sock"
    for user in (_OPERATOR, _READER, _STRANGER):
        assert ask(connect_as(user, path), "GET", "/healthz").status == 403
    reloaded = balancer.command("reload")
    assert reloaded.returncode == 0
    assert "admin.operators.0: this machine knows no user `nobody-of-that-name`" in reloaded.stderr
    assert "admin.readers.0: this machine knows no group `no-group-of-that-name`" in reloaded.stderr


def _greet(stream: Stream) -> None:
    stream.send(b"220 mx\r\n")
    while line := stream.line():
        stream.send(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 mx\r\n")


def _configuration(folder: Path, tmp_path: Path, server: str, roles: Tree) -> Tree:
    config = configuration(tmp_path, {"a": server}, forwarding="relay")
    config["admin"] = {"socket": str(folder / "admin.sock"), "http": "127.0.0.1:0", **roles}
    return config


def _canonical(route: web.AbstractRoute) -> str:
    assert route.resource is not None
    return route.resource.canonical


def _refused(balancer: Mailweir, path: Path, routes: list[str]) -> Iterator[Answer]:
    """The answers to whoever isn't to change anything, by each route and in each way he has."""
    port = http_port(balancer)
    for route in routes:
        for method in _METHODS:
            yield _with(403, ask(connect_as(_STRANGER, path), method, route))
            if method in ("GET", "HEAD"):
                yield _with(404, ask(connect_http(port), method, route))
                for who in (_READER, _OPERATOR):
                    yield (answer := _with(405, ask(connect_as(who, path), method, route)))
                    assert "\r\nAllow: POST\r\n" in answer.head
            else:
                yield _with(403, ask(connect_http(port), method, route))
                yield _with(403, ask(connect_as(_READER, path), method, route))
        for headers in _OF_BROWSERS:
            # By a proxy that runs as root or as an operator: `ssh -L`, say.
            for behind in (None, _OPERATOR):
                for method in ("POST", "GET"):
                    yield _with(403, ask(connect_as(behind, path), method, route, **headers))
            for looked_at in ("/", "/metrics", "/api/v1/status", route):
                yield _with(403, ask(connect_http(port), "GET", looked_at, **headers))


def _with(status: int, answer: Answer) -> Answer:
    assert answer.status == status, answer
    return answer


def _drain_and_back(path: Path) -> None:
    for word in ("drain", "ready"):
        answer = ask(connect_as(_OPERATOR, path), "POST", f"/api/v1/servers/farm/a/{word}")
        assert answer.status == 200


def _sessions(path: Path) -> list[Tree]:
    found: list[Tree] = json.loads(_got(path, "sessions"))["sessions"]
    return found


def _state(balancer: Mailweir, path: Path, tmp_path: Path) -> list[object]:
    """All that an operator can change, and what would tell of it."""
    status = balancer.status()
    events = json.loads(_got(path, "events"))["events"]
    return [
        status["generation"],
        status["operator"],
        status["listeners"],
        [(one["state"], one["weight"], one["operator"]) for one in balancer.servers().values()],
        (tmp_path / "state" / "overrides.json").read_bytes(),
        balancer.metric("mailweir_config_reloads_total"),
        [one for one in events if one["event"] != "refused at the admin addresses"],
        _got(path, "config"),
    ]


def _got(path: Path, route: str) -> bytes:
    answer = ask(connect_as(None, path), "GET", f"/api/v1/{route}")
    assert answer.status == 200
    return answer.body


def _reload(balancer: Mailweir, config: Tree, roles: Tree, change: str) -> None:
    kept = {key: config["admin"][key] for key in ("socket", "http")}
    balancer.write({**config, "admin": {**kept, **roles}})
    said = balancer.command("reload")
    assert (said.returncode, said.stderr) == (0, "")
    assert change in said.stdout


def _is_refused(stream: socket.socket) -> bool:
    """Whether a connection has no right any more, or has been ended for that."""
    with stream, suppress(ConnectionError):
        stream.sendall(
            b"POST /api/v1/pause HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        answer = rest(stream)
        return not answer or answer.startswith(b"HTTP/1.1 403 ")
    return True


def _is_closed(path: Path) -> bool:
    with pytest.raises(PermissionError):
        connect_as(_STRANGER, path)
    return stat.S_IMODE(path.stat().st_mode) == 0o660
