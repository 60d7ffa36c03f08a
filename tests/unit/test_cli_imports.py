"""Commands that are asked every second import nothing heavy, and no process what it has no use for.

What counts is which modules are there, not for how long it took.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Runs a command in a process of its own. Says how it ended, what it imported, and the places that
# certificates were read from.
COMMAND = """
import json, os, ssl, sys
places = []
read = ssl.SSLContext.set_default_verify_paths
def noted(context):
    places.append(os.environ.get("SSL_CERT_FILE"))
    read(context)
ssl.SSLContext.set_default_verify_paths = noted
from mailweir.cli import main
try:
    main()
except SystemExit as end:
    print("\\n" + json.dumps({"code": end.code, "modules": [*sys.modules], "places": places}))
"""
HEAVY = {"pydantic", "aiohttp", "uvloop", "structlog", "yaml", "asyncio", "prometheus_client"}
# Of the demo, or of libraries that find it installed.
OF_NO_USE = {"rich", "pygments", "markdown_it"}
CONFIG = """
listeners: {mx: {bind: ["127.0.0.1:0"], pool: farm}}
pools: {farm: {servers: {a: "127.0.0.1:25"}}}
"""


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str  # without what we had it say
    err: str
    modules: set[str]  # of the outermost packages, their names
    places: list[str | None]  # None: those of the machine


def ended(*arguments: str | Path, env: Mapping[str, str] | None = None) -> Ended:
    argv: Sequence[str | Path] = [sys.executable, "-c", COMMAND, *arguments]
    done = subprocess.run(
        argv, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=True
    )
    out, _, last = done.stdout.rstrip("\n").rpartition("\n")
    said: dict[str, Any] = json.loads(last)
    packages = {name.partition(".")[0] for name in said["modules"]}
    return Ended(said["code"], out, done.stderr, packages, said["places"])


@pytest.mark.parametrize(
    "command",
    ["status", "servers", "healthcheck", "drain farm/a", "ha status", "ha notify active"],
)
def test_what_asks_a_process_imports_nothing_heavy(tmp_path: Path, command: str) -> None:
    done = ended(*command.split(), "--socket", tmp_path / "none.sock")
    assert (done.code, done.modules & (HEAVY | OF_NO_USE)) == (3, set())


def test_completion_imports_nothing_heavy(tmp_path: Path) -> None:
    asked = {
        "_MAILWEIR_COMPLETE": "bash_complete",
        "COMP_WORDS": f"mailweir drain --socket {tmp_path}/none.sock f",
        "COMP_CWORD": "4",
    }
    done = ended(env=asked)
    assert (done.code, done.modules & (HEAVY | OF_NO_USE)) == (0, set())
    assert (done.out.strip(), done.err) == ("", "")


def test_the_version_imports_nothing_heavy() -> None:
    done = ended("--version")
    assert (done.code, done.modules & (HEAVY | OF_NO_USE)) == (0, set())


def test_a_check_imports_what_reads_the_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "mailweir.yaml"
    file.write_text(CONFIG)
    done = ended("check", "-c", file)
    assert (done.code, done.modules & (HEAVY | OF_NO_USE)) == (0, {"pydantic", "yaml"})


def test_doctor_imports_what_reads_the_file_and_talks_alone(tmp_path: Path) -> None:
    file = tmp_path / "mailweir.yaml"
    file.write_text(CONFIG.replace(":25", ":1"))  # nobody listens there
    done = ended("doctor", "-c", file, "--pool", "farm", "--socket", tmp_path / "none.sock")
    heavy = {"pydantic", "yaml", "asyncio"}
    assert (done.code, done.modules & (HEAVY | OF_NO_USE)) == (1, heavy), done.err


@pytest.mark.parametrize("command", ["run", "ha run", "ha witness"])
def test_what_runs_imports_nothing_of_no_use(tmp_path: Path, command: str) -> None:
    # Ends where it reads the file; everything is imported by then.
    done = ended(*command.split(), "-c", tmp_path / "none.yaml")
    assert done.code == 78
    assert {"pydantic", "structlog"} <= done.modules
    assert done.modules & OF_NO_USE == set()
    assert set(done.places) <= {os.devnull}
