"""Names of those who ask, and what the log says of refusals: neither grows with who asks."""

import asyncio
import pwd
from threading import Event

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from mailweir.admin import credentials
from mailweir.admin.credentials import Names
from mailweir.admin.exposition import encode
from mailweir.admin.refusals import Refusals, Why
from unit.admin.scraped import samples


async def test_the_name_service_is_asked_once_for_each_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    lookup = pwd.getpwuid

    def noting(uid: int) -> pwd.struct_passwd:
        asked.append(uid)
        return lookup(uid)

    monkeypatch.setattr(pwd, "getpwuid", noting)
    names = Names()
    assert [await names.of(uid) for uid in (0, 0, 1, 0, 4242424242)] == [
        *("root", "root", "daemon", "root"),
        "uid 4242424242",
    ]
    assert asked == [0, 1, 4242424242]
    names.forget()
    assert await names.of(0) == "root"
    assert asked[3:] == [0]


async def test_a_name_service_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, begun, asked = Event(), Event(), []

    def hang(uid: int) -> None:
        asked.append(uid)
        begun.set()
        answers.wait()
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", hang)
    monkeypatch.setattr(credentials, "_PATIENCE", 0.01)
    names = Names()
    try:
        # However often one user asks, that is one thread.
        assert {await names.of(7) for _ in range(20)} == {"uid 7"}
        assert await asyncio.to_thread(begun.wait, 10)
        assert asked == [7]
    finally:
        answers.set()
    assert await names.of(7) == "uid 7"


def test_refusals_are_counted_and_said_once() -> None:
    registry = CollectorRegistry()
    refusals = Refusals(registry)
    with capture_logs() as said:
        for _ in range(3):
            refusals.note(Why.NO_ROLE, "bob")
        refusals.note(Why.HOST, "bob")
        for number in range(1000):
            refusals.note(Why.READER, f"uid {number}")
    assert [line["who"] for line in said[:3]] == ["bob", "bob", "uid 0"]
    assert len(said) == 256
    name = "mailweir_admin_refusals_total"
    found = samples(encode(registry))
    assert found[f"{name}{{reason=no_role}}"] == 3
    assert found[f"{name}{{reason=reader}}"] == 1000
    assert found[f"{name}{{reason=connections}}"] == 0
    refusals.forget()
    with capture_logs() as said:
        refusals.note(Why.NO_ROLE, "bob")
    assert [line["reason"] for line in said] == ["no_role"]
