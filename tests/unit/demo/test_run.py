"""What leads the demo: who ends whom, and what it tells the user at first."""

import asyncio
import sys
from pathlib import Path

import pytest

from mailweir.demo import introduction as module
from mailweir.demo.child import Child
from mailweir.demo.farm import Farm
from mailweir.demo.introduction import introduction
from mailweir.demo.ledger import Ledger
from mailweir.demo.run import first


async def test_the_first_to_end_ends_the_others() -> None:
    forever, over = asyncio.Event(), asyncio.Event()

    async def other() -> None:
        try:
            await forever.wait()
        finally:
            over.set()

    async def fail() -> None:
        raise RuntimeError("no")

    await first(other(), asyncio.sleep(0))
    assert over.is_set()
    await first(other(), seconds=0.001)
    with pytest.raises(RuntimeError, match="no"):
        await first(other(), fail())


def test_the_introduction_names_all_there_is_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = Farm(Ledger())
    farm.end()
    child = Child(tmp_path, {server.name: server.port for server in farm.servers})
    monkeypatch.setattr(module, "_command", lambda: "mailweir")
    text = introduction(farm, child)
    for line in (
        f"swift  127.0.0.1:{farm.swift.port}",
        f"http://127.0.0.1:{child.http_port}/metrics",
        f"mailweir status --socket {child.socket}",
        *child.config.splitlines(),
    ):
        assert f"\n    {line}" in text


def test_commands_are_named_as_they_can_be_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", f"{tmp_path}/bin/python")
    assert module._command() == f"{tmp_path}/bin/python -m mailweir"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mailweir").touch(0o755)
    assert module._command() == f"{tmp_path}/bin/mailweir"
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    assert module._command() == "mailweir"
