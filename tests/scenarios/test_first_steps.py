"""`docs/first-steps.md` and `docs/limits.md` are true: see `scenarios.pages`."""

import re
from pathlib import Path

import pytest

from harness.process import run
from scenarios.pages import ROOT, steps, walk

pytestmark = pytest.mark.needs("iproute2")


@pytest.mark.parametrize("page", ["docs/first-steps.md", "docs/limits.md"])
def test_every_step(tmp_path: Path, page: str) -> None:
    assert steps(page)[0].command.startswith("cat >")
    walk(page, tmp_path)


def test_it_is_installed_by_a_target_that_is_there() -> None:
    # Whoever runs this has been through it; doing it again would take minutes.
    (command,) = re.findall(r"(?m)^make .*$", (ROOT / "docs/first-steps.md").read_text())
    done = run([*command.split(), "--dry-run", "--directory", ROOT])
    assert done.returncode == 0, done.stderr
