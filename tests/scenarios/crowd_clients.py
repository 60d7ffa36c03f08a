"""Clients that are greeted and say nothing, as a program of its own.

python crowd_clients.py SOURCE HOST PORT NUMBER USED; it prints `greeted` once all are. At USR1 so
many of them are used for a mail each, and it prints `mailed`. All others stay to its end.
"""

import resource
import signal
import socket
import sys

_LIMIT = 60.0  # seconds
_DIALOGUE = [
    (b"EHLO client.test\r\n", b"250"),
    (b"MAIL FROM:<sender@client.test>\r\n", b"250"),
    (b"RCPT TO:<box@server.test>\r\n", b"250"),
    (b"DATA\r\n", b"354"),
    (b"hello\r\n.\r\n", b"250"),
    (b"QUIT\r\n", b"221"),
]


def _expect(client: socket.socket, code: bytes) -> None:
    # Replies are short enough for a single segment.
    reply = client.recv(4096)
    assert reply.startswith(code), reply


def _mail(client: socket.socket) -> None:
    for command, code in _DIALOGUE:
        client.sendall(command)
        _expect(client, code)
    assert client.recv(1) == b""
    client.close()


def _run(source: str, address: tuple[str, int], number: int, used: int) -> None:
    clients = []
    for _ in range(number):
        client = socket.create_connection(address, _LIMIT, (source, 0))
        _expect(client, b"220")
        clients.append(client)
    print("greeted", flush=True)
    signal.sigwait({signal.SIGUSR1})
    for client in clients[:: number // used][:used]:
        _mail(client)
    print("mailed", flush=True)
    signal.sigwait({signal.SIGTERM})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ours, host, port, *amount = sys.argv[1:]
    _run(ours, (host, int(port)), *map(int, amount))
