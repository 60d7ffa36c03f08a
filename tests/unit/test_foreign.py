"""Foreign words: nothing that a terminal would act on or hide, and no more than is read."""

from hypothesis import given
from hypothesis import strategies as st

from mailweir.foreign import MOST, shown, shown_bytes


def test_what_is_plain_stays_as_it_is() -> None:
    assert shown("554 5.7.1 café") == "554 5.7.1 café"
    assert shown_bytes(b"554 5.7.1 no") == "554 5.7.1 no"


def test_what_is_not_seen_is_written_out() -> None:
    assert shown("\x1b[2J\u202e\ud800\n") == r"\x1b[2J\u202e\ud800\n"
    assert shown_bytes("\x1b]0;é".encode("latin-1")) == r"\x1b]0;\xe9"


def test_it_is_cut() -> None:
    assert shown("x" * 10_000) == "x" * MOST + "..."
    assert shown("x" * MOST) == "x" * MOST
    assert shown_bytes(b"x" * 10_000, 5) == "xxxxx..."


@given(st.text(alphabet=st.characters()))
def test_any_text(text: str) -> None:
    found = shown(text)
    assert found.isprintable()
    assert len(found) <= MOST + 3


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    found = shown_bytes(data)
    assert found.isprintable()
    assert found.isascii()
    assert len(found) <= MOST + 3
