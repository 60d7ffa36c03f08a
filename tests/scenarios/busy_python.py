"""A Python with a data plane in it that is busy when it is told to: nothing else of it runs then.

python -m scenarios.busy_python ADDRESS SECONDS; prints where it listens, for the server there. At
USR1 it is in a single call for about SECONDS, without a moment in which another thread could have
the GIL. It prints when that began, then when it ended and how often another thread ran meanwhile.
"""

import signal
import sys
import threading
import time

from ffi import plane_specs as given

_TRIAL = 2_000_000  # numbers
_STEP = 0.01  # seconds


class Other(threading.Thread):
    """A thread that wants to run a hundred times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ran: list[float] = []

    def run(self) -> None:
        """Until the process ends."""
        while True:
            self._ran.append(time.monotonic())
            time.sleep(_STEP)

    def ran(self, began: float, ended: float) -> int:
        """How often it did between two moments."""
        return sum(began < moment < ended for moment in self._ran)


def _add(numbers: int) -> float:
    """A single call of C, which keeps the GIL; how long it took."""
    began = time.monotonic()
    sum(range(numbers))
    return time.monotonic() - began


def _main(address: str, seconds: float) -> None:
    # Before there are other threads, which inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    numbers = int(_TRIAL * seconds / min(_add(_TRIAL) for _ in range(3)))
    other = Other()
    with given.running() as plane:
        plane.apply(spec=given.spec(pools=[given.pool(given.server(address=address))]))
        other.start()
        print("{}:{}".format(*given.address(plane)), flush=True)
        while signal.sigwait({signal.SIGUSR1, signal.SIGTERM}) == signal.SIGUSR1:
            began = time.monotonic()
            print(began, flush=True)
            _add(numbers)
            ended = time.monotonic()
            print(ended, other.ran(began, ended), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], float(sys.argv[2]))
