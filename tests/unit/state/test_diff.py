"""The sentence that says what changed, and what counts as server states alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mailweir.spec import DesiredState, ServerKey, ServerState
from mailweir.state.desired import Health, fold
from mailweir.state.diff import changed_server_states, describe, panics, settings
from mailweir.state.overrides import Overrides, StateWord
from unit.fakes import MINIMAL, NOTHING_SAID, ROOM, config


def state(text: str = MINIMAL, up: str = "") -> DesiredState:
    health = {ServerKey("farm", name): Health.UP for name in up}
    return fold(config(text), health, NOTHING_SAID, hostname="h", room=ROOM)


def at_listener(*keys: str) -> str:
    return MINIMAL.replace("pool: farm\n", "\n    ".join(["pool: farm", *keys]) + "\n", 1)


def at_pool(*keys: str) -> str:
    return MINIMAL.replace("farm:\n", "\n    ".join(["farm:", *keys]) + "\n")


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
        at_listener("deny: [10.0.0.0/8, 192.0.2.0/24]"),
        "listener mx: deny: 10.0.0.0/8, 192.0.2.0/24 added",
    ),
    (
        at_listener(f"allow: {[f'10.0.0.{n}' for n in range(200)]}"),
        "listener mx: allow: 200 prefixes added; listener mx: others admit -> refuse",
    ),
    (
        at_listener("refuse: drop", "limits: {dry_run: [access, sessions]}"),
        "listener mx: refuse reply -> drop; listener mx: dry_run none -> access, sessions",
    ),
    (
        at_listener("limits: {per_source: {sessions: 20, rate: 100/min, exempt: [10.0.0.1]}}"),
        "listener mx: sessions per source none -> 20;"
        " listener mx: rate per source none -> 100/min (100 at once)",
    ),
    (
        at_listener("limits: {per_source: {rate: 5/s, burst: 9, prefix4: 24}}"),
        "listener mx: rate per source none -> 5/s (9 at once)",
    ),
    (
        at_pool("balance: maglev", "hash_key: {prefix4: 24, prefix6: 48, seed: x}"),
        "pool farm: balance least_conn -> maglev; pool farm: hash_key prefix4 32 -> 24;"
        " pool farm: hash_key prefix6 64 -> 48; pool farm: hash_key seed '' -> 'x'",
    ),
    (
        at_pool("sticky: {ttl: 1h}", "slow_start: 0s", "queue: {}"),
        "pool farm: sticky ttl none -> 1h; pool farm: slow_start 1m -> 0s;"
        " pool farm: queue none -> 200 for 20s",
    ),
    (at_pool("sticky: {ttl: 1h, prefix4: 32}"), "pool farm: sticky ttl none -> 1h"),
    (
        MINIMAL.replace("b: 10.0.0.2:25", "b: {address: 10.0.0.2:25, backup: true}"),
        "pool farm: server b: a backup",
    ),
    (
        MINIMAL + "      c: {address: 10.0.0.3:25, backup: true}\n",
        "pool farm: server c added (10.0.0.3:25, weight 100, backup)",
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


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            at_pool("sticky: {ttl: 1h}"),
            at_pool("sticky: {ttl: 2h, prefix4: 8, prefix6: 48}"),
            "pool farm: sticky prefix4 24 -> 8; pool farm: sticky prefix6 64 -> 48;"
            " pool farm: sticky ttl 1h -> 2h",
        ),
        (at_pool("sticky: {}"), MINIMAL, "pool farm: sticky ttl 4h -> none"),
        (
            at_pool("queue: {wait: 1500ms}"),
            at_pool("queue: {length: 5}"),
            "pool farm: queue 200 for 1500ms -> 5 for 20s",
        ),
        (
            at_listener("limits: {per_source: {sessions: 5, exempt: [10.0.0.0/8]}}"),
            at_listener("limits: {per_source: {sessions: 5, prefix6: 48, exempt: ['::1']}}"),
            "listener mx: per_source prefix6 64 -> 48;"
            " listener mx: exempt: ::1/128 added, 10.0.0.0/8 removed",
        ),
        (
            at_listener("limits: {per_source: {sessions: 5, rate: 5/h}}"),
            MINIMAL,
            "listener mx: sessions per source 5 -> none;"
            " listener mx: rate per source 5/h (5 at once) -> none",
        ),
        (
            at_listener("deny: [10.0.0.0/8, 10.0.0.0/9]"),
            at_listener("deny: [10.0.0.0/9, 10.0.0.0/8]"),
            "listener mx: deny: in another order",
        ),
        (
            at_listener(f"deny: {[f'10.0.0.{n}' for n in range(200)]}"),
            at_listener(f"deny: {[f'10.0.0.{n}' for n in range(1, 200)]}"),
            "listener mx: deny: 10.0.0.0/32 removed",
        ),
        (
            MINIMAL.replace("b: 10.0.0.2:25", "b: {address: 10.0.0.2:25, backup: true}"),
            MINIMAL,
            "pool farm: server b: not a backup any more",
        ),
    ],
)
def test_sentence_of_two(old: str, new: str, sentence: str) -> None:
    assert describe(state(old), state(new)) == sentence


def test_what_operators_deny_is_told() -> None:
    before = state()
    after = replace(before, denied=("192.0.2.0/24",))
    assert describe(before, after) == "denied: 192.0.2.0/24 added"
    assert describe(after, before) == "denied: 192.0.2.0/24 removed"
    assert changed_server_states(before, after) is None


def down(names: str) -> dict[ServerKey, Health]:
    """Of those servers, and up the others."""
    return {ServerKey("farm", name): Health.DOWN if name in names else Health.UP for name in "ab"}


def test_where_a_panic_begins_and_ends() -> None:
    whole, half, none, unknown = (
        fold(config(), health, NOTHING_SAID, hostname="h", room=ROOM)
        for health in (down(""), down("a"), down("ab"), {})
    )
    assert list(panics(None, unknown)) == list(panics(whole, half)) == []
    assert list(panics(None, none)) == [("farm", True, "0 of 2 servers up")]
    assert list(panics(half, none)) == [("farm", True, "0 of 2 servers up")]
    assert list(panics(none, none)) == []
    assert list(panics(none, half)) == [("farm", False, "1 of 2 servers up")]
    # Who was taken out of use isn't counted, then and later.
    words = Overrides(states={"farm/a": StateWord(state="drain", by="root", at=0.0)})
    told, up = (
        fold(config(), health, words, hostname="h", room=ROOM) for health in (down("ab"), down("a"))
    )
    assert list(panics(None, told)) == [("farm", True, "0 of 1 server up")]
    assert list(panics(told, up)) == [("farm", False, "1 of 1 server up")]
    assert describe(half, none) == (
        "pool farm: server a: down -> panic; pool farm: server b: up -> panic"
    )
    assert changed_server_states(half, none) == dict.fromkeys(down(""), ServerState.PANIC)


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
    fewer, none = at_pool("outlier: {consecutive: 3, base: 1m}"), at_pool("outlier: none")
    assert list(settings(config(), config(fewer))) == [
        "pool farm: outlier consecutive 5 -> 3",
        "pool farm: outlier base 30s -> 1m",
    ]
    whole = "consecutive 5, max_ejected 50%, base 30s"
    said = list(settings(config(), config(none)))
    assert said == [f"pool farm: outlier {whole} -> none"]
    assert list(settings(config(none), config())) == [f"pool farm: outlier none -> {whole}"]
    plain, known, other = (
        at_pool(f"check: {{kind: http, header: {{{header}}}}}")
        for header in ("", "Authorization: old, Host: a", "Authorization: new, Host: a")
    )
    # What the headers have is nobody else's to know.
    assert list(settings(config(known), config(other))) == [
        "pool farm: check header Authorization changed"
    ]
    assert list(settings(config(plain), config(known))) == [
        "pool farm: check header Authorization, Host changed"
    ]
    share = at_pool("panic: 7%")
    assert list(settings(config(), config(share))) == ["pool farm: panic 50% -> 7%"]
    assert list(settings(config(new), config())) == ["admin: operators root @root -> none"]
