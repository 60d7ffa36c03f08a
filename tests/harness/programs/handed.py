"""Begins a command as systemd does, with sockets from descriptor 3 on: `handed.py PATH COMMAND...`

They come from the one who listens at PATH: a number of a byte, with that many descriptors.
"""

import os
import socket
import sys

_FIRST, _MOST = 3, 253

with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
    asked.connect(sys.argv[1])
    number, found, _, _ = socket.recv_fds(asked, 1, _MOST)
assert number[0] == len(found)
# Out of the way of those that aren't in their places yet.
high = [os.dup2(one, 1000 + at) for at, one in enumerate(found)]
for at, one in enumerate(high):
    os.dup2(one, _FIRST + at, inheritable=True)
    os.close(one)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(found))}
os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
