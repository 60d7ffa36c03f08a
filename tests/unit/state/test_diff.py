"""The sentence that says what changed, and what counts as server states alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.spec import DesiredState, ServerKey, ServerState
from mailweir.state.desired import Health, fold
from mailweir.state.diff import changed_server_states, describe, settings
from unit.fakes import MINIMAL, NOTHING_SAID, config


def state(text: str = MINIMAL, up: str = "") -> DesiredState:
    health = {ServerKey("farm", name): Health.UP for name in up}
    return fold(config(text), health, NOTHING_SAID, hostname="h", max_sessions=9000)


CHANGES = [
    (MINIMAL, "nothing changed"),
    (MINIMAL + "      c: 10.0.0.3:25\n", "pool farm: server c added (10.0.0.3:25, weight 100)"),
    (MINIMAL.replace("      b: 10.0.0.2:25\n", ""), "pool farm: server b removed"),
    (
        MINIMAL.replace("a: 10.0.0.1:25", "a: {address: 10.0.0.1:26, weight: 50}"),
        "pool farm: server a: address 10.0.0.1:25 -> 10.0.0.1:26;"
        " pool farm: server a: weight 100 -> 50",
    ),
    (
        MINIMAL.replace("pool: farm\n", "pool: farm\n    timeouts: {connect: 5s}\n", 1),
        "listener mx: connect 3s -> 5s",
    ),
    (
        MINIMAL.replace("pool: farm\n", "pool: farm\n    protocol: tcp\n", 1),
        "listener mx: protocol smtp -> tcp",
    ),
    (
        MINIMAL.replace('"192.0.2.1:25"', '"192.0.2.1:25", "192.0.2.2:25"'),
        "listener mx: bind 192.0.2.1:25 -> 192.0.2.1:25, 192.0.2.2:25",
    ),
    (
        MINIMAL.replace("farm:\n", "farm:\n    balance: round_robin\n"),
        "pool farm: balance least_conn -> round_robin",
    ),
    (
        MINIMAL.replace("mx:", "in:").replace("farm", "park"),
        "listener in added (192.0.2.1:25, pool park); listener mx removed;"
        " pool park added (2 servers); pool farm removed",
    ),
    (
        "".join(MINIMAL.partition("      a: ")[:1])
        + "      b: 10.0.0.2:25\n      a: 10.0.0.1:25\n",
        "pool farm: servers in another order",
    ),
]


@pytest.mark.parametrize(("text", "sentence"), CHANGES, ids=[c[1][:40] for c in CHANGES])
def test_sentence(text: str, sentence: str) -> None:
    assert describe(state(), state(text)) == sentence


def test_the_first_one_is_an_inventory() -> None:
    assert describe(None, state()) == "1 listener, 1 pool, 2 servers"


def test_a_long_sentence_is_cut() -> None:
    many = MINIMAL + "".join(f"      s{i}: 10.0.1.{i}:25\n" for i in range(20))
    assert describe(state(), state(many)).endswith("; and 8 more")


def test_health_alone_is_no_new_structure() -> None:
    old, new = state(up="a"), state(up="b")
    assert describe(old, new) == "pool farm: server a: up -> down; pool farm: server b: down -> up"
    assert changed_server_states(old, new) == {
        ServerKey("farm", "a"): ServerState.DOWN,
        ServerKey("farm", "b"): ServerState.UP,
    }


def test_structure_with_health_is_one_new_whole() -> None:
    assert changed_server_states(state(), state(MINIMAL + "      c: 10.0.0.3:25\n", "a")) is None
    assert changed_server_states(None, state()) is None


STATES = [state(text, up) for text, _ in CHANGES for up in ("", "a", "ab")]


@given(st.sampled_from(STATES), st.sampled_from(STATES))
def test_silence_means_equality(old: DesiredState, new: DesiredState) -> None:
    assert (describe(old, new) == "nothing changed") == (old == new)
    assert (changed_server_states(old, new) == {}) == (old == new)


def test_settings_of_the_control_plane_are_part_of_the_sentence() -> None:
    check = "    check: {every: 5s, fall: 2, kind: tcp}\n    servers:"
    new = MINIMAL.replace("    servers:", check) + "drain: {deadline: 1h}\n"
    changed = list(settings(config(), config(new)))
    assert changed == [
        "pool farm: check kind by default -> tcp",
        "pool farm: check every 10s -> 5s",
        "pool farm: check fall 3 -> 2",
    ]
    sentence = describe(state(), state(new), changed)
    assert sentence == "; ".join(["drain deadline 30m -> 1h", *changed])
    assert list(settings(config(), config())) == []


def test_who_may_ask_is_told() -> None:
    new = MINIMAL + 'admin: {operators: [root, "@root"]}\n'
    assert list(settings(config(), config(new))) == ["admin: operators none -> root @root"]
    assert list(settings(config(new), config())) == ["admin: operators root @root -> none"]
