"""The stub `_dataplane.pyi` says what the extension has: mypy's stubtest compares them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_stub_matches_the_extension() -> None:
    argv = [sys.executable, "-m", "mypy.stubtest", "mailweir._dataplane"]
    ended = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
