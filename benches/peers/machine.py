"""The heading of the report: on what, with what and how it was measured."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

_VERSION_COMMANDS = {
    "haproxy": ["haproxy", "-v"],
    "keepalived": ["keepalived", "--version"],
    "nginx": ["nginx", "-v"],
}


def heading(
    peers: list[str], mailweir: str, rounds: int, workers: int, pinned: bool = False
) -> dict[str, str]:
    """What a reader must know to trust the figures, or to repeat them."""
    where = "; the peers on one core, source and sink on another" if pinned else ""
    commands = {**_VERSION_COMMANDS, "mailweir": [mailweir, "--version"]}
    versions = [_first_line(commands[peer]) for peer in peers if peer in commands]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} x {_cpu_model()}, Linux {platform.release()}",
        "programs": "; ".join(versions) or "none",
        "commit": _commit(),
        "method": (
            f"{rounds} rounds over loopback, the peers in turn within each round, "
            f"{workers} workers each{where}; medians; ratios are medians of the rounds' ratios; "
            "CPU is the balancer's run time in all its processes and threads, "
            "`machine` is all CPU time of the machine, source and sink included"
        ),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def _first_line(argv: list[str]) -> str:
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return (done.stdout.splitlines() or ["unknown"])[0].strip()


def _commit() -> str:
    where = Path(__file__).parent
    git = ["git", "-C", str(where)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if head.returncode != 0:
        return "none"
    status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    return head.stdout.strip() + (" with changes" if status.stdout else "")
