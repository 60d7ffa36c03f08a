"""Networks with names, on this machine: made, entered, gone afterwards. Needs root and iproute2.

`row`, `pair` and `segment` say how theirs are connected.
"""

import ctypes
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TypeVar

from harness.needs import missing, program
from harness.process import run
from harness.waiting import LIMIT

_CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)

Value = TypeVar("Value")


class NamedNetworks:
    """Networks by short names; their full ones have the process in them that made them."""

    def __init__(self, prefix: str) -> None:
        self._prefix = f"{prefix}-{os.getpid()}-{next(_numbers)}"

    def name(self, network: str) -> str:
        """As `ip netns` knows it."""
        return f"{self._prefix}-{network}"

    def before(self, network: str) -> list[str]:
        """The beginning of a command that is run in a network."""
        return [program("nsenter"), f"--net=/run/netns/{self.name(network)}"]

    def run(self, network: str, *command: str, limit: float = LIMIT) -> str:
        """What a program says that is run in a network."""
        done = run([*self.before(network), *command], limit=limit)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def set_up(self, network: str, *commands: str) -> None:
        """Have one process do all these commands of `ip` in a network, in order."""
        told = "\n".join(commands)
        done = run([*self.before(network), program("ip"), "-batch", "-"], told=told)
        assert done.returncode == 0, f"{told}\n{done.stderr}"

    @contextmanager
    def kernel_setting(self, network: str, name: str, value: str) -> Iterator[None]:
        """A setting of a network's kernel, as it is in the block."""
        before = self.run(network, "sysctl", "-n", name).strip()
        self.run(network, "sysctl", f"{name}={value}")
        yield
        self.run(network, "sysctl", f"{name}={before}")

    def inside(self, network: str, task: Callable[[], Value]) -> Future[Value]:
        """What a task returns that a thread runs in a network."""
        future: Future[Value] = Future()

        def work() -> None:
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                with Path(f"/run/netns/{self.name(network)}").open() as other:
                    if libc.setns(other.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                future.set_result(task())
            except BaseException as error:
                future.set_exception(error)

        Thread(target=work, daemon=True).start()
        return future

    @contextmanager
    def made(self, networks: Sequence[str]) -> Iterator[None]:
        """They are there, with nothing but loopback, until the block ends."""
        if os.geteuid() != 0:
            missing("needs root, to make networks")
        names = [self.name(network) for network in networks]
        ip = [program("ip"), "-force", "-batch", "-"]  # to the end, whatever fails
        try:
            done = run(ip, told="".join(f"netns add {name}\n" for name in names))
            if done.returncode:
                missing(f"needs networks of its own: {done.stderr}")
            for network in networks:
                self.set_up(network, "link set lo up")
            yield
        finally:
            run(ip, told="".join(f"netns delete {name}\n" for name in names))
