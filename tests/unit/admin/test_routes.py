"""Every route over loopback, and who is refused what."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import ClientResponse
from msgspec import structs
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from structlog.testing import capture_logs

from mailweir.admin import exposition
from mailweir.journal import Journal
from mailweir.reload import ReloadOutcome
from mailweir.spec import ServerState
from unit import figures
from unit.admin.conftest import Client
from unit.admin.situations import A, FakeBalancer, busy, situation


async def test_health_and_readiness(writable: Client, balancer: FakeBalancer) -> None:
    assert (await writable.get("/healthz")).status == 200
    answer = await writable.get("/readyz")
    assert (answer.status, await answer.text()) == (200, "ready\n")
    balancer.now = situation(up="")
    answer = await writable.get("/readyz")
    assert (answer.status, await answer.text()) == (503, "pool farm: no server is up\n")


async def test_json_answers(readable: Client) -> None:
    status = await (await readable.get("/api/v1/status")).json()
    assert status["pid"] == 42
    servers = await (await readable.get("/api/v1/servers")).json()
    assert [server["name"] for server in servers["servers"]] == ["a", "b"]


async def test_one_server_with_its_checks(readable: Client) -> None:
    server = await (await readable.get("/api/v1/servers/farm/b")).json()
    assert (server["name"], server["by_checks"]) == ("b", "check: 421 <b>busy</b>")
    [check] = server["checks"]
    assert (check["name"], check["kind"], check["decides"]) == ("check", "ehlo", "state")
    assert [one["verdict"] for one in check["results"]] == ["down"]
    answer = await readable.get("/servers/farm/b")
    assert answer.status == 200
    assert "421 &lt;b&gt;busy&lt;/b&gt;" in await answer.text()
    for route in ("/api/v1/servers/farm/x", "/servers/x/b"):
        answer = await readable.get(route)
        assert answer.status == 404
        assert "there is no server " in await answer.text()


@pytest.mark.parametrize("accept", ["*/*", "text/plain; version=x", ";,=", "text/plain;version="])
async def test_metrics_are_in_prometheus_text(readable: Client, accept: str) -> None:
    answer = await readable.get("/metrics", headers={"Accept": accept})
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")


async def test_the_page_runs_nothing_and_escapes_what_servers_say(readable: Client) -> None:
    answer = await readable.get("/")
    text = await answer.text()
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "<script" not in text
    assert "421 &lt;b&gt;busy&lt;/b&gt;" in text
    assert "10.0.0.1:25" in text


async def test_the_page_says_what_is_unusual(readable: Client, balancer: FakeBalancer) -> None:
    balancer.now = busy()
    text = await (await readable.get("/")).text()
    assert '<p class="status ready">ready</p>' in text
    assert "<li>pool farm: panic: 1 of 2 servers is up" in text
    assert "3 sessions, 9000 at most, 6 wait for farm, generation 1, loaded 1m 39s ago" in text
    assert '<td class="up">up (slow start 35%)</td>' in text
    assert '<td class="panic">panic</td>' in text


async def test_the_page_says_what_is_wanted_and_is_not_there(
    readable: Client, balancer: FakeBalancer
) -> None:
    now = situation()
    refused = replace(now.last_load, ok=False, message="f.yaml has 1 problem(s)")
    stats = structs.replace(now.stats, no_kernel_path=figures.NO_KERNEL_PATH)
    balancer.now = replace(now, stats=stats, last_load=refused)
    text = await (await readable.get("/")).text()
    assert "<li>last load: REFUSED: f.yaml has 1 problem(s)</li><li>no kernel path, sess" in text
    path = structs.replace(
        figures.KERNEL_PATH, not_at={"eth7": "no memory"}, ends_with_process="no room"
    )
    stats = structs.replace(now.stats, kernel_path=path)
    balancer.now = replace(now, stats=stats)
    text = await (await readable.get("/")).text()
    assert "the kernel path isn&#x27;t at eth7: no memory</li><li>sessions in the kernel" in text
    path = structs.replace(figures.KERNEL_PATH, wanted_flows=900)
    balancer.now = replace(now, stats=structs.replace(now.stats, kernel_path=path))
    text = await (await readable.get("/")).text()
    assert "the kernel path has places for 100 flows, not for max_flows 900: flows of an" in text


async def test_reload_on_the_socket(writable: Client, balancer: FakeBalancer) -> None:
    answer = await writable.post("/api/v1/reload")
    assert answer.status == 200
    assert (await answer.json())["message"] == "nothing changed"
    balancer.outcome = ReloadOutcome(False, 1, "bad", 1000.0, problems=("f.yaml:1:1: x",))
    answer = await writable.post("/api/v1/reload")
    assert answer.status == 422
    assert (await answer.json())["problems"] == ["f.yaml:1:1: x"]


async def test_who_kills_and_reloads_is_in_the_log(writable: Client) -> None:
    with capture_logs() as logs:
        await writable.post("/api/v1/sessions/00000000000000ab/kill")
        await writable.post("/api/v1/sessions/ff/kill")
        await writable.post("/api/v1/reload")
    said = [(one["change"], bool(one["by"])) for one in logs if one["event"] == "operator"]
    assert said == [("kill 00000000000000ab", True), ("reload", True)]


async def test_reload_is_post_only(writable: Client, balancer: FakeBalancer) -> None:
    answer = await writable.get("/api/v1/reload")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert balancer.reloads == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_tcp_is_read_only(readable: Client, balancer: FakeBalancer, method: str) -> None:
    for route in ("/api/v1/reload", "/", "/api/v1/status"):
        assert (await readable.request(method, route)).status == 403
    assert balancer.reloads == 0
    assert (await readable.get("/api/v1/reload")).status == 404


HOSTS = [
    ("127.0.0.1", 200),
    ("127.0.0.1:8025", 200),
    ("192.0.2.7:8025", 200),
    ("[::1]:8025", 200),
    ("[::1]", 200),
    ("localhost:8025", 200),
    ("LB1:8025", 200),
    ("lb1.example.com:8025", 200),
    ("LB1.Example.COM.", 200),
    ("lb2.example.com:8025", 403),
    ("evil.example", 403),
    ("evil.example:8025", 403),
    ("127.0.0.1.evil.example", 403),
    ("localhost.evil.example", 403),
    ("[evil]:8025", 403),
]


@pytest.mark.parametrize(("host", "status"), HOSTS)
async def test_only_names_that_cannot_be_rebound_are_answered(
    either: Client, host: str, status: int
) -> None:
    assert (await either.get("/healthz", headers={"Host": host})).status == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8025", 200),
        ("http://127.0.0.1:3000", 403),
        ("http://evil.example", 403),
        ("http://evil.example:8025", 403),
        ("http://[", 403),
        ("null", 403),
        ("", 403),
    ],
)
async def test_pages_of_other_origins_are_not_answered(
    either: Client, origin: str, status: int
) -> None:
    headers = {"Host": "127.0.0.1:8025", "Origin": origin}
    assert (await either.get("/healthz", headers=headers)).status == status


async def test_a_page_elsewhere_changes_nothing(writable: Client, balancer: FakeBalancer) -> None:
    headers = {"Origin": "http://evil.example"}
    assert (await writable.post("/api/v1/reload", headers=headers)).status == 403
    assert balancer.reloads == 0


async def test_bodies_are_bounded(writable: Client, balancer: FakeBalancer) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"x"

    for body in (b"x" * 65537, endless()):
        answer = await writable.post("/api/v1/reload", data=body)
        assert answer.status == 413
        assert "Content-Length" in (await answer.json())["error"]
    assert balancer.reloads == 0
    assert (await writable.post("/api/v1/reload", data=b"x" * 65536)).status == 200


async def test_unknown_routes(either: Client) -> None:
    assert (await either.get("/api/v2/status")).status == 404
    assert (await either.get("/../etc/passwd")).status == 404


async def test_servers_are_drained_and_made_ready(
    writable: Client, readable: Client, balancer: FakeBalancer
) -> None:
    balancer.problem = "it can't be kept"
    answer = await writable.post("/api/v1/servers/farm/a/drain?for=2h")
    told = await answer.json()
    assert (told["what"], told["problem"]) == ("drain farm/a", "it can't be kept")
    word = balancer.operator.overrides.states["farm/a"]
    assert word.until == word.at + 7200
    answer = await writable.post("/api/v1/servers/farm/a/maint?why=new%20disk")
    assert (await answer.json())["why"] == "new disk"
    assert balancer.operator.overrides.states["farm/a"].why == "new disk"
    assert balancer.operator.overrides.server_state(A) is ServerState.MAINT
    await writable.post("/api/v1/servers/farm/a/ready")
    assert balancer.operator.overrides.server_state(A) is None
    answer = await writable.post("/api/v1/servers/farm/x/drain")
    assert answer.status == 404
    assert "it has a, b" in (await answer.json())["error"]
    assert (await readable.post("/api/v1/servers/farm/a/drain")).status == 403
    assert (await writable.post("/api/v1/servers/farm/a/delete")).status == 404


async def test_servers_are_weighed(writable: Client, balancer: FakeBalancer) -> None:
    await writable.post("/api/v1/servers/farm/a/weight?weight=50%25")
    assert balancer.operator.overrides.weights["farm/a"].weight == "50%"
    await writable.post("/api/v1/servers/farm/a/own-weight")
    assert not balancer.operator.overrides.weights
    assert balancer.told == ["weight farm/a 50%", "own-weight farm/a"]


async def test_listeners_and_the_node_are_paused(
    writable: Client, readable: Client, balancer: FakeBalancer
) -> None:
    await writable.post("/api/v1/listeners/mx/pause")
    await writable.post("/api/v1/pause?for=10m")
    assert [what for what, _ in balancer.operator.overrides.words()] == ["pause mx", "pause"]
    answer = await writable.post("/api/v1/listeners/mx/resume")
    assert "every listener is paused" in (await answer.json())["problem"]
    await writable.post("/api/v1/listeners/mx/pause")
    answer = await writable.post("/api/v1/resume")
    assert "`mailweir resume mx` ends that" in (await answer.json())["problem"]
    answer = await writable.post("/api/v1/listeners/mx/resume")
    assert (await answer.json())["problem"] == ""
    assert not list(balancer.operator.overrides.words())
    assert (await writable.post("/api/v1/listeners/mxx/pause")).status == 404
    assert (await readable.post("/api/v1/pause")).status == 403


async def test_prefixes_are_denied(
    writable: Client, readable: Client, balancer: FakeBalancer
) -> None:
    balancer.plane.live = [
        figures.SESSION,
        structs.replace(figures.SESSION, client="198.51.100.9:1025"),
    ]
    answer = await writable.post("/api/v1/deny/192.0.2.0%2F24?for=2h")
    told = await answer.json()
    assert (told["what"], told["prefix"], told["ended"]) == (
        "deny 192.0.2.0/24",
        "192.0.2.0/24",
        0,
    )
    # Whom they deny is for operators to see.
    status = await (await writable.get("/api/v1/status")).json()
    assert [one["what"] for one in status["operator"]["words"]] == ["deny 192.0.2.0/24"]
    answer = await readable.get("/api/v1/status")
    assert "192.0.2.0" not in await answer.text()
    assert (await answer.json())["operator"]["denied"] == 1
    word = balancer.operator.overrides.denied["192.0.2.0/24"]
    assert word.until == word.at + 7200
    with capture_logs() as logs:
        answer = await writable.post("/api/v1/deny/192.0.2.9?end=1")
    assert ((await answer.json())["prefix"], (await answer.json())["ended"]) == ("192.0.2.9/32", 1)
    assert [(one["change"], one["sessions"]) for one in logs] == [
        ("end sessions from 192.0.2.9/32", 1)
    ]
    await writable.post("/api/v1/deny/192.0.2.8")
    answer = await writable.post("/api/v1/undeny/192.0.2.8")
    assert (await answer.json())["problem"] == "192.0.2.0/24 is denied still, and has it"
    answer = await writable.post("/api/v1/undeny/192.0.2.0%2F24")
    assert (await answer.json())["prefix"] == "192.0.2.0/24"
    assert (await answer.json())["problem"] == ""
    assert list(balancer.operator.overrides.denied) == ["192.0.2.9/32"]
    answer = await writable.post("/api/v1/undeny/192.0.2.0%2F24")
    assert answer.status == 404
    assert "192.0.2.9/32" in (await answer.json())["error"]
    for command in ("deny", "undeny"):
        assert (await readable.post(f"/api/v1/{command}/192.0.2.9")).status == 403
        assert (await writable.get(f"/api/v1/{command}/192.0.2.9")).status == 405


@pytest.mark.parametrize(
    ("route", "error"),
    [
        ("deny/192.0.2.7%2F24", "did you mean 192.0.2.0/24"),
        ("deny/0.0.0.0%2F0", "`pause`"),
        ("deny/x", "must be a prefix"),
        ("deny/192.0.2.7?end=yes", "end: must be 1 or 0"),
        ("deny/192.0.2.7?for=1", "for: "),
        ("undeny/x", "must be a prefix"),
    ],
)
async def test_nonsense_denies_nothing(
    writable: Client, balancer: FakeBalancer, route: str, error: str
) -> None:
    answer = await writable.post(f"/api/v1/{route}")
    assert answer.status == 400
    assert error in (await answer.json())["error"]
    assert not balancer.told


async def test_too_many_denies(
    writable: Client, balancer: FakeBalancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailweir.operator.MAX_DENIED", 0)
    answer = await writable.post("/api/v1/deny/192.0.2.7?end=1")
    assert answer.status == 409
    assert "a file" in (await answer.json())["error"]


@pytest.mark.parametrize(
    "route",
    [
        *("a/drain?for=x", "a/drain?for=0s", f"a/drain?why={'x' * 201}"),
        *("a/weight", "a/weight?weight=1001", "a/weight?weight=-1"),
    ],
)
async def test_nonsense_changes_nothing(
    writable: Client, balancer: FakeBalancer, route: str
) -> None:
    answer = await writable.post(f"/api/v1/servers/farm/{route}")
    assert answer.status == 400
    assert (await answer.json())["error"].startswith(("for: ", "weight: ", "why: "))
    assert not balancer.told


async def test_events_are_shown(writable: Client, readable: Client, journal: Journal) -> None:
    for number in range(5):
        journal.take(None, "", {"level": "info", "event": f"e{number}"})
    answer = await (await writable.get("/api/v1/events?since=1001")).json()
    assert [event["event"] for event in answer["events"]] == ["e2", "e3", "e4"]
    assert answer["missed"] == 1
    assert (await writable.get("/api/v1/events?since=x")).status == 400
    assert (await readable.get("/api/v1/events")).status == 404


async def test_events_are_followed(writable: Client, journal: Journal) -> None:
    for number in range(5):
        journal.take(None, "", {"level": "info", "event": f"e{number}"})
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "1001"}
    async with writable.get("/api/v1/events", headers=headers) as stream:
        assert await stream.content.readline() == b": 1 events are missing here\n"
        seen = [await _next_event(stream) for _ in range(3)]
        journal.take(None, "", {"level": "info", "event": "new"})
        seen.append(await _next_event(stream))
    assert [event["event"] for event in seen] == ["e2", "e3", "e4", "new"]
    assert seen[-1]["id"] == 1006


async def _next_event(stream: ClientResponse) -> dict[str, object]:
    async with asyncio.timeout(10):
        while not (line := await stream.content.readline()).startswith(b"data: "):
            assert line, "it goes on"
    event: dict[str, object] = json.loads(line.removeprefix(b"data: "))
    return event


async def test_sessions_are_listed_and_killed_at_the_socket_alone(
    writable: Client, readable: Client, balancer: FakeBalancer
) -> None:
    answer = await writable.get("/api/v1/sessions?listener=mx&server=farm/a&limit=5")
    (session,) = (await answer.json())["sessions"]
    assert (session["id"], session["client"]) == ("00000000000000ab", "192.0.2.9:1025")
    assert (session["client_address"], session["client_port"]) == ("192.0.2.9", 1025)
    assert balancer.plane.asked == ("mx", A, None, 5)
    assert (await readable.get("/api/v1/sessions")).status == 404
    assert (await writable.get("/api/v1/sessions?limit=x")).status == 400
    assert (await writable.post("/api/v1/sessions/00000000000000ab/kill")).status == 200
    answer = await writable.post("/api/v1/sessions/ff/kill")
    assert (answer.status, await answer.json()) == (404, {"error": "no session ff lives"})


async def test_sessions_of_what_is_not_there(writable: Client, balancer: FakeBalancer) -> None:
    """None of it is no drained server."""
    balancer.plane.live = []
    for query, error in [
        ("listener=typo", "there is no listener typo; there are mx"),
        ("server=farm/typo", "there is no server farm/typo"),
        ("server=farm", "there is no server farm/"),
    ]:
        answer = await writable.get(f"/api/v1/sessions?{query}")
        assert (answer.status, await answer.json()) == (404, {"error": error})
    assert (await writable.get("/api/v1/sessions?listener=mx&server=farm/a")).status == 200


async def test_sessions_of_a_prefix(writable: Client, balancer: FakeBalancer) -> None:
    assert (await writable.get("/api/v1/sessions?client=2001:DB8::1")).status == 200
    assert balancer.plane.asked == (None, None, "2001:db8::1/128", 100)
    answer = await writable.get("/api/v1/sessions?client=192.0.2.7%2F24")
    assert answer.status == 400
    assert "client: " in (await answer.json())["error"]


async def test_refused_sources(writable: Client, readable: Client, balancer: FakeBalancer) -> None:
    other = structs.replace(figures.REFUSED, listener="msa")
    balancer.plane.turned_away = [other, figures.REFUSED, other]
    answer = await (await writable.get("/api/v1/refused?listener=mx")).json()
    assert answer["sources"] == [
        {
            "source": "192.0.2.7/32",
            "listener": "mx",
            "sessions": 15,
            "reasons": {"denied": 12, "source_rate": 3},
            "last_reason": "denied",
            "last": 938.75,
            "age_seconds": 61.25,
        }
    ]
    answer = await (await writable.get("/api/v1/refused?limit=2")).json()
    assert [one["listener"] for one in answer["sources"]] == ["msa", "mx"]
    assert (await writable.get("/api/v1/refused?limit=x")).status == 400
    answer = await (await writable.get("/api/v1/refused?listener=in")).json()
    assert answer == {"error": "there is no listener in; there are mx"}
    # It has clients' addresses.
    assert (await readable.get("/api/v1/refused")).status == 404


async def test_scrapes_that_are_given_up_take_no_more_than_a_thread(
    readable: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = list[int](), threading.Event()

    def encode(_: CollectorRegistry, *__: Collector) -> bytes:
        begun.append(1)
        gate.wait()
        return b"m 1\n"

    monkeypatch.setattr(exposition, "encode", encode)
    first = asyncio.create_task(readable.get("/metrics"))
    try:
        async with asyncio.timeout(30):
            while not begun:  # noqa: ASYNC110 - it is a thread that says so
                await asyncio.sleep(0.01)
        first.cancel()
        for _ in range(40):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(readable.get("/metrics"), 0.02)
        # What changes and reloads would wait for, were it by the same threads.
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 5) == 1
        last = asyncio.create_task(readable.get("/metrics"))
        await asyncio.sleep(0.05)
        assert len(begun) == 1
    finally:
        gate.set()
    assert await (await last).text() == "m 1\n"
    assert len(begun) == 2


async def test_a_bug_in_an_answer_is_told_and_counted(
    readable: Client, balancer: FakeBalancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balancer, "situation", lambda: 1 / 0)
    answer = await readable.get("/api/v1/status")
    assert answer.status == 500
    assert "ZeroDivisionError" in (await answer.json())["error"]
