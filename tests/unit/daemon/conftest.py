"""What tests of the running process share."""

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from unit.health.scripted import playing, say


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """As it was: a process that ends needs it no more."""
    yield
    gc.enable()
    gc.unfreeze()


@pytest.fixture
async def servers() -> AsyncIterator[dict[str, str]]:
    """Two servers that greet."""
    async with AsyncExitStack() as stack:
        found = {}
        for name in ("a", "b"):
            server = await stack.enter_async_context(playing(say(b"220 mx\r\n")))
            found[name] = str(server.address)
        yield found
