"""What is found out of the network: that it can't be for a while costs nothing else."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
import structlog

from mailweir.ha import watching
from mailweir.ha.kernel import neighbours
from mailweir.ha.machine.facts import Facts
from mailweir.ha.watching import Watching

_IP = ip_address("192.0.2.254")


@asynccontextmanager
async def run(
    kind: str, learnt: list[Facts], mend: Callable[[], dict[int, str]] = dict
) -> AsyncIterator[None]:
    made = Watching(learnt.append, gateways=lambda: [_IP], own=[_IP], mend_links=mend)
    task = asyncio.create_task(getattr(made, kind)())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()


@pytest.mark.parametrize(
    ("kind", "asks", "found", "fact"),
    [
        ("gateways", "any_answers", True, Facts(gateway_answers=True)),
        ("doubles", "double_of", "another one", Facts(double="another one")),
    ],
)
async def test_a_kernel_without_memory_ends_nothing(
    kind: str, asks: str, found: object, fact: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pause in ("_GATEWAY_EVERY", "_DOUBLE_EVERY"):
        monkeypatch.setattr(watching, pause, 0.0)
    asked, over = 0, asyncio.Event()

    async def ask(*_: object, wait: float) -> object:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise OSError(errno.ENOBUFS, "No buffer space available")
        over.set()
        return found

    monkeypatch.setattr(neighbours, asks, ask)
    learnt: list[Facts] = []
    with structlog.testing.capture_logs() as said:
        async with run(kind, learnt):
            await over.wait()
            await asyncio.sleep(0)
    assert learnt[0] == fact
    assert [one["log_level"] for one in said] == ["warning"]


async def test_links_are_told_where_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_LINKS_EVERY", 0.0)
    answers = iter([{}, {1: "gone"}, {1: "gone"}, {}])
    over = asyncio.Event()

    def mend() -> dict[int, str]:
        found = next(answers, None)
        if found is None:
            over.set()
        return found or {}

    learnt: list[Facts] = []
    async with run("links", learnt, mend):
        await over.wait()
    assert learnt == [Facts(absent_links={1: "gone"}), Facts(absent_links={})]
