"""What operators say: checked, kept, counted to its end."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.config.pool import MAX_WEIGHT
from mailweir.errors import UnknownError
from mailweir.operator import Operator, Speaker
from mailweir.spec import ServerKey, ServerState
from mailweir.state.kept import Kept
from mailweir.state.overrides import Overrides, WeightWord, told
from unit.fakes import MINIMAL, config

A = ServerKey("farm", "a")
ROOT = Speaker("root")


class Clock:
    """A clock that is moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def operator(tmp_path: Path, clock: Clock) -> Operator:
    return Operator(Kept(tmp_path), clock=clock)


def test_a_word_stays_until_it_is_taken_back(operator: Operator) -> None:
    operator.set_state(A, "drain", ROOT, config())
    assert operator.overrides.server_state(A) is ServerState.DRAIN
    assert operator.forget_absent(config()) == []
    operator.set_state(A, "maint", ROOT, config())
    assert operator.overrides.server_state(A) is ServerState.MAINT
    operator.ready(A, config())
    assert operator.overrides == Overrides()


def test_a_word_ends_when_it_said(operator: Operator, clock: Clock) -> None:
    operator.set_state(A, "drain", Speaker("anna", 7200), config())
    operator.set_weight(A, "10", Speaker("anna", 60), config())
    assert operator.next_end() == 60
    clock.now += 60
    assert operator.forget_those_over() == ["weight farm/a 10"]
    assert operator.next_end() == 7140
    (word,) = operator.overrides.states.values()
    assert told(word, clock.now) == "by anna, for another 119m"
    clock.now += 7140
    assert operator.forget_those_over() == ["drain farm/a"]
    assert operator.next_end() is None


def test_what_is_gone_is_forgotten(operator: Operator) -> None:
    operator.set_state(A, "drain", ROOT, config())
    operator.pause("mx", ROOT, config())
    without = config(MINIMAL.replace("      a: 10.0.0.1:25\n", "").replace("  mx:", "  in:"))
    assert operator.forget_absent(without) == ["drain farm/a", "pause mx"]
    assert operator.overrides == Overrides()


def test_what_is_there_is_said_where_a_name_is_wrong(operator: Operator) -> None:
    with pytest.raises(UnknownError, match="there are farm"):
        operator.set_state(ServerKey("farn", "a"), "drain", ROOT, config())
    with pytest.raises(UnknownError, match="it has a, b"):
        operator.ready(ServerKey("farm", "c"), config())
    with pytest.raises(UnknownError, match="there are mx"):
        operator.pause("in", ROOT, config())


def test_everything_outlives_the_process(operator: Operator, tmp_path: Path, clock: Clock) -> None:
    operator.set_state(A, "maint", Speaker("anna", 50), config())
    operator.set_weight(A, "50%", ROOT, config())
    operator.pause("mx", ROOT, config())
    operator.pause(None, ROOT, config())
    again = Operator(Kept(tmp_path), clock=clock)
    assert again.remember(config()) == ""
    assert again.overrides == operator.overrides
    clock.now += 50
    again.remember(config())
    assert [what for what, _ in again.overrides.words()] == [
        "weight farm/a 50%",
        "pause mx",
        "pause",
    ]
    again.resume(None, config())
    again.resume("mx", config())
    again.reset_weight(A, config())
    assert again.overrides == Overrides()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"version": 2}', "\0" * 100, '{"states": {"farm/a": {"state": "up"}}}'],
)
def test_a_damaged_file_is_set_aside(operator: Operator, tmp_path: Path, text: str) -> None:
    (tmp_path / "overrides.json").write_text(text)
    problem = operator.remember(config())
    assert "can't be understood" in problem
    assert problem.endswith(f"it is now {tmp_path}/overrides.damaged")
    assert (tmp_path / "overrides.damaged").read_text() == text
    assert operator.overrides == Overrides()
    operator.set_state(A, "drain", ROOT, config())
    assert operator.kept_problem == ""


def test_a_full_disk_leaves_the_old_file(operator: Operator, tmp_path: Path) -> None:
    operator.set_state(A, "drain", ROOT, config())
    before = (tmp_path / "overrides.json").read_bytes()
    (tmp_path / "overrides.new").symlink_to("/dev/full")
    operator.ready(A, config())
    assert operator.kept_problem.endswith("can't be written: No space left on device")
    assert (tmp_path / "overrides.json").read_bytes() == before
    assert operator.overrides == Overrides()


@given(st.integers(0, MAX_WEIGHT), st.integers(0, MAX_WEIGHT))
def test_a_share_of_a_weight(configured: int, percent: int) -> None:
    word = WeightWord(by="root", at=0.0, weight=f"{percent}%")
    weight = word.weight_for(configured)
    assert 0 <= weight <= MAX_WEIGHT
    assert (weight == 0) == (configured == 0 or percent == 0)
    assert WeightWord(by="root", at=0.0, weight="7").weight_for(configured) == 7
