"""How many sessions descriptors are enough for."""

from mailweir.descriptors import sessions, spare


def test_two_for_a_session_and_some_for_the_rest() -> None:
    assert (sessions(20000), spare(20000)) == (8000, 1250)
    assert (sessions(100), spare(100)) == (16, 64)
