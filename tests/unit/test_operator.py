"""What operators say: checked, kept, counted to its end."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.config.pool import MAX_WEIGHT
from mailweir.errors import TooManyError, UnknownError
from mailweir.operator import MAX_DENIED, Operator, Speaker
from mailweir.spec import ServerKey, ServerState
from mailweir.state.overrides import (
    Overrides,
    WeightWord,
    Word,
    author,
    parse_denied,
    parse_why,
    told,
)
from mailweir.state.overrides_file import OverridesFile
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
    return Operator(OverridesFile(tmp_path).write, clock=clock)


def test_a_word_stays_until_it_is_taken_back(operator: Operator) -> None:
    operator.set_state(A, "drain", ROOT, config())
    assert operator.overrides.server_state(A) is ServerState.DRAIN
    assert operator.forget_absent(config()) == []
    operator.set_state(A, "maint", ROOT, config())
    assert operator.overrides.server_state(A) is ServerState.MAINT
    operator.ready(A, config())
    assert operator.overrides == Overrides()


def test_who_is_to_be_ready_is_told() -> None:
    """Also where no word was said before: it may be ejected."""
    ready: list[ServerKey] = []
    operator = Operator(lambda _: None, on_ready=ready.append)
    with pytest.raises(UnknownError):
        operator.ready(ServerKey("farm", "c"), config())
    operator.ready(A, config())
    assert ready == [A]


def test_a_word_ends_when_it_said(operator: Operator, clock: Clock) -> None:
    operator.set_state(A, "drain", Speaker("anna", 7200), config())
    operator.set_weight(A, "10", Speaker("anna", 60), config())
    assert operator.next_end() == 60
    clock.now += 60
    assert operator.forget_those_over() == ["weight farm/a 10"]
    assert operator.next_end() == 7140
    (word,) = operator.overrides.states.values()
    assert told(word, clock.now) == "by anna 1m ago, for another 119m"
    clock.now += 7140
    assert operator.forget_those_over() == ["drain farm/a"]
    assert operator.next_end() is None


@pytest.mark.parametrize(
    ("ago", "left", "said"),
    [
        (-5, None, "0s ago"),
        (119, 0.5, "119s ago, for another 1s"),
        (121, 121, "2m ago, for another 3m"),
        (7199, 7200, "119m ago, for another 2h"),
        (7200, 86400, "2h ago, for another 1d"),
        (200_000, 172_801, "2d ago, for another 3d"),
    ],
)
def test_since_when_and_for_how_long(ago: float, left: float | None, said: str) -> None:
    now = 1e6
    word = Word(by="anna", at=now - ago, until=None if left is None else now + left)
    assert told(word, now) == f"by anna {said}"
    because = word.model_copy(update={"behind": "sudo: bob", "why": "new disk"})
    assert told(because, now) == f"by anna (sudo: bob) {said}: new disk"
    assert author(because) == "by anna (sudo: bob): new disk"


def test_a_reason_is_kept_and_can_harm_nobody(
    operator: Operator, tmp_path: Path, clock: Clock
) -> None:
    why = parse_why(" new disk\n\x1b[2J ")
    assert why == "new disk\\n\\x1b[2J"
    operator.set_state(A, "drain", Speaker("root", behind="sudo: alice", why=why), config())
    operator.pause("mx", ROOT, config())
    kept, problem = OverridesFile(tmp_path).read()
    assert (kept, problem) == (operator.overrides, "")
    assert told(kept.states["farm/a"], clock.now).endswith(f"(sudo: alice) 0s ago: {why}")
    longest = parse_why("\u202e" * 200)
    assert parse_why("") == ""
    assert Word(by="root", at=0.0, why=longest).why == longest
    with pytest.raises(ValueError, match="has 201 characters, and may have 200"):
        parse_why("x" * 201)


def test_a_word_without_a_reason_is_written_as_ever(operator: Operator, tmp_path: Path) -> None:
    """So that an earlier version, which knows of no more, can go on with it."""
    operator.pause("mx", ROOT, config())
    written = json.loads(OverridesFile(tmp_path).path.read_text())
    assert written["paused"] == {"mx": {"by": "root", "at": 1000.0, "until": None}}


def test_a_file_that_somebody_wrote_can_harm_nobody(tmp_path: Path) -> None:
    word = {"by": "root", "at": 1.0, "why": "\x1b[2J" * 1000, "behind": "sudo: \n"}
    kept = OverridesFile(tmp_path)
    kept.path.write_text(json.dumps({"version": 1, "node": word}))
    node = kept.read()[0].node
    assert node is not None
    assert node.why.startswith("\\x1b[2J")
    assert len(node.why) < 10_000
    assert node.behind == "sudo: \\n"


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
    operator.deny("192.0.2.0/24", Speaker("anna", 50))
    operator.deny("2001:db8::1/128", ROOT)
    kept = OverridesFile(tmp_path)
    again = Operator(kept.write, clock=clock)
    assert kept.read()[1] == ""
    again.remember(kept.read()[0], config())
    assert again.overrides == operator.overrides
    clock.now += 50
    again.remember(kept.read()[0], config())
    assert [what for what, _ in again.overrides.words()] == [
        "weight farm/a 50%",
        "pause mx",
        "pause",
        "deny 2001:db8::1/128",
    ]
    again.undeny("2001:db8::1/128")
    again.resume(None, config())
    again.resume("mx", config())
    again.reset_weight(A, config())
    assert again.overrides == Overrides()


def test_a_reload_forgets_no_deny(operator: Operator, clock: Clock) -> None:
    operator.deny("192.0.2.0/24", Speaker("anna", 60))
    assert operator.forget_absent(config()) == []
    assert operator.next_end() == 60
    clock.now += 60
    assert operator.forget_those_over() == ["deny 192.0.2.0/24"]
    assert operator.overrides == Overrides()


def test_what_may_have_been_meant_is_said_where_nothing_was_denied(operator: Operator) -> None:
    operator.deny("192.0.2.0/24", ROOT)
    operator.deny("2001:db8::/32", ROOT)
    with pytest.raises(
        UnknownError, match=r"denied 192\.0\.2\.7/32; of it .* did: 192\.0\.2\.0/24$"
    ):
        operator.undeny("192.0.2.7/32")
    with pytest.raises(UnknownError, match=r"no operator denied 10\.0\.0\.0/8$"):
        operator.undeny("10.0.0.0/8")
    assert len(operator.overrides.denied) == 2


def test_denies_are_no_place_for_long_lists(operator: Operator) -> None:
    word = Word(by="root", at=1.0)
    many = {f"10.0.{n // 256}.{n % 256}/32": word for n in range(MAX_DENIED)}
    operator.overrides = Overrides(denied=many)
    operator.deny("10.0.0.0/32", ROOT)  # is there already
    with pytest.raises(TooManyError, match=r"10000 prefixes already.* a file"):
        operator.deny("192.0.2.0/24", ROOT)
    assert len(operator.overrides.denied) == MAX_DENIED


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("2001:DB8:0::1", "2001:db8::1/128"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("0.0.0.0/1", "0.0.0.0/1"),
    ],
)
def test_prefixes_have_one_writing(text: str, prefix: str) -> None:
    assert parse_denied(text) == prefix


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("192.0.2.7/24", r"did you mean 192\.0\.2\.0/24, or 192\.0\.2\.7 alone\?"),
        ("2001:db8::1/32", r"did you mean 2001:db8::/32, or"),
        ("::ffff:192.0.2.0/120", r"192\.0\.2\.0/24"),
        ("0.0.0.0/0", "`pause`"),
        ("::/0", "`pause`"),
        ("192.0.2.0/33", "prefix"),
        ("192.0.2.0/255.255.255.0", "prefix"),
        ("fe80::%eth0/64", "zone"),
        ("mx.example", "prefix"),
        ("", "prefix"),
        ("1" * 10_000, "prefix"),
    ],
)
def test_what_is_no_prefix_to_deny(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_denied(text)


@given(st.integers(0, MAX_WEIGHT), st.integers(0, MAX_WEIGHT))
def test_a_share_of_a_weight(configured: int, percent: int) -> None:
    word = WeightWord(by="root", at=0.0, weight=f"{percent}%")
    weight = word.weight_for(configured)
    assert 0 <= weight <= MAX_WEIGHT
    assert (weight == 0) == (configured == 0 or percent == 0)
    assert WeightWord(by="root", at=0.0, weight="7").weight_for(configured) == 7
