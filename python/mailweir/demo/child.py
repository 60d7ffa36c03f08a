"""The balancer: its configuration file, and `mailweir run` as a child process."""

import asyncio
import json
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mailweir.admin.client import ask
from mailweir.demo.farm import HOST
from mailweir.errors import MailweirError, StartError

# Seconds: to be ready, to answer, to end after TERM, and to notice that it has ended.
_START, _ANSWER, _END, _NOTICE = 20.0, 5.0, 5.0, 1.0
_COMMAND = (sys.executable, "-m", "mailweir")
_TAIL = 30  # lines of its log that are shown where it failed

_CONFIG = """\
workers: 2
admin: {{socket: {socket}, http: "{host}:{http}"}}
state_dir: {folder}
drain: {{deadline: 3s}}
listeners:
  mx: {{bind: ["{host}:{smtp}"], pool: farm}}
pools:
  farm:
    servers:
{servers}
    check: {{every: 1s, fast: 500ms, fall: 2, rise: 2}}
"""


class Child:
    """`mailweir run` with a configuration, a socket and a log in `folder`."""

    def __init__(
        self, folder: Path, servers: Mapping[str, int], *, command: Sequence[str] = _COMMAND
    ) -> None:
        self._command = (*command, "run", "-c", str(folder / "mailweir.yaml"))
        self.socket = folder / "admin.sock"
        self.log = folder / "mailweir.log"
        self.file = folder / "mailweir.yaml"
        self.smtp_port, self.http_port = _free_ports(2)
        self.config = _CONFIG.format(
            # A temporary folder may have any name; JSON's quotes are YAML's as well.
            socket=json.dumps(str(self.socket)),
            folder=json.dumps(str(folder)),
            host=HOST,
            smtp=self.smtp_port,
            http=self.http_port,
            servers="\n".join(f"      {name}: {HOST}:{port}" for name, port in servers.items()),
        )
        self._process: Process | None = None

    async def start(self) -> None:
        """Start the child. Whether it came up, `ready` says."""
        self.file.write_text(self.config)
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C goes to the whole group of the terminal; when the balancer ends is
                # up to us, after the senders.
                start_new_session=True,
            )

    async def ready(self) -> None:
        """Wait until it takes sessions. Raises StartError with what it said."""
        try:
            async with asyncio.timeout(_START):
                # The child has no way to call us.
                while not await self._is_ready():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise StartError(
                f"the balancer isn't ready after {_START:.0f} s{self._said()}"
            ) from None

    async def servers(self) -> list[dict[str, Any]]:
        """Its servers as `mailweir servers --json` shows them. Raises MailweirError."""
        try:
            answer = await self._ask("/api/v1/servers")
        except MailweirError as error:
            await self._fail_if_ending()
            raise MailweirError(str(error)) from None
        servers: list[dict[str, Any]] = answer["servers"]
        return servers

    async def stop(self) -> None:
        """End the child: politely, then not."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_END):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _is_ready(self) -> bool:
        self._fail_if_ended()
        try:
            return bool((await self._ask("/api/v1/status"))["ready"])
        except MailweirError:
            return False

    async def _ask(self, route: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_ANSWER):
                return await asyncio.to_thread(ask, str(self.socket), "GET", route)
        except TimeoutError:
            raise MailweirError(f"the balancer doesn't answer within {_ANSWER:.0f} s") from None

    async def _fail_if_ending(self) -> None:
        """That it ended can be known a moment later than that it doesn't answer."""
        try:
            async with asyncio.timeout(_NOTICE):
                if self._process is not None:
                    await self._process.wait()
        except TimeoutError:
            return
        self._fail_if_ended()

    def _fail_if_ended(self) -> None:
        if self._process is not None and self._process.returncode is not None:
            raise StartError(
                f"the balancer ended with exit code {self._process.returncode}{self._said()}"
            )

    def _said(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL:]
        return "\n".join(["; it said:", *lines] if lines else ["; it said nothing"])


def _free_ports(count: int) -> list[int]:
    """Ports that nobody uses. All are held until the last is found, so that they differ."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
