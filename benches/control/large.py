"""What a large farm costs the control plane of a running mailweir, as a Markdown table.

python benches/control/large.py [--pools 100] [--servers 100]
"""

import argparse
import http.client
import re
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benches.control.farms import Size, farm, servers  # noqa: E402

from harness.mailweir.run import COMMAND, Mailweir, mailweir  # noqa: E402
from harness.process import run  # noqa: E402
from harness.waiting import until  # noqa: E402

_LIMIT = 120.0  # seconds for anything
_ROUNDS = 5


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pools", type=int, default=100)
    parser.add_argument("--servers", type=int, default=100, help="of each pool")
    options = parser.parse_args()
    size = Size(options.pools, options.servers)
    with tempfile.TemporaryDirectory() as name, servers() as port:
        folder = Path(name)
        began = time.monotonic()
        with mailweir(folder, farm(folder, size, port)) as balancer:
            rows = [("start until it listens", _seconds(time.monotonic() - began))]
            until(lambda: _all_up(balancer, size), "every server to be up", limit=_LIMIT)
            rows += [("start until every server is up", _seconds(time.monotonic() - began))]
            rows += _rows(balancer, folder, size, port)
    print(f"{size.pools} pools of {size.servers} servers each; medians of {_ROUNDS}:\n")
    print("| what | |\n|---|---:|")
    for what, figure in rows:
        print(f"| {what} | {figure} |")


def _rows(balancer: Mailweir, folder: Path, size: Size, port: int) -> list[tuple[str, str]]:
    idle = _peak(balancer)
    rows = [
        ("`mailweir check`", _timed(lambda: _command("check", "-q", "-c", str(balancer.file)))),
        ("`mailweir status`", _timed(lambda: _told(balancer, "status"))),
        ("`mailweir servers`", _timed(lambda: _told(balancer, "servers"))),
        ("`mailweir reload`, nothing changed", _timed(lambda: _told(balancer, "reload"))),
        ("`mailweir config diff`", _timed(lambda: _told(balancer, "config", "diff"))),
    ]
    weights = iter(range(1, 100))

    def reload_with_weights() -> None:
        balancer.write(farm(folder, size, port, weight=next(weights)))
        _told(balancer, "reload")

    def reload_with_servers() -> None:
        balancer.write(farm(folder, size, port, more=next(weights)))
        _told(balancer, "reload")

    written = _median(lambda: balancer.write(farm(folder, size, port)))
    rows += [
        ("the same, a weight changed in each pool", _timed(reload_with_weights, written)),
        ("the same, a server more in each pool", _timed(reload_with_servers, written)),
        ("`/metrics`", f"{_timed(lambda: _scrape(folder))}, {len(_scrape(folder)) >> 10} KiB"),
        ("peak memory after the start", f"{idle} MiB"),
        ("peak memory at the end", f"{_peak(balancer)} MiB"),
    ]
    return rows


def _median(do: Callable[[], object]) -> float:
    took = []
    for _ in range(_ROUNDS):
        began = time.monotonic()
        do()
        took.append(time.monotonic() - began)
    return statistics.median(took)


def _timed(do: Callable[[], object], besides: float = 0.0) -> str:
    """How long it takes, without what the measuring does `besides`."""
    return _seconds(_median(do) - besides)


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"


def _command(*arguments: str) -> None:
    done = run([*COMMAND, *arguments], limit=_LIMIT)
    assert done.returncode == 0, done.stderr


def _told(balancer: Mailweir, *arguments: str) -> None:
    done = balancer.command(*arguments)
    assert done.returncode == 0, done.stderr


def _all_up(balancer: Mailweir, size: Size) -> bool:
    up: int = sum(pool["up"] for pool in balancer.status()["pools"])
    return up == size.pools * size.servers


def _scrape(folder: Path) -> bytes:
    connection = http.client.HTTPConnection("localhost", timeout=_LIMIT)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.connect(str(folder / "admin.sock"))
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
    finally:
        connection.close()


def _peak(balancer: Mailweir) -> int:
    """The most memory it has had, in MiB."""
    status = Path(f"/proc/{balancer.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) // 1024


if __name__ == "__main__":
    main()
