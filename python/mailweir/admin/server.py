"""Binds the admin socket and the read-only HTTP address. Started and closed by the daemon."""

import os
import socket
import stat
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry

from mailweir.admin.balancer import Balancer
from mailweir.admin.routes import read_only, read_write
from mailweir.config.model import Admin
from mailweir.errors import StartError
from mailweir.journal import Journal

# Owner and group; others may not even ask.
_SOCKET_MODE = 0o660
_CLOSE_TIMEOUT = 1.0  # seconds for answers under way when the process ends


class AdminServer:
    """The two sites while they are open."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin
        self._runners: list[web.AppRunner] = []

    async def open(
        self,
        balancer: Balancer,
        registry: CollectorRegistry,
        journal: Journal,
        *,
        hostname: str,
    ) -> None:
        """Bind and answer. Raises StartError with what to do."""
        sock = bind_unix(self._admin.socket)
        await self._serve(read_write(balancer, registry, journal), sock)
        if self._admin.http is not None:
            http = self._admin.http
            family = socket.AF_INET6 if http.ip.version == 6 else socket.AF_INET
            try:
                tcp = socket.create_server((str(http.ip), http.port), family=family)
            except OSError as error:
                raise StartError(
                    f"admin.http: {http} can't be bound: {error.strerror}"
                    " (choose another address, or `http: off`)"
                ) from None
            await self._serve(read_only(balancer, registry, hostname=hostname), tcp)

    async def close(self) -> None:
        """Stop answering and take the socket away."""
        for runner in self._runners:
            await runner.cleanup()
        if self._runners:
            self._admin.socket.unlink(missing_ok=True)
        self._runners.clear()

    async def _serve(self, app: web.Application, sock: socket.socket) -> None:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_TIMEOUT)
        self._runners.append(runner)
        await runner.setup()
        await web.SockSite(runner, sock).start()


def bind_unix(path: Path) -> socket.socket:
    """A listening UNIX socket at `path`, mode 0660. Raises StartError.

    What is left of a process that died is replaced; one that answers is not.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    except OSError as error:
        raise StartError(
            f"admin.socket: {path.parent} can't be made: {error.strerror}; make it with this"
            " user as its owner, or choose another `admin.socket`"
        ) from None
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Set for the bind itself: a chmod afterwards would leave a moment open to all.
    before = os.umask(0o777 & ~_SOCKET_MODE)
    try:
        _remove_stale(path)
        sock.bind(str(path))
        sock.listen()
    except OSError as error:
        sock.close()
        raise StartError(f"admin.socket: {path} can't be bound: {error.strerror}") from None
    except StartError:
        sock.close()
        raise
    finally:
        os.umask(before)
    return sock


def _remove_stale(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise StartError(f"admin.socket: {path} is there and isn't a socket; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise StartError(f"admin.socket: another process answers at {path}; is mailweir running?")
