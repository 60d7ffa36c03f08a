"""The fold: pure, in the file's order, nobody is up without a check; and when a pool panics."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailweir.config.words import DryRun, Refuse
from mailweir.spec import (
    DesiredAccess,
    DesiredHashKey,
    DesiredPerSource,
    DesiredQueue,
    DesiredRate,
    DesiredSource,
    DesiredState,
    DesiredSticky,
    ServerKey,
    ServerState,
)
from mailweir.state.desired import Health, ending, fold
from mailweir.state.overrides import Overrides, StateWord, WeightWord, Word
from unit.fakes import MINIMAL, NOTHING_SAID, ROOM, config

A, B = ServerKey("farm", "a"), ServerKey("farm", "b")


def folded(
    text: str = MINIMAL,
    health: dict[ServerKey, Health] | None = None,
    overrides: Overrides = NOTHING_SAID,
) -> DesiredState:
    return fold(config(text), health or {}, overrides, hostname="lb1", room=ROOM)


def test_everything_arrives() -> None:
    state = folded(health={A: Health.UP})
    assert state.hostname == "lb1"
    (listener,) = state.listeners
    assert (listener.name, listener.bind, listener.pool) == ("mx", ("192.0.2.1:25",), "farm")
    assert listener.timeouts.idle_server == 660.0
    assert [(s.name, s.address, s.weight) for s in state.pools[0].servers] == [
        ("a", "10.0.0.1:25", 100),
        ("b", "10.0.0.2:25", 100),
    ]


@pytest.mark.parametrize(
    ("key", "health", "words", "ends"),
    [
        ("on_down: end", {A: Health.UP, B: Health.DOWN}, NOTHING_SAID, {B}),
        ("on_down: leave", {A: Health.UP, B: Health.DOWN}, NOTHING_SAID, set()),
        ("panic: 0%", {A: Health.UP, B: Health.DOWN}, NOTHING_SAID, set()),
        # Nobody has checked it yet: after `maint` and `ready`, say.
        ("on_down: end", {A: Health.UP}, NOTHING_SAID, set()),
        ("on_down: end", {A: Health.UP, B: Health.DRAIN}, NOTHING_SAID, set()),
        # More likely the checks are wrong.
        ("on_down: end", {A: Health.DOWN, B: Health.DOWN}, NOTHING_SAID, set()),
        ("{on_down: end, panic: 0%}", {A: Health.DOWN, B: Health.DOWN}, NOTHING_SAID, {A, B}),
        # An operator has its sessions end in their own time.
        ("on_down: end", {A: Health.UP, B: Health.DOWN}, "drain", set()),
    ],
)
def test_whose_sessions_end(
    key: str, health: dict[ServerKey, Health], words: Overrides | str, ends: set[ServerKey]
) -> None:
    text = MINIMAL + "".join(f"    {one.strip()}\n" for one in key.strip("{}").split(","))
    if isinstance(words, str):
        drain = StateWord(state="drain", by="root", at=0.0)
        words = Overrides(states={str(B): drain})
    assert ending(config(text), folded(text, health, words), health) == ends


def test_who_is_let_in_arrives() -> None:
    (plain,) = folded().listeners
    assert (plain.access, plain.refuse) == (DesiredAccess((), (), True, 554), Refuse.REPLY)
    assert (plain.per_source, plain.dry_run) == (None, ())
    keys = """pool: farm
    allow: [10.0.0.0/8, 10.0.0.0/8, 192.0.2.1]
    deny: [10.1.0.0/16]
    deny_code: 421
    refuse: drop
    limits:
      dry_run: [sessions, access, access]
      per_source: {sessions: 20, rate: 100/min, prefix4: 24, prefix6: 48, exempt: ["::1"]}
"""
    text = MINIMAL.replace("pool: farm\n", keys, 1)
    (listener,) = folded(text).listeners
    allow, deny = ("10.0.0.0/8", "192.0.2.1/32"), ("10.1.0.0/16",)
    assert listener.access == DesiredAccess(allow, deny, False, 421)
    assert (listener.refuse, listener.dry_run) == (Refuse.DROP, (DryRun.ACCESS, DryRun.SESSIONS))
    source = DesiredSource(24, 48)
    rate = DesiredRate(count=100, period=60.0, burst=100)
    assert listener.per_source == DesiredPerSource(20, rate, source, ("::1/128",))
    for burst, found in (("burst: 7, ", 7), ("burst: auto, ", 100)):
        (listener,) = folded(text.replace("sessions: 20, ", burst)).listeners
        assert listener.per_source == DesiredPerSource(
            None, DesiredRate(100, 60.0, found), source, ("::1/128",)
        )
    (listener,) = folded(text.replace("[sessions, access, access]", "true")).listeners
    assert listener.dry_run == tuple(DryRun)


def test_how_a_server_is_chosen_arrives() -> None:
    (pool,) = folded().pools
    assert (pool.hash_key, pool.sticky) == (DesiredHashKey(DesiredSource(32, 64), ""), None)
    assert (pool.slow_start, pool.queue) == (60.0, None)
    keys = """farm:
    balance: maglev
    hash_key: {prefix4: 24, prefix6: 56, seed: ours}
    sticky: {prefix4: 16, ttl: 1h}
    slow_start: 0s
    queue: {length: 5}
"""
    text = MINIMAL.replace("farm:\n", keys).replace(
        "b: 10.0.0.2:25", "b: {address: 10.0.0.2:25, backup: true}"
    )
    (pool,) = folded(text).pools
    assert pool.hash_key == DesiredHashKey(DesiredSource(24, 56), "ours")
    assert pool.sticky == DesiredSticky(DesiredSource(prefix4=16, prefix6=64), ttl=3600.0)
    assert (pool.slow_start, pool.queue) == (0.0, DesiredQueue(length=5, wait=20.0))
    assert [server.backup for server in pool.servers] == [False, True]


def test_what_operators_deny_arrives() -> None:
    word = Word(by="root", at=0.0)
    said = Overrides(denied={"192.0.2.0/24": word, "2001:db8::/32": word})
    assert folded(overrides=said).denied == ("192.0.2.0/24", "2001:db8::/32")
    assert folded().denied == ()


def test_prefixes_are_joined_once() -> None:
    """A fold is made at each change of a server's health, a list may have a million of them."""
    loaded = config(MINIMAL.replace("pool: farm\n", "pool: farm\n    deny: [10.0.0.0/8]\n", 1))
    one, other = (
        fold(loaded, {}, NOTHING_SAID, hostname="h", room=ROOM).listeners[0] for _ in range(2)
    )
    assert one.access.deny is other.access.deny


@given(st.dictionaries(st.sampled_from([A, B, ServerKey("x", "y")]), st.sampled_from(Health)))
def test_a_server_is_up_only_if_a_check_said_so(health: dict[ServerKey, Health]) -> None:
    before = dict(health)
    state = folded(health=health)
    assert state == folded(health=health)
    assert health == before
    for key, value in state.server_states().items():
        assert (value is ServerState.UP) == (health.get(key) is Health.UP)


# Of one server: what the file says, what checks say, what operators say.
SERVERS = st.tuples(
    st.sampled_from([0, 1, 100]),
    st.booleans(),
    st.sampled_from([*Health, None]),
    st.sampled_from(["drain", "maint", None]),
    st.sampled_from(["0", "0%", "50%", "7", None]),
)


@given(st.lists(SERVERS, min_size=1, max_size=8), st.integers(0, 100))
def test_when_a_pool_panics_and_what_of_it(
    servers: list[tuple[int, bool, Health | None, str | None, str | None]], percent: int
) -> None:
    """By the words of the configuration's own description, counted in whole numbers."""
    # Never a backup: a pool of backups alone is none.
    lines = [f"farm:\n    panic: {percent}%", "    servers:", "      ours: 10.0.1.1:25"]
    lines += [
        f"      s{n}: {{address: 10.0.0.{n + 1}:25, weight: {weight}, backup: {backup}}}".lower()
        for n, (weight, backup, *_) in enumerate(servers)
    ]
    text = MINIMAL.partition("farm:\n")[0] + "\n".join(lines) + "\n"
    keys = [ServerKey("farm", f"s{n}") for n in range(len(servers))]
    health = {
        key: known for key, (_, _, known, _, _) in zip(keys, servers, strict=True) if known
    } | {ServerKey("farm", "ours"): Health.UP}
    by = {"by": "root", "at": 0.0}
    said = Overrides.model_validate(
        {
            "states": {
                "farm/ours": {"state": "maint", **by},
                **{
                    str(k): {"state": s[3], **by}
                    for k, s in zip(keys, servers, strict=True)
                    if s[3]
                },
            },
            "weights": {
                str(k): {"weight": s[4], **by} for k, s in zip(keys, servers, strict=True) if s[4]
            },
        }
    )
    found = folded(text, health, said)
    states = found.server_states()
    weights = {server.name: server.weight for server in found.pools[0].servers}

    may = [
        key for key, one in zip(keys, servers, strict=True) if not one[3] and weights[key.server]
    ]
    backups = {key for key, one in zip(keys, servers, strict=True) if one[1]}
    up = {key for key in may if health.get(key) is Health.UP}
    counted = [key for key in may if key not in backups]
    enough = not counted or Fraction(len(up - backups), len(counted)) >= Fraction(percent, 100)
    stood_in = not up - backups and bool(up & backups)
    panics = not enough and not stood_in
    for key in keys:
        found_bad = {Health.DOWN: ServerState.DOWN, Health.DRAIN: ServerState.DRAIN}
        if key in may and (alone := found_bad.get(health.get(key, Health.UNKNOWN))):
            assert states[key] is (ServerState.PANIC if panics else alone)
        else:
            assert states[key] is not ServerState.PANIC
    assert {key for key in keys if states[key] is ServerState.UP and key in may} == up


FOUR = MINIMAL + "      c: 10.0.0.3:25\n      d: 10.0.0.4:25\n"
ALL = [ServerKey("farm", name) for name in "abcd"]


def states_of(
    up: str, ejected: str, text: str = FOUR, overrides: Overrides = NOTHING_SAID
) -> dict[str, ServerState]:
    """Those in `up` pass their checks."""
    health = {key: Health.UP if key.server in up else Health.DOWN for key in ALL}
    out = {ServerKey("farm", name) for name in ejected}
    found = fold(config(text), health, overrides, hostname="h", room=ROOM, ejected=out)
    return {key.server: state for key, state in found.server_states().items()}


def test_an_ejected_server_gets_no_new_sessions_while_it_would_be_up() -> None:
    ejected, up, down = ServerState.EJECTED, ServerState.UP, ServerState.DOWN
    assert states_of("abcd", "ab") == {"a": ejected, "b": ejected, "c": up, "d": up}
    # What checks and operators say stands above.
    assert states_of("bcd", "ab") == {"a": down, "b": ejected, "c": up, "d": up}
    word = StateWord(by="root", at=0.0, state="maint")
    found = states_of("abcd", "a", overrides=Overrides(states={"farm/a": word}))
    assert found["a"] is ServerState.MAINT


def test_ejected_servers_are_used_where_there_are_no_others() -> None:
    up, panic, down = ServerState.UP, ServerState.PANIC, ServerState.DOWN
    # With them the pool isn't in panic.
    assert states_of("ab", "a") == {"a": up, "b": up, "c": down, "d": down}
    # Nor is it without them enough.
    assert states_of("a", "a") == {"a": up, "b": panic, "c": panic, "d": panic}
    never = FOUR.replace("    servers:", "    panic: 0%\n    servers:")
    assert states_of("a", "a", never) == {"a": up, "b": down, "c": down, "d": down}
    backup = FOUR.replace("b: 10.0.0.2:25", "b: {address: 10.0.0.2:25, backup: true}")
    assert states_of("b", "b", backup)["b"] is up


@pytest.mark.parametrize(
    ("up", "down", "unknown", "percent", "panics"),
    [
        (1, 1, 0, 50, False),
        (1, 2, 0, 50, True),
        (0, 2, 0, 50, True),
        (0, 1, 1, 1, True),
        (0, 2, 0, 0, False),
        (99, 1, 0, 100, True),
        (2, 0, 0, 100, False),
        # Shares that a double doesn't have exactly.
        (7, 93, 0, 7, False),
        (29, 71, 0, 29, False),
        (28, 72, 0, 29, True),
        # Nobody was checked yet: that is a start, no panic.
        (0, 0, 3, 50, False),
    ],
)
def test_the_edge_of_a_panic(up: int, down: int, unknown: int, percent: int, panics: bool) -> None:
    kinds = [Health.UP] * up + [Health.DOWN] * down + [Health.UNKNOWN] * unknown
    servers = "".join(f"      s{n}: 10.0.0.{n + 1}:25\n" for n in range(len(kinds)))
    head = MINIMAL.partition("    servers:\n")[0]
    text = f"{head}    panic: {percent}%\n    servers:\n{servers}"
    health = {ServerKey("farm", f"s{n}"): kind for n, kind in enumerate(kinds)}
    states = list(folded(text, health).server_states().values())
    expected = [ServerState.UP] * up
    expected += [ServerState.PANIC if panics else ServerState.DOWN] * down
    assert states == expected + [ServerState.DOWN] * unknown


def test_words_of_operators_count_in_a_panic() -> None:
    """Two of three out for maintenance, the third up: that is all of what there is."""
    text = MINIMAL + "      c: 10.0.0.3:25\n"
    health = {A: Health.UP, B: Health.DOWN, ServerKey("farm", "c"): Health.DOWN}
    assert ServerState.PANIC in folded(text, health).server_states().values()
    out = StateWord(by="root", at=0.0, state="maint")
    said = Overrides(states={"farm/b": out, "farm/c": out})
    assert ServerState.PANIC not in folded(text, health, said).server_states().values()
    light = WeightWord(by="root", at=0.0, weight="0")
    said = Overrides(weights={"farm/b": light, "farm/c": light})
    assert ServerState.PANIC not in folded(text, health, said).server_states().values()
