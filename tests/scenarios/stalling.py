"""Has the Python of a mailweir stand still at RTMIN, in one call that keeps the GIL.

The beginning of its command: `python -m scenarios.stalling SECONDS`, then `python -m mailweir ...`,
which is run here. Prints the moment before and after each stall, on time.monotonic's clock.
"""

import ctypes
import signal
import sys
import time

from mailweir.cli import main

# With PyDLL a call keeps the GIL.
_SLEEP = ctypes.PyDLL(None).sleep


def _stall(seconds: int) -> None:
    print(time.monotonic(), flush=True)
    _SLEEP(seconds)
    print(time.monotonic(), flush=True)


if __name__ == "__main__":
    _, length, _, _, *arguments = sys.argv
    signal.signal(signal.SIGRTMIN, lambda *_: _stall(int(length)))
    sys.argv = arguments
    main()
