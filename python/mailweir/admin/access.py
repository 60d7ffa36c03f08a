"""Who may do what at the admin socket, now. Owned by `server`; asked for each request.

Roles are numbers (`config.roles`), and so is what the kernel says of the other end: to
decide takes no look at users' names. A role that is taken away is so for connections that
are open as well.
"""

import socket
from pathlib import Path

from aiohttp import web

from mailweir.admin.peer import Names, peer_at, uid_at
from mailweir.config.roles import Ids, Role, Roles

# Owner and group; others may not even ask.
CLOSED = 0o660
# Everybody; who that is decides.
OPEN = 0o666


class Access:
    """The roles that count."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self._names = Names()

    @property
    def mode(self) -> int:
        """What the socket's permissions have to be."""
        return OPEN if self._roles.given else CLOSED

    def take(self, roles: Roles, path: Path) -> None:
        """Let these count from here on, at the socket at `path`. Raises OSError where its
        permissions can't be changed; nobody may do more then than he may by the roles.
        """
        self._names.forget()
        if roles.given:
            self._roles = roles
            path.chmod(OPEN)
        elif self._roles.given:
            # Its permissions decide again who may open it; but others have it open already,
            # or are about to, so who asks has to be its owner or of its group.
            found = path.stat()
            self._roles = Roles(True, Ids(frozenset({found.st_uid}), frozenset({found.st_gid})))
            path.chmod(CLOSED)

    def role_at(self, sock: socket.socket) -> Role:
        """What the other end may do."""
        if not self._roles.given:
            return Role.OPERATE
        peer = peer_at(sock)
        return self._roles.of(peer.uid, peer.gids)

    async def name_at(self, request: web.Request) -> str:
        """Who asks."""
        return await self._names.of(uid_at(request.get_extra_info("socket")))
