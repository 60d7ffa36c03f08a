"""The order of tests."""

from itertools import pairwise

from harness.order import mingled

_WAITING = [("s1", 1), ("s1", 2), ("s2", 1), ("s3", 1), ("s4", 1)]
_COMPUTING = [(f"u{module}", test) for module in range(10) for test in range(5)]


def test_modules_stay_whole_and_kinds_are_spread() -> None:
    tests = [*_WAITING, *_COMPUTING]
    found = mingled(tests, lambda test: test[0], lambda test: test[0].startswith("s"))
    assert sorted(found) == sorted(tests)
    modules = [now for before, (now, _) in pairwise([("", 0), *found]) if now != before[0]]
    assert len(modules) == len(set(modules))
    for kind in (_WAITING, _COMPUTING):
        assert [test for test in found if test in kind] == kind
    half = found[: len(found) // 2]
    assert len([test for test in half if test in _WAITING]) in (2, 3)


def test_one_kind_stays_as_it_is() -> None:
    assert mingled(_COMPUTING, lambda test: test[0], lambda _: False) == _COMPUTING
    assert mingled(list[int](), str, lambda _: True) == []
