"""Farms of any size on one machine: the configuration, and one process that is all servers.

Used by `suite` and `large`.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.mailweir.run import Tree

# Every address of 127.0.0.0/8 is this machine's: each server has one of its own.
_SERVERS = """\
import asyncio

async def serve(reader, writer):
    writer.write(b"220 farm.test ESMTP\\r\\n")
    while line := await reader.readline():
        if line.upper().startswith(b"QUIT"):
            writer.write(b"221 bye\\r\\n")
            break
        writer.write(b"250 farm.test\\r\\n")
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@dataclass(frozen=True)
class Size:
    """How large a farm is."""

    pools: int
    servers: int  # of each pool

    @property
    def name(self) -> str:
        """For people, and for -k."""
        return f"{self.pools * self.servers}-servers"


SIZES = (Size(1, 3), Size(10, 100), Size(100, 100))


@contextmanager
def servers() -> Iterator[int]:
    """A process that is every server, at one port of all addresses; the port."""
    process = subprocess.Popen([sys.executable, "-c", _SERVERS], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate()


def farm(folder: Path, size: Size, port: int, *, weight: int = 100, more: int = 0) -> Tree:
    """A configuration of so many servers. `weight` is the first one's of each pool, which has
    `more` servers than its size says.
    """
    pools = {
        f"pool{pool}": {
            # One check at the start of each server, and then none that disturbs.
            "check": {"every": "1h"},
            "servers": {
                f"server{number}": {
                    "address": f"127.{pool + 1}.{number // 250}.{number % 250 + 1}:{port}",
                    "proxy": "off",
                    "weight": weight if number == 0 else 100,
                }
                for number in range(size.servers + more)
            },
        }
        for pool in range(size.pools)
    }
    listeners = {
        f"listener{pool}": {"bind": ["127.0.0.1:0"], "pool": f"pool{pool}"}
        for pool in range(size.pools)
    }
    return {
        "workers": 2,
        "forwarding": "relay",
        "admin": {"socket": str(folder / "admin.sock"), "http": "off"},
        "state_dir": str(folder / "state"),
        "log": {"sessions": "off"},
        "listeners": listeners,
        "pools": pools,
    }
