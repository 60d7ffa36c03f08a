"""How fast counters rise, from look to look."""

from mailweir.admin.rates import Rates


def test_the_first_look_knows_nothing() -> None:
    rates = Rates()
    assert rates.look(100.0)("accepted", "mx", total=50) is None
    assert rates.look(105.0)("accepted", "mx", total=60) == 2.0


def test_a_rate_is_that_of_the_last_minute() -> None:
    rates = Rates()
    for second in range(0, 125, 5):
        # Twice as fast in the second minute.
        total = second if second < 60 else 60 + 2 * (second - 60)
        found = rates.look(float(second))("taken", total=total)
    assert found == 2.0


def test_many_who_look_at_once_see_the_same() -> None:
    rates = Rates()
    rates.look(0.0)("taken", total=0)
    found = [rates.look(10.0 + n / 100)("taken", total=100) for n in range(50)]
    assert {round(one or 0) for one in found} == {10}
    assert rates.look(10.1)("taken", total=100) is not None


def test_after_a_while_without_looks_nothing_is_known() -> None:
    rates = Rates()
    rates.look(0.0)("taken", total=0)
    assert rates.look(3600.0)("taken", total=7200) is None
    assert rates.look(3602.0)("taken", total=7204) is None  # too short
    assert rates.look(3605.0)("taken", total=7210) == 2.0


def test_what_is_new_has_none() -> None:
    rates = Rates()
    rates.look(0.0)("taken", "farm", "a", total=5)
    look = rates.look(5.0)
    assert look("taken", "farm", "b", total=9) is None
    assert look("taken", "farm", "a", total=5) == 0.0
