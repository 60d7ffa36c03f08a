"""Mutated and hostile configurations: each is good or has placed problems, in time and memory."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest

from harness.mailweir.mutator import BOMB, RICH, mutated
from mailweir.config.load import load
from mailweir.config.sample import sample
from mailweir.errors import ConfigError

_SEEDS = 200
# What a process that loads the file has at most, in MiB; Python with pydantic takes 50 of them.
_MOST_MEMORY = 320
_LOAD = r"""
import re, sys
from pathlib import Path
from mailweir.config.load import load
from mailweir.errors import ConfigError
try:
    load(Path(sys.argv[1]))
except ConfigError as error:
    status = Path("/proc/self/status").read_text()
    print(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024)
    print(error.problems[0])
"""


@pytest.mark.parametrize("good", ["rich", "sample"])
def test_a_mutated_file_is_good_or_its_problems_have_places(
    tmp_path: Path, good: str, counted: Callable[[str], None]
) -> None:
    texts = {
        "rich": RICH.format(directory=tmp_path, server="127.0.0.2:25"),
        # Every key, as text that counts.
        "sample": "\n".join(uncommented(sample())),
    }
    file = tmp_path / "mailweir.yaml"
    file.write_text(texts[good])
    assert load(file).config.listeners
    seconds, taken = [], 0
    for seed in range(_SEEDS):
        file.write_bytes(mutated(seed, texts[good]))
        began = time.perf_counter()
        try:
            load(file)
        except ConfigError as error:
            places = [problem.line for problem in error.problems]
        else:
            places, taken = [1], taken + 1
        assert places, seed
        assert min(places) >= 1, seed
        seconds.append(time.perf_counter() - began)
    counted(
        f"{_SEEDS} mutants, {taken} of them good; loaded in {median(seconds) * 1000:.1f} ms"
        f" (median), {max(seconds) * 1000:.1f} ms at most (seed {seconds.index(max(seconds))})"
    )
    assert taken < _SEEDS / 3


def uncommented(text: str) -> list[str]:
    """The lines of the sample without its prose."""
    lines = [re.sub(r"^( *)#(?! [^ ])", r"\1", line) for line in text.splitlines()]
    return [line for line in lines if not line.lstrip().startswith("#")]


# Each would take all there is if it were expanded, repeated or compared.
_HUGE = "x" * 999
HOSTILE = {
    "aliases of aliases": BOMB,
    "messages by the thousand": "a: &a ["
    + f"{_HUGE}, " * 90
    + "]\nlisteners: {"
    + ", ".join(f"l{n}: {{bind: *a, pool: p}}" for n in range(900))
    + "}\n",
    "names that are nearly right": "pools: {"
    + ", ".join(f"pool-{n:04}: {{servers: {{a: 10.0.0.1:25}}}}" for n in range(2000))
    + "}\nlisteners: {"
    + ", ".join(f"l{n}: {{bind: [192.0.2.1:{n + 1}], pool: pol-{n:04}}}" for n in range(2000))
    + "}\n",
    "depth": "a: " + "[" * 1_000_000,
    "a long word": "a: " + "x" * 4_000_000,
    "bad prefixes": "pools: {p: {servers: {a: 10.0.0.1:25}}}\nlisteners:\n"
    "  mx: {bind: [192.0.2.1:25], pool: p, deny: [" + "10.0.0.1/8, " * 100_000 + "]}\n",
    "unknown keys": "".join(f"k{n}: 1\n" for n in range(100_000)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_memory_is_bounded(tmp_path: Path, what: str, counted: Callable[[str], None]) -> None:
    file = tmp_path / "mailweir.yaml"
    file.write_text(HOSTILE[what])
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, file], capture_output=True, text=True, check=True
    )
    memory, problem = done.stdout.splitlines()
    counted(f"{what}: {time.perf_counter() - began:.2f} s with Python's start, {memory} MiB")
    assert problem.startswith(f"{file}:")
    assert int(memory) < _MOST_MEMORY
