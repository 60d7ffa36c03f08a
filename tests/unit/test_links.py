"""Links between the pages of the project lead to files, and to headings that are there."""

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_PAGES = sorted([*_ROOT.glob("*.md"), *_ROOT.glob("docs/**/*.md"), *_ROOT.glob("benches/*/*.md")])
# Addresses on the Web are somebody else's.
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_CODE = re.compile(r"(?ms)^ *```.*?^ *```$|`[^`\n]*`")


def links(page: str) -> list[tuple[str, str]]:
    """The file and the heading of each; empty for the page itself, and for its beginning."""
    return _LINK.findall(_CODE.sub("", page))


def anchors(page: str) -> set[str]:
    """The headings of a page, as GitHub calls them."""
    headings = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^ *```.*?^ *```$", "", page))
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for file, heading in links(page.read_text()):
        there = page.parent / file if file else page
        assert there.exists(), f"{file} isn't there"
        if heading:
            assert heading in anchors(there.read_text()), f"{there.name} has no #{heading}"


def test_a_link_and_a_heading_are_found() -> None:
    text = (
        "[a](b.md#c-d), [e](https://f/), `[no](g.md)`\n\n```\n[no](h.md)\n# no\n```\n## C `d`: e\n"
    )
    assert links(text) == [("b.md", "c-d")]
    assert anchors(text) == {"c-d-e"}
