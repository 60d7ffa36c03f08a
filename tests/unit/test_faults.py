"""Bugs of ours: said once, counted, and what failed begins anew."""

from structlog.testing import capture_logs

from mailweir.errors import PlanePanic
from mailweir.faults import Fault, FaultPart, Faults, kept_going


def test_the_same_is_said_once_and_counted() -> None:
    faults = Faults()
    with capture_logs() as logs:
        for number in range(3):
            try:
                raise ValueError(str(number))
            except ValueError as error:
                faults.note(FaultPart.CHECK, error)
        faults.note(FaultPart.CHECK, KeyError("k"))
    assert [(one["event"], one["part"]) for one in logs] == [
        ("internal error, please report it", "check")
    ] * 2
    (told,) = faults.told()
    assert (told.times, told.last) == (4, "KeyError('k')")
    assert (faults.times(FaultPart.CHECK), faults.times(FaultPart.LOOP)) == (4, 0)
    assert isinstance(told, Fault)


def test_what_was_raised_elsewhere_is_told_apart_by_its_words() -> None:
    faults = Faults()
    with capture_logs() as logs:
        for place in ("a.rs:1", "a.rs:1", "b.rs:2"):
            faults.note(FaultPart.DATA_PLANE, PlanePanic(place))
    assert [str(one["exc_info"]) for one in logs] == ["a.rs:1", "b.rs:2"]
    assert faults.times(FaultPart.DATA_PLANE) == 3


async def test_what_fails_begins_anew_later_each_time() -> None:
    faults, begun, pauses = Faults(), list[int](), list[float]()

    async def work() -> None:
        begun.append(1)
        if len(begun) < 9:
            raise RuntimeError("bug")

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    with capture_logs() as logs:
        await kept_going(FaultPart.NOTICES, work, faults, pause)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert faults.times(FaultPart.NOTICES) == 8
    assert len(logs) == 1
