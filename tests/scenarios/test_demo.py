"""`mailweir demo --once` from outside: the first thing a newcomer runs keeps its promises."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

COMMAND = (sys.executable, "-m", "mailweir", "demo")


def test_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--once"],
        capture_output=True,
        text=True,
        timeout=90,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for text in ("* flaky goes down", "* checks found flaky down", "* checks found flaky up"):
        assert text in done.stdout
    summary = done.stdout.partition("\n\nIn ")[2]
    got = re.findall(r"(swift|slow|flaky) got (\d+)", summary)
    assert [name for name, _ in got] == ["swift", "slow", "flaky"]
    assert all(int(mails) > 0 for _, mails in got)
    sent = re.search(r"(\d+) mails in \d+ sessions", summary)
    assert sent is not None
    assert int(sent[1]) == sum(int(mails) for _, mails in got)
    assert "\nflaky went down once and came back once.\n" in summary
    assert summary.endswith("\nNo mail was lost, none failed at a sender, none came twice.\n")
    assert not list(tmp_path.iterdir()), "nothing stays behind"


def test_ctrl_c(tmp_path: Path) -> None:
    with subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        try:
            while "mails sent" not in (line := process.stdout.readline()):
                assert line, "ended before the first mail"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, err) == (0, "")
    assert out.endswith("No mail was lost, none failed at a sender, none came twice.\n")
    assert not list(tmp_path.iterdir()), "nothing stays behind"
