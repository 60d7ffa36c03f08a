"""How many sessions descriptors are enough for."""

from mailweir.descriptors import sessions


def test_two_for_a_session_and_some_for_the_rest() -> None:
    assert sessions(20000) == 9250
    assert sessions(100) == 16
