"""Runs the command that has to succeed before the addresses are taken from a silent peer.

Without a shell, without input, with the rights of this process and no others. Used by `agent`.
"""

import asyncio
from collections.abc import Sequence

_LIMIT = 30.0  # seconds


async def run(command: Sequence[str]) -> str:
    """What is wrong with how a command ended, or nothing."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
        )
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    try:
        async with asyncio.timeout(_LIMIT):
            code = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"{command[0]} took longer than {_LIMIT:.0f} s"
    return f"{command[0]} ended with {code}" if code else ""
