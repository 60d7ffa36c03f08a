"""How soon a process answers and ends, whatever it has to wait for meanwhile."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

from harness.mailweir.run import Mailweir
from mailweir.admin.client import ask

# What nothing may take longer than, in seconds.
MOST = 1.0


def commands(
    path: Path, server: str, *, number: int = 60, between: Callable[[], object] = lambda: None
) -> float:
    """The 99th percentile of what commands take that drain a server, bring it back, and ask."""
    routes = (
        ("POST", f"/api/v1/servers/{server}/drain"),
        ("GET", "/api/v1/status"),
        ("POST", f"/api/v1/servers/{server}/ready"),
    )
    took = []
    for turn in range(number):
        method, route = routes[turn % len(routes)]
        between()
        begun = time.monotonic()
        answer = ask(str(path), method, route)
        took.append(time.monotonic() - begun)
        assert "error" not in answer, answer
    return sorted(took)[int(len(took) * 0.99)]


def end(balancer: Mailweir) -> float:
    """How long TERM takes without sessions."""
    begun = time.monotonic()
    balancer.process.send(signal.SIGTERM)
    assert balancer.process.wait() == 0
    return time.monotonic() - begun
