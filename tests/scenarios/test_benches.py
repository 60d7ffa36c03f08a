"""Benchmarks run: what they write for mailweir is a configuration that it takes."""

import re
import sys
from pathlib import Path

import pytest

from harness.networks.row import bpf_files
from harness.process import run
from harness.waiting import LIMIT

_ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.needs("iproute2", "clang")


@pytest.mark.needs("nftables", "haproxy")
def test_the_kernel_path_beside_others(smtpload_binary: Path) -> None:
    bpf_files()
    what = ("--rounds=1", "--part=1000", "--peers=routed,haproxy,mailweir,mailweir-kernel")
    bench = (_ROOT / "benches/peers/routed.py", f"--smtpload={smtpload_binary}", *what)
    done = run([sys.executable, *bench], limit=6 * LIMIT)
    assert done.returncode == 0, done.stderr
    assert "failed sessions: 0" in done.stdout
    rows = re.findall(r"^\| mailweir-kernel \|", done.stdout, re.M)
    assert len(rows) == len(("1k", "20x1k", "8m"))


@pytest.mark.needs("bpftool")
def test_many_flows(smtpload_binary: Path) -> None:
    """The session logs and the figures say that none failed, or the bench does."""
    assert smtpload_binary.with_name("packets").exists()
    bpf_files()
    load = ("--levels=0,20,60", "--rounds=1", "--load=100", "--rate=200", "--seconds=1")
    rest = ("--speaking=60", "--looks=1", "--look=1", "--flows=200")
    bench = (_ROOT / "benches/flows/run.py", *load, *rest)
    done = run([sys.executable, *bench], limit=6 * LIMIT)
    assert done.returncode == 0, done.stderr
    for figure in ("200 done, failed", "200 lines in the session log", "| 60 | idle |"):
        assert figure in done.stdout
    assert len(re.findall(r"^\| (0|20|60) \|.*\| 0 \| 0 \|$", done.stdout, re.M)) == 3


def test_many_checks(smtpload_binary: Path) -> None:
    assert smtpload_binary.exists()
    what = ("--servers=40", "--every=1", "--seconds=3", "--rounds=1")
    done = run([sys.executable, _ROOT / "benches/checks/run.py", *what], limit=6 * LIMIT)
    assert done.returncode == 0, done.stderr
    # No session failed, says the last column.
    rows = re.findall(r"^\| (none|tcp|ehlo) \| (\d+) .*\| 0 \|$", done.stdout, re.M)
    assert [kind for kind, _ in rows] == ["none", "tcp", "ehlo"]
    assert int(rows[0][1]) == 0
    # 40 a second at their pace; it is measured from outside, for 3 s.
    assert all(25 <= int(number) <= 55 for _, number in rows[1:])


@pytest.mark.needs("nftables", "haproxy")
def test_restarts_beside_haproxy(smtpload_binary: Path) -> None:
    assert smtpload_binary.exists()
    bpf_files()
    what = ("--rounds=1", "--mail=3", "--contenders=mailweir upgrade, kernel;haproxy reload")
    done = run([sys.executable, _ROOT / "benches/restarts/run.py", *what], limit=3 * LIMIT)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"^\| (\w+ \w+).*? \| 1 \| \d+ \| 0 \|.*\| 1 \| 0 \|$", done.stdout, re.M)
    assert rows == ["mailweir upgrade", "haproxy reload"], done.stdout
