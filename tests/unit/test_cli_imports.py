"""Commands that are asked every second import nothing heavy."""

import os
import subprocess
import sys
from pathlib import Path

# Runs a command in a process of its own, and says how it ended and what it imported.
WHAT_IS_HEAVY = """
import sys
from mailweir.cli import main
try:
    main()
except SystemExit as end:
    heavy = {"pydantic", "aiohttp", "uvloop", "structlog", "yaml", "asyncio", "prometheus_client"}
    print(end.code, sorted(heavy & set(sys.modules)))
"""


def test_status_imports_nothing_heavy(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WHAT_IS_HEAVY, "status", "--socket", f"{tmp_path}/none.sock"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "3 []\n"


def test_notify_imports_nothing_heavy(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WHAT_IS_HEAVY, "ha", "notify", "active"]
    command += ["--socket", f"{tmp_path}/none.sock"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "3 []\n"


def test_completion_imports_nothing_heavy(tmp_path: Path) -> None:
    asked = {
        "_MAILWEIR_COMPLETE": "bash_complete",
        "COMP_WORDS": f"mailweir drain --socket {tmp_path}/none.sock f",
        "COMP_CWORD": "4",
    }
    done = subprocess.run(
        [sys.executable, "-c", WHAT_IS_HEAVY],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("\n0 []\n", "")
