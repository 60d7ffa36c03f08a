"""Sockets at addresses that come later: after a power cut everything begins at once."""

import socket

# linux/in.h, linux/in6.h
_FREEBIND, _FREEBIND6 = 15, 78


def may_come_later(bound: socket.socket) -> None:
    """Let it be bound to an address that this machine doesn't have yet, or not yet for use."""
    if bound.family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, _FREEBIND6, 1)
    else:
        bound.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
