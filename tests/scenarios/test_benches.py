"""Benchmarks run: what they write for mailweir is a configuration that it takes."""

import re
import sys
from pathlib import Path

import pytest

from harness.networks.row import bpf_files
from harness.process import run
from harness.waiting import LIMIT

_ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.needs("iproute2", "nftables", "haproxy", "clang")


def test_the_kernel_path_beside_others(smtpload_binary: Path) -> None:
    bpf_files()
    what = ("--rounds=1", "--part=1000", "--peers=routed,haproxy,mailweir,mailweir-kernel")
    bench = (_ROOT / "benches/peers/routed.py", f"--smtpload={smtpload_binary}", *what)
    done = run([sys.executable, *bench], limit=6 * LIMIT)
    assert done.returncode == 0, done.stderr
    assert "failed sessions: 0" in done.stdout
    rows = re.findall(r"^\| mailweir-kernel \|", done.stdout, re.M)
    assert len(rows) == len(("1k", "20x1k", "8m"))
