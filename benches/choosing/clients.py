"""Clients that begin at moments of their own, whatever becomes of those before: a program.

python clients.py HOST PORT RATE SECONDS SEED|even. Each sends one small message. It ends when all
have ended, and prints as JSON how late each began, how long each that went well waited for its
greeting and was there, in seconds, and why the others failed. Started by `farm`.
"""

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from random import Random

import uvloop

_LIMIT = 60.0  # seconds for a session
_DIALOGUE = [
    (b"220", b"EHLO client.test\r\n"),
    (b"250", b"MAIL FROM:<sender@client.test>\r\n"),
    (b"250", b"RCPT TO:<box@server.test>\r\n"),
    (b"250", b"DATA\r\n"),
    (b"354", b"Subject: hello\r\n\r\nhello\r\n.\r\n"),
    (b"250", b"QUIT\r\n"),
]


class _Result:
    def __init__(self) -> None:
        self.late: list[float] = []
        self.greeting: list[float] = []
        self.session: list[float] = []
        self.failed: Counter[str] = Counter()


async def _session(address: tuple[str, int], due: float, result: _Result) -> None:
    await asyncio.sleep(due - time.monotonic())
    began = time.monotonic()
    result.late.append(began - due)
    try:
        async with asyncio.timeout(_LIMIT):
            reader, writer = await asyncio.open_connection(*address)
            try:
                greeting = await _talk(reader, writer, began)
            finally:
                writer.close()
    except (OSError, EOFError, ValueError) as error:
        result.failed[f"{type(error).__name__}: {error}"] += 1
    else:
        result.greeting.append(greeting)
        result.session.append(time.monotonic() - began)


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, began: float) -> float:
    """The whole dialogue; the time to its first line."""
    greeting = 0.0
    for code, command in _DIALOGUE:
        await _expect(reader, code)
        greeting = greeting or time.monotonic() - began
        writer.write(command)
    await _expect(reader, b"221")
    return greeting


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    line = await reader.readuntil(b"\n")
    if not line.startswith(code):
        raise ValueError(line.decode(errors="replace").strip())


def _moments(rate: float, seconds: float, seed: int | None) -> list[float]:
    """When sessions begin: evenly, or as many senders that don't know of each other do."""
    number = round(rate * seconds)
    if seed is None:
        return [one / rate for one in range(number)]
    random = Random(seed)  # noqa: S311 - the same load in every run
    return sorted(random.uniform(0, seconds) for _ in range(number))


async def _run(address: tuple[str, int], moments: list[float]) -> None:
    result = _Result()
    start = time.monotonic() + 0.5
    async with asyncio.TaskGroup() as group:
        for moment in moments:
            group.create_task(_session(address, start + moment, result))
    print(json.dumps(vars(result)))


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    to, at, per_second, length, spacing = sys.argv[1:]
    times = _moments(float(per_second), float(length), None if spacing == "even" else int(spacing))
    uvloop.run(_run((to, int(at)), times))
