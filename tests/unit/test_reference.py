"""The pages of docs/reference are what the code says, and the generator refuses code that says
nothing.
"""

import ast
import json
import re
from pathlib import Path

import pytest
from aiohttp import web

from generator import api, events, rust
from generator.pages import FOLDER, PAGES
from mailweir.config.keys import parts
from mailweir.notices import REFUSALS

_DOCS = FOLDER.parent


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    file = FOLDER / name
    there = file.read_text() if file.exists() else ""
    assert there == PAGES[name](), (
        f"docs/reference/{name} isn't what the code says: run `make docs`"
    )


def test_there_are_no_other_pages() -> None:
    assert {file.name for file in FOLDER.iterdir()} == set(PAGES)


def test_every_key_is_there() -> None:
    page = PAGES["configuration.md"]()
    keys = [key for part in parts() for key in part.keys]
    # Further checks have the keys of `check`.
    missing = {key.path for key in keys if f"`{key.path}`" not in page}
    assert {path.rpartition(".")[2] for path in missing} <= {
        key.path.rpartition(".")[2] for key in keys if key.path.startswith("pools.*.check.")
    }
    assert all(path.startswith("pools.*.more_checks.*.") for path in missing)
    assert "`pools.*.more_checks.*.decides`" in page


def test_the_fields_of_the_session_log_are_those_of_a_line() -> None:
    (line,) = re.findall(r"(?ms)^    (\{\"ts\".*?\})$", (_DOCS / "watching.md").read_text())
    assert [*rust.log_fields()] == [*json.loads(line)]


def test_the_reasons_are_those_of_the_data_plane() -> None:
    reasons = rust.words("record/reason.rs", "EndReason")
    assert set(REFUSALS) < set(reasons)
    source = Path(rust.__file__).parents[2] / "rust/core/src/record/reason.rs"
    assert f"pub const ALL: [Self; {len(reasons)}] = [" in source.read_text()


def test_a_word_without_a_meaning_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rust, "_CORE", tmp_path)
    (tmp_path / "a.rs").write_text("pub enum A {\n    /// What it is.\n    B,\n    NoWord,\n}\n")
    with pytest.raises(ValueError, match=r"a\.rs: `NoWord,` needs a comment"):
        rust.words("a.rs", "A")


def test_a_word_is_as_metrics_write_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rust, "_CORE", tmp_path)
    text = "pub enum A {\n    /// One,\n    /// two.\n    OneTwo,\n    /// Four.\n    C(u8),\n}\n"
    (tmp_path / "a.rs").write_text(text)
    assert rust.words("a.rs", "A") == {"one_two": "One, two.", "c": "Four."}
    (tmp_path / "a.rs").write_text(text + 'impl A {\n    Self::OneTwo => "12",\n}\n')
    assert rust.words("a.rs", "A") == {"12": "One, two.", "c": "Four."}


def test_a_route_without_a_docstring_is_refused() -> None:
    async def answer(_: web.Request) -> web.Response:
        raise NotImplementedError

    app = web.Application()
    app.router.add_get("/api/v1/new", answer)
    with pytest.raises(ValueError, match="/api/v1/new needs a docstring"):
        list(api.told(app))


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ('_log.info("ready")', ("ready", "info", [])),
        ('_log.error(f"{n} failed", reason=1, exc_info=2)', ("... failed", "error", ["reason"])),
        ('what = "gone"\n    _log.warning(what, a=1)', ("gone", "warning", ["a"])),
        ('d = {"a": 1}\n    _log.info("x", **d, b=2)', ("x", "info", ["a", "b"])),
    ],
)
def test_an_event_is_found(code: str, told: tuple[str, str, list[str]]) -> None:
    assert [*events.lines("x.py", ast.parse(f"def f(n):\n    {code}\n"))] == [told]


def test_an_event_whose_words_are_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x\.py:2: write the words"):
        list(events.lines("x.py", ast.parse("def f(n):\n    _log.info(n)\n")))
