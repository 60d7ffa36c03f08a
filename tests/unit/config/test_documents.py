"""Every configuration that the README and the pages of `docs` show is one that `check` takes."""

import re
from pathlib import Path

import pytest

from mailweir.config.load import load

_ROOT = Path(__file__).parents[3]
_SHOWN = [
    pytest.param(found[1], id=f"{page.name}:{number}")
    for page in (_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md")))
    for number, found in enumerate(re.finditer(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL))
]


def test_there_are_some() -> None:
    assert len(_SHOWN) >= 3


@pytest.mark.parametrize("text", _SHOWN)
def test_it_is_taken(tmp_path: Path, text: str) -> None:
    # What files it names is there, as Spamhaus writes it.
    (tmp_path / "drop.txt").write_text("; DROP List\n198.51.100.0/24 ; SBL1\n\n# the end\n")
    # A first mail has come, too.
    (tmp_path / "mail/check/new").mkdir(parents=True)
    file = tmp_path / "f.yaml"
    here = text.replace("/etc/mailweir/", f"{tmp_path}/").replace("/var/mail/", f"{tmp_path}/mail/")
    file.write_text(here)
    assert load(file).warnings == ()
