"""Who may do what at the admin socket, now. Owned by `server`; asked for each request.

Roles are numbers (`config.roles`), and so is what the kernel says of the other end: to
decide takes no look at users' names. A role that is taken away is so for connections that
are open as well.
"""

import os
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from mailweir.admin.client import SUDO_HEADER
from mailweir.admin.credentials import Names, caller_at, login_at, uid_at
from mailweir.admin.place import CLOSED
from mailweir.config.roles import Ids, Role, Roles
from mailweir.foreign import shown
from mailweir.operator import Speaker

# Everybody; who that is decides.
OPEN = 0o666
# Characters of a name that a command says.
_LONGEST_NAME = 64


class Access:
    """The roles that count."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self.mode = OPEN if roles.given else CLOSED  # what the socket's permissions have to be
        # Apart, so that a crowd without a role doesn't take the look-ups of who has one.
        self._names = Names()
        self._names_of_strangers = Names()

    async def take(
        self, roles: Roles, change_mode: Callable[[int], Awaitable[os.stat_result]]
    ) -> None:
        """Let these count from here on. `change_mode` gives the socket its permissions and returns
        what it has otherwise; what that raises is raised here, and nobody may do more then than he
        may by the roles.
        """
        self._names.forget()
        self._names_of_strangers.forget()
        self.mode = OPEN if roles.given else CLOSED
        if roles.given:
            self._roles = roles
            await change_mode(OPEN)
        elif self._roles.given:
            # Its permissions decide again who may open it; but others have it open already,
            # or are about to, so who asks has to be its owner or of its group.
            self._roles = _of(os.geteuid(), os.getegid())
            found = await change_mode(CLOSED)
            self._roles = _of(found.st_uid, found.st_gid)

    def role_at(self, sock: socket.socket) -> Role:
        """What the other end may do."""
        if not self._roles.given:
            return Role.OPERATE
        caller = caller_at(sock)
        return self._roles.of(caller.uid, caller.gids)

    async def name_at(self, request: web.Request) -> str:
        """Who asks."""
        sock = request.get_extra_info("socket")
        is_stranger = self.role_at(sock) is Role.NONE
        names = self._names_of_strangers if is_stranger else self._names
        return await names.of(uid_at(sock))

    async def speaker_at(self, request: web.Request) -> Speaker:
        """Who asks. Of root, and of the user that mailweir runs as, also who that is believed to
        be: several people may be these by sudo. No right comes of that.
        """
        name = await self.name_at(request)
        sock = request.get_extra_info("socket")
        uid = uid_at(sock)
        if uid not in (0, os.geteuid()):
            return Speaker(name)
        login = login_at(sock)
        if login is None:
            sudo = shown(request.headers.get(SUDO_HEADER, ""), _LONGEST_NAME)
            return Speaker(name, behind=f"sudo: {sudo}" if sudo not in ("", name) else "")
        if login == uid:
            return Speaker(name)
        return Speaker(name, behind=f"login: {await self._names.of(login)}")


def _of(uid: int, gid: int) -> Roles:
    return Roles(True, Ids(frozenset({uid}), frozenset({gid})))
