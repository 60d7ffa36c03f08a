"""What two processes say to each other."""

import asyncio
import socket

import pytest

from mailweir.spec import Elsewhere
from mailweir.upgrade.channel import Channel, End, Go, Message, Prepared, Released, Remaining

_ELSEWHERE = Elsewhere((("mx", 2),), (("farm", "a", 2),))


@pytest.mark.parametrize(
    "message",
    [Prepared("1.2"), Go("{}" * 100_000), Remaining(2, _ELSEWHERE), End(now=True), Released()],
)
async def test_a_message_arrives_as_it_was_said(message: Message) -> None:
    here, there = (Channel(one) for one in socket.socketpair())
    await asyncio.gather(here.open(), there.open())
    here.say(message)
    assert await there.hear() == message
    here.close()
    assert await there.hear() is None
    there.say(Released())  # nobody listens
    there.close()


async def test_what_another_version_says_is_passed_over() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    await channel.open()
    with theirs:
        theirs.sendall(b'{"type":"news"}\nrubbish\n{"type":"go","overrides":"x","more":[1]}\n')
        assert await channel.hear() == Go("x")
    channel.close()
