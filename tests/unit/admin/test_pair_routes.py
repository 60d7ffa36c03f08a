"""What `mailweir ha` of this node and of the other one asks and tells a balancer."""

import os

import pytest

from mailweir.admin.access import Access
from mailweir.config.roles import Role
from unit.admin.conftest import Client
from unit.admin.situations import FakeBalancer


async def test_a_role_in_a_pair_is_told_and_shown(
    writable: Client, readable: Client, balancer: FakeBalancer
) -> None:
    assert (await (await writable.get("/api/v1/status")).json())["ha"] is None
    answer = await writable.post("/api/v1/ha/active?by=native")
    assert await answer.json() == {"role": "active", "by": "native", "changed": True}
    answer = await writable.post("/api/v1/ha/active")
    assert await answer.json() == {"role": "active", "by": "keepalived", "changed": False}
    shown = (await (await readable.get("/api/v1/status")).json())["ha"]
    since = {"at": 990.0, "age_seconds": 10.0}
    assert shown == {"role": "active", "by": "keepalived", **since, "alarms": 0, "slower_checks": 1}
    page = await (await readable.get("/")).text()
    assert "high availability: active since 10s (keepalived)<" in page
    assert (await writable.post("/api/v1/ha/active?by=native&alarms=3")).status == 200
    page = await (await readable.get("/")).text()
    assert "active since 10s (native), 3 alarms: see `mailweir ha status`<" in page
    assert (await writable.post("/api/v1/ha/active?alarms=many")).status == 400
    answer = await writable.post("/api/v1/ha/active?by=me")
    assert answer.status == 400
    assert "must be one of native, keepalived" in (await answer.json())["error"]
    assert (await writable.post("/api/v1/ha/master")).status == 404
    assert (await writable.get("/api/v1/ha/active")).status == 405
    assert (await readable.post("/api/v1/ha/backup")).status == 403
    assert balancer.role.told
    assert balancer.role.told.role == "active"


async def test_a_reader_tells_no_role(
    writable: Client, balancer: FakeBalancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bob(*_: object) -> str:
        return "bob"

    monkeypatch.setattr(Access, "role_at", lambda *_: Role.READ)
    monkeypatch.setattr(Access, "name_at", bob)
    answer = await writable.post("/api/v1/ha/active?by=native")
    assert answer.status == 403
    assert "you are bob and may only read" in (await answer.json())["error"]
    assert balancer.role.told is None
    assert (await writable.get("/api/v1/health")).status == 200


async def test_health_in_short(either: Client, balancer: FakeBalancer) -> None:
    found = await (await either.get("/api/v1/health")).json()
    assert found.pop("pid") == os.getpid()
    assert found == {
        **{"started": 900.0, "listening": True, "ending": False, "workers_alive": True},
        **{"sessions": 0, "flows": 0, "servers": 2, "up": 1, "pools_down": []},
        **{"paused": "", "generation": 1, "digest": "", "reasons": []},
        "words": found["words"],
    }


async def test_the_other_node_is_told_what_operators_say(
    writable: Client, balancer: FakeBalancer
) -> None:
    before = (await (await writable.get("/api/v1/health")).json())["words"]
    assert await (await writable.get("/api/v1/words")).json() == {"digest": before, "words": []}
    await writable.post("/api/v1/servers/farm/a/drain")
    await writable.post("/api/v1/deny/192.0.2.0%2F24?for=1h")
    after = (await (await writable.get("/api/v1/health")).json())["words"]
    found = await (await writable.get("/api/v1/words")).json()
    assert found["digest"] == after != before
    assert [(one["what"], one["until"] is None) for one in found["words"]] == [
        ("drain farm/a", True),
        ("deny 192.0.2.0/24", False),
    ]
