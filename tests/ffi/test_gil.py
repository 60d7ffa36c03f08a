"""A Python that stands still changes no forwarding: workers never take the GIL."""

import ctypes
import subprocess
import sys
import time
from pathlib import Path

import mailweir
from ffi import plane_specs as given

TESTS = Path(__file__).parents[1]
PACKAGE = Path(mailweir.__path__[0]).parent
SESSIONS = 50
STALL = 2.0
# A process of its own, since every thread of this one stands still in the stall.
CLIENT = """
import sys, time
from ffi.plane_specs import farm, talk
with farm() as address:
    print(address, flush=True)
    port = int(sys.stdin.readline())
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[1])):
        assert talk(("127.0.0.1", port)).endswith(b"221 bye\\r\\n")
    print(time.monotonic(), flush=True)
"""


def test_sessions_go_on_while_python_stands_still() -> None:
    argv = [sys.executable, "-c", CLIENT, str(SESSIONS)]
    libc = ctypes.PyDLL(None)  # keeps the GIL in its calls
    with (
        given.running() as plane,
        subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": f"{TESTS}:{PACKAGE}"},
        ) as client,
    ):
        assert client.stdin
        assert client.stdout
        address = client.stdout.readline().strip()
        plane.apply(spec=given.spec(pools=[given.pool(given.server(address=address))]))
        client.stdin.write(f"{given.address(plane)[1]}\n")
        client.stdin.flush()
        assert client.stdout.readline() == "ready\n"
        client.stdin.write("go\n")
        client.stdin.flush()
        libc.usleep(int(STALL * 1e6))
        stalled_until = time.monotonic()
        assert float(client.stdout.readline()) < stalled_until
    assert client.returncode == 0
