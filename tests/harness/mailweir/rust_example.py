"""The examples of the data plane's crate, built for a test."""

import json
from pathlib import Path

from harness.process import run

_ROOT = Path(__file__).resolve().parents[3]


def rust_example(name: str, *features: str) -> Path:
    """The program; built where it isn't yet."""
    build = ["cargo", "build", "--quiet", "--message-format=json", "--package", "mailweir-core"]
    what = ["--example", name, "--features", ",".join(features)]
    done = run([*build, *what, "--manifest-path", _ROOT / "Cargo.toml"], limit=600)
    assert done.returncode == 0, done.stderr
    messages = map(json.loads, done.stdout.splitlines())
    return [Path(one["executable"]) for one in messages if one.get("executable")][-1]
