"""The fence command: how it ended, in words."""

import pytest

from mailweir.ha import fence


async def test_it_succeeds() -> None:
    assert await fence.run(["/bin/true"]) == ""


async def test_it_fails() -> None:
    assert await fence.run(["/bin/sh", "-c", "exit 3"]) == "/bin/sh ended with 3"


async def test_it_is_not_there() -> None:
    assert await fence.run(["/none"]) == "/none: No such file or directory"


async def test_it_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "_LIMIT", 0.05)
    assert await fence.run(["/bin/sleep", "60"]) == "/bin/sleep took longer than 0 s"
