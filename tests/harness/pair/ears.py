"""Sockets that are listened at from a thread, until that is over."""

from collections.abc import Iterable, Iterator
from selectors import EVENT_READ, DefaultSelector
from socket import socket
from threading import Event

_LOOK = 0.1  # seconds between two looks whether it is over


def heard(ears: Iterable[socket], over: Event) -> Iterator[socket]:
    """Each socket that has something to read, whenever it has."""
    with DefaultSelector() as selector:
        for ear in ears:
            selector.register(ear, EVENT_READ)
        while not over.is_set():
            for key, _ in selector.select(_LOOK):
                assert isinstance(key.fileobj, socket)
                yield key.fileobj
