"""Commands that show: what they ask for, and how they say it."""

import json
from typing import Any

import pytest

from unit.commands import answering, run


def test_healthcheck(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def asked_with(status: dict[str, Any]) -> None:
        monkeypatch.setattr("mailweir.admin.client.ask", lambda *_, timeout: status)

    asked_with({"ready": True, "reasons": [], "pid": 1})
    assert run(capsys, "healthcheck") == (0, "ready\n", "")
    asked_with({"ready": False, "reasons": ["paused by anna", "pool b: none"], "pid": 1})
    assert run(capsys, "healthcheck") == (4, "paused by anna\npool b: none\n", "")
    code, out, err = run(capsys, "healthcheck", "--json")
    assert (code, err) == (4, "")
    assert json.loads(out) == {"ready": False, "reasons": ["paused by anna", "pool b: none"]}
    listeners = [{"name": "mx", "ready": True, "reasons": []}]
    asked_with({"ready": False, "reasons": ["pool b: none"], "pid": 1, "listeners": listeners})
    assert run(capsys, "healthcheck", "--listener", "mx") == (0, "ready\n", "")
    code, out, err = run(capsys, "healthcheck", "--listener", "in")
    assert (code, out, err) == (1, "", "mailweir: there is no listener in; there are mx\n")
    asked_with({"error": "you are uid 34"})
    assert run(capsys, "healthcheck") == (1, "", "mailweir: you are uid 34\n")


def test_sessions_that_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def ask(_: str, method: str, route: str) -> dict[str, Any]:
        asked.append((method, route))
        return {"sessions": []}

    monkeypatch.setattr("mailweir.admin.client.ask", ask)
    assert run(capsys, "sessions", "--client", "192.0.2.0/24", "--limit", "5")[0] == 0
    assert asked == [("GET", "/api/v1/sessions?client=192.0.2.0%2F24&limit=5")]


def test_who_was_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"source": "2001:db8::/64", "listener": "mx", "sessions": 15, "age_seconds": 61.25}
    row |= {"reasons": {"denied": 12, "source_rate": 3}, "last_reason": "denied", "last": 938.75}
    asked = []

    def ask(_: str, method: str, route: str) -> dict[str, Any]:
        asked.append((method, route))
        return {"sources": [row]}

    monkeypatch.setattr("mailweir.admin.client.ask", ask)
    said = """\
SOURCE         LISTENER  REFUSED  LAST       WHY
2001:db8::/64  mx             15  1m 1s ago  12 denied, 3 source_rate
"""
    assert run(capsys, "refused") == (0, said, "")
    code, out, _ = run(capsys, "refused", "--listener", "mx", "--limit", "5", "--json")
    assert (code, json.loads(out)) == (0, {"sources": [row]})
    assert asked == [
        ("GET", "/api/v1/refused?limit=20"),
        ("GET", "/api/v1/refused?listener=mx&limit=5"),
    ]
    answering(monkeypatch, {"sources": []})
    assert run(capsys, "refused") == (0, "nobody was refused in the last 24 hours\n", "")
