"""Clients that connect at a steady pace and wait to be greeted, as a program.

python outage_clients.py HOST PORT RATE LIMIT. A line for each attempt once it is over: when it
began (monotonic clock, seconds), how long it took, and what came of it: `ok` or a word for why not.
An attempt begins when it is its turn, whatever became of earlier ones, and has LIMIT seconds: less
than TCP takes to send a SYN again, so it sees the address as it is at its moment. TERM ends it.
"""

import asyncio
import errno
import socket
import sys
import time

_WORDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
}


async def _attempt(address: tuple[str, int], limit: float) -> None:
    began = time.monotonic()
    outcome = await _outcome(address, limit)
    print(f"{began:.6f} {time.monotonic() - began:.6f} {outcome}", flush=True)


async def _outcome(address: tuple[str, int], limit: float) -> str:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        try:
            async with asyncio.timeout(limit):
                await loop.sock_connect(connection, address)
                # All of it, since a close before that would be a reset.
                greeted = await loop.sock_recv(connection, 4096)
        except TimeoutError:
            return "timeout"
        except OSError as error:
            return _WORDS.get(error.errno or 0, errno.errorcode.get(error.errno or 0, "error"))
        return "ok" if greeted else "closed"


async def _run(address: tuple[str, int], rate: float, limit: float) -> None:
    turn = asyncio.get_running_loop().time()
    attempts: set[asyncio.Task[None]] = set()
    while True:
        task = asyncio.create_task(_attempt(address, limit))
        attempts.add(task)
        task.add_done_callback(attempts.discard)
        turn += 1 / rate
        await asyncio.sleep(turn - asyncio.get_running_loop().time())


if __name__ == "__main__":
    host, port, *pace = sys.argv[1:]
    asyncio.run(_run((host, int(port)), *map(float, pace)))
