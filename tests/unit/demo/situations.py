"""Answers of the balancer and views made of them, for the tests of what is shown."""

from typing import Any

from mailweir.demo.watch import View, rows


def server(name: str = "flaky", *, state: str = "up", sessions: int = 5, failed: int = 0) -> Any:
    """A server as the admin route shows it; the last check agrees with its state."""
    ok = state == "up"
    return {
        "pool": "farm",
        "name": name,
        "address": "127.0.0.1:2500",
        "state": state,
        "weight": 100,
        "active": 1,
        "sessions": sessions,
        "connect_failures": failed,
        "check": {
            "kind": "ehlo",
            "ok": ok,
            "step": "" if ok else "connect",
            "detail": "" if ok else "Connection refused",
            "seconds": 0.0123,
            "age_seconds": 0.4,
        },
    }


def view(*servers: Any, seconds: float = 3.2) -> View:
    """A view of these servers; the farm has 7 mails on `flaky` and knows no other."""
    return View(
        seconds=seconds,
        rows=rows(servers or [server()], {"flaky": 7}),
        sent=30,
        delivered=28,
        failed=1,
        lost=0,
        duplicates=0,
        sessions_per_second=9.6,
    )
