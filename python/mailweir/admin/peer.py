"""Who is at the other end of the admin socket, as the kernel knows it (unix(7), SO_PEERCRED)."""

import pwd
import socket
import struct

from aiohttp import web

_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid


def name_of(request: web.Request) -> str:
    """The user's name, or `uid 1000` where that has none."""
    asked_at = request.get_extra_info("socket")
    data = asked_at.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
