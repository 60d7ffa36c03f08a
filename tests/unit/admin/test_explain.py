"""What would become of a client: let in or not, which server, why not another, which path."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any, cast

import pytest
from msgspec import structs

from mailweir.admin.answers.explain import client_of, explain
from mailweir.admin.text import explanation
from mailweir.config.words import Balance
from mailweir.errors import UnknownError
from mailweir.health.outliers import Ejection
from mailweir.health.suspicion import EjectionCause
from mailweir.situation import Situation
from mailweir.spec import ServerKey
from mailweir.state.desired import fold
from mailweir.state.overrides import Overrides, StateWord, Word
from mailweir.stats import Admission, OverflowStats, ServerStats
from unit import figures
from unit.admin.situations import situation
from unit.fakes import MINIMAL, ROOM, FakePlane, config

_CLIENT = ip_address("192.0.2.9")
_SHARE = EjectionCause.SHARE


def at_listener(keys: str) -> str:
    """A configuration whose listener has these keys too."""
    keys = keys.removeprefix("{").removesuffix("}") if keys.startswith("{") else keys
    mx = f"  mx: {{bind: ['192.0.2.1:25'], pool: farm, {keys}}}\n"
    return f"listeners:\n{mx}{MINIMAL[MINIMAL.index('pools:') :]}"


def in_pool(keys: str, servers: str = "a: 10.0.0.1:25, b: 10.0.0.2:25") -> str:
    """A configuration whose pool has these keys."""
    pool = f"  farm: {{servers: {{{servers}}}, {keys}}}\n"
    return f"{MINIMAL[: MINIMAL.index('pools:')]}pools:\n{pool}"


def refusing(reason: str, text: str) -> Situation:
    """One that refuses the client."""
    return replace(situation(text=text), admission=lambda *_: Admission(reason, []))


def with_servers(now: Situation, *found: ServerStats, following: str | None) -> Situation:
    """The same with these servers, of which one is the next."""
    key = ServerKey("farm", following) if following else None
    return replace(now, read_servers=lambda: found, next_server=lambda *_: key)


def server(name: str, state: str = "up", **more: Any) -> ServerStats:
    """A server of the pool."""
    return figures.server_stats("farm", name, "10.0.0.1:25", more.pop("weight", 100), state, **more)


def said(now: Situation, client: str = "192.0.2.9", listener: str | None = None) -> dict[str, Any]:
    (found,) = cast(list[dict[str, Any]], explain(now, ip_address(client), listener)["listeners"])
    return found


def test_the_next_one_and_why_not_the_other() -> None:
    found = said(situation())
    assert (found["refused"], found["next"], found["balance"]) == (None, "a", "least_conn")
    a, b = found["servers"]
    assert (a["next"], a["usable"], a["why"]) == (True, True, "the fewest sessions for its weight")
    assert (b["next"], b["usable"], b["why"]) == (False, False, "down: greeting: 421 <b>busy</b>")


def test_one_that_is_ejected() -> None:
    now = replace(situation(), ejection=lambda _: Ejection(_SHARE, "why", 40.0, 75.0, 2))
    found = said(with_servers(now, server("a", "ejected"), server("b"), following="b"))
    a, b = found["servers"]
    assert (a["usable"], a["why"]) == (False, "ejected: why")
    assert b["next"]


def test_in_words() -> None:
    now = situation()
    stats = structs.replace(now.stats, kernel_path=figures.KERNEL_PATH)
    text = explanation(explain(replace(now, stats=stats), _CLIENT, None))
    assert text.splitlines() == [
        "192.0.2.9 at listener mx (192.0.2.1:25) would get farm/a, through the kernel if it can",
        "sessions there: 1, without a cap of its own; least_conn",
        "SERVER  USABLE  SESSIONS  WEIGHT  WHY",
        "farm/a  next           2     100  the fewest sessions for its weight",
        "farm/b  no             2     100  down: greeting: 421 <b>busy</b>",
    ]
    assert "no listener" in explanation(explain(situation(), ip_address("2001:db8::9"), None))


@pytest.mark.parametrize(
    ("course", "share", "following", "why"),
    [
        ("home", 1.0, ServerKey("farm", "a"), "spare where farm has no server for a session"),
        ("home", 1.0, ServerKey("spare", "x"), "every server of farm is full: this one goes to"),
        ("elsewhere", 0.0, ServerKey("spare", "x"), "to spare: no server of farm is up, or not"),
        ("coming_back", 0.4, ServerKey("farm", "a"), "40% go to farm again, the rest to spare"),
    ],
)
def test_a_pool_that_overflows(course: str, share: float, following: ServerKey, why: str) -> None:
    text = in_pool("overflow: [spare]") + "  spare: {servers: {x: 10.0.0.9:25}}\n"
    now = situation(text=text)
    pool = figures.pool_stats("farm", overflow=OverflowStats(course, share, 1, {}))
    stats = structs.replace(now.stats, pools=(pool,))
    found = [server("a"), figures.server_stats("spare", "x", "10.0.0.9:25", 100, "up")]
    now = replace(now, stats=stats, read_servers=lambda: found, next_server=lambda *_: following)
    told = said(now)
    assert told["overflow"].startswith(why)
    assert [(one["pool"], one["next"]) for one in told["servers"]] == [
        (name, following.pool == name) for name in ("farm", "spare")
    ]
    assert ServerKey(told["next_pool"], told["next"]) == following
    nobody = replace(now, next_server=lambda *_: None)
    assert said(nobody)["refused"] == "no server of pool farm, nor of spare takes sessions"


def test_why_it_is_refused() -> None:
    nobody = said(situation(up=""))
    assert nobody["refused"] == "no server of pool farm takes sessions"
    paused = Overrides(paused={"mx": Word(by="root", at=990.0, until=None)})
    assert str(said(situation(overrides=paused))["refused"]).startswith("paused by root")
    now = refusing("full", at_listener("limits: {sessions: 1}"))
    assert "the listener has as many sessions as it may: 1" in said(now)["refused"]
    assert "REFUSED: the listener" in explanation(explain(now, _CLIENT, None))
    stats = structs.replace(now.stats, active=9000)
    assert "the process has as many" in said(replace(now, stats=stats))["refused"]


@pytest.mark.parametrize(
    ("reason", "keys", "why"),
    [
        (
            "source_sessions",
            "limits: {per_source: {sessions: 20}}",
            "as many sessions as it may: 20",
        ),
        ("source_rate", "limits: {per_source: {rate: 100/min}}", "more often than it may: 100/min"),
        ("out_of_descriptors", "", "out of descriptors"),
        ("denied", "deny: [192.0.2.0/24]", "denied: `deny` has 192.0.2.0/24"),
        ("denied", "allow: [10.0.0.0/8]", "denied: `allow` hasn't this address"),
    ],
)
def test_why_this_client_is_refused(reason: str, keys: str, why: str) -> None:
    now = refusing(reason, at_listener(keys))
    assert str(said(now)["refused"]).endswith(why)
    assert f"REFUSED: {said(now)['refused']}\n" in explanation(explain(now, _CLIENT, None))


@pytest.mark.parametrize(
    ("keys", "access"),
    [
        ("", None),
        ("deny: [198.51.100.0/24]", None),
        ("{deny: [192.0.2.0/24], allow: [192.0.2.8/30]}", "`allow` has 192.0.2.8/30"),
        ("{allow: [0.0.0.0/0], deny: [192.0.2.9]}", "`deny` has 192.0.2.9/32"),
        (
            "{deny: [192.0.2.9], limits: {dry_run: true}}",
            "`deny` has 192.0.2.9/32, which is only counted (dry_run)",
        ),
        (
            "{allow: [10.0.0.0/8], limits: {dry_run: [access]}}",
            "`allow` hasn't this address, which is only counted (dry_run)",
        ),
    ],
)
def test_what_lists_say_of_a_client(keys: str, access: str | None) -> None:
    now = situation(text=at_listener(keys))
    assert (said(now)["access"], said(now)["refused"]) == (access, None)
    shown = explanation(explain(now, _CLIENT, None))
    assert ("of this client: " in shown) == bool(access)


def test_what_limits_say_of_a_client() -> None:
    keys = "limits: {sessions: 5, per_source: {sessions: 2, rate: 9/s, exempt: [192.0.0.0/8]}}"
    would_refuse = ["access", "source_sessions", "source_rate", "sessions"]
    now = replace(
        situation(text=at_listener(keys)), admission=lambda *_: Admission(None, would_refuse)
    )
    limits = [
        "`exempt` has 192.0.0.0/8",
        "its source has as many sessions as it may: 2, which is only counted (dry_run)",
        "its source comes more often than it may: 9/s, which is only counted (dry_run)",
        "the listener has as many sessions as it may: 5, which is only counted (dry_run)",
    ]
    assert (said(now)["limits"], said(now)["refused"]) == (limits, None)
    shown = explanation(explain(now, _CLIENT, None))
    assert all(f"of this client: {limit}\n" in shown for limit in limits)
    assert said(situation(text=at_listener("")))["limits"] == []


def test_an_operators_deny_is_said_first() -> None:
    denied = {"192.0.2.0/24": Word(by="anna", at=990.0), "10.0.0.0/8": Word(by="root", at=1.0)}
    now = refusing("denied", at_listener("allow: [192.0.2.9]"))
    now = replace(now, overrides=Overrides(denied=denied))
    assert said(now)["refused"] == "denied: deny 192.0.2.0/24 by anna 10s ago"


def test_what_operators_said_of_a_server() -> None:
    drained = StateWord(state="drain", by="root", at=990.0, until=None)
    words, plane = Overrides(states={"farm/a": drained}), FakePlane()
    plane.apply(fold(config(), {}, words, hostname="h", room=ROOM))
    a, _ = said(situation(plane, overrides=words))["servers"]
    assert a["why"] == "drain by root 10s ago"


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ("balance: round_robin", "it is its turn"),
        (
            "balance: random_two",
            "the fewer sessions of two at random; the next time it may be another",
        ),
        ("balance: source_hash", "the client's address hashes to it"),
        ("balance: maglev", "the client's address hashes to it"),
        (
            "balance: least_load",
            "the least load: sessions, time to greeting and bytes for its weight",
        ),
        (
            "sticky: {by: source}",
            "it had this client's last session, or else the fewest sessions for its weight",
        ),
    ],
)
def test_why_by_each_way_to_choose(keys: str, why: str) -> None:
    assert said(situation(text=in_pool(keys)))["servers"][0]["why"] == why


@pytest.mark.parametrize("balance", Balance)
def test_every_way_to_choose_has_its_words(balance: Balance) -> None:
    assert said(situation(text=in_pool(f"balance: {balance}")))["servers"][0]["next"]


def whys(now: Situation) -> dict[str, tuple[bool, str]]:
    return {one["name"]: (one["usable"], one["why"]) for one in said(now)["servers"]}


def test_slow_start_and_backups() -> None:
    slow, backup = server("a", ramp=0.358), server("b", backup=True)
    now = with_servers(situation(), slow, backup, following="a")
    assert whys(now) == {
        "a": (True, "the fewest sessions for its weight; slow start: 35% of its weight"),
        "b": (False, "a backup, and others are in use"),
    }
    now = with_servers(situation(), server("a", weight=0), backup, following="b")
    assert whys(now) == {
        "a": (False, "weight 0"),
        "b": (True, "the fewest sessions for its weight; a backup: no other is in use"),
    }


def test_a_backup_has_nothing_to_do_with_full_servers() -> None:
    text = in_pool("balance: least_conn", "a: {address: 10.0.0.1:25, max_sessions: 2}")
    now = with_servers(situation(text=text), server("a"), server("b", backup=True), following=None)
    assert whys(now) == {
        "a": (False, "it has as many sessions as it may: 2"),
        "b": (False, "a backup, and others are in use"),
    }


def test_panic() -> None:
    down, up = server("a", "panic", ramp=0.0), server("b")
    now = with_servers(situation(), down, up, following="b")
    assert whys(now)["a"] == (True, "it could be; tried although it is down (panic)")


def test_panic_where_all_failed_a_session() -> None:
    now = with_servers(situation(), server("a", "panic"), server("b", "panic"), following=None)
    why = "it failed a session, and is left alone for 10 s (panic)"
    assert whys(now) == {"a": (False, why), "b": (False, why)}


def waiting(text: str, *, number: int, active: int = 2) -> Situation:
    """Every server that is up is full where `active` is 2."""
    now = with_servers(situation(text=text), server("a", active=active), following=None)
    stats = structs.replace(now.stats, pools=(figures.pool_stats("farm", waiting=number),))
    return replace(now, stats=stats)


def test_waiting_for_a_place() -> None:
    full = "a: {address: 10.0.0.1:25, max_sessions: 2}"
    queue = in_pool("queue: {length: 5, wait: 20s}", full)
    now = waiting(queue, number=3)
    found = said(now)
    assert (found["refused"], found["next"]) == (None, None)
    assert found["queue"] == {"waiting": 3, "length": 5, "wait": 20.0}
    shown = explanation(explain(now, _CLIENT, None)).splitlines()
    assert shown[0].endswith(" would wait for a place at a server of pool farm")
    assert shown[2] == "waiting for a place: 3 of 5, for 20 s at most"
    no_room = said(waiting(queue, number=5))
    assert no_room["refused"] == "every server of pool farm is full, and so is its queue: 5"
    nobody = said(waiting(in_pool("balance: least_conn", full), number=0))
    assert (nobody["refused"], nobody["queue"]) == ("no server of pool farm takes sessions", None)
    down = with_servers(situation(text=queue), server("a", "down"), following=None)
    assert said(down)["refused"] == "no server of pool farm takes sessions"


@pytest.mark.parametrize(
    ("text", "client", "why"),
    [
        (f"forwarding: relay\n{MINIMAL}", "192.0.2.9", "forwarding: relay"),
        (MINIMAL.replace("pool: farm", "pool: farm\n    protocol: smtps"), "192.0.2.9", "protocol"),
        (MINIMAL, "2001:db8::9", "ipv6"),
        (MINIMAL, "127.0.0.1", "interface"),
    ],
)
def test_why_it_would_be_relayed(text: str, client: str, why: str) -> None:
    assert str(said(situation(text=text), client, "mx")["relayed"]).startswith(why)


def test_where_there_is_no_kernel_path() -> None:
    now = situation()
    stats = structs.replace(now.stats, kernel_path=None, no_kernel_path=figures.NO_KERNEL_PATH)
    assert said(replace(now, stats=stats))["relayed"] == "no BPF"


def test_a_listener_that_isnt_there() -> None:
    with pytest.raises(UnknownError, match="no listener my; there are mx"):
        explain(situation(), _CLIENT, "my")


@pytest.mark.parametrize(
    ("written", "client"),
    [
        ("192.0.2.9", "192.0.2.9"),
        ("::ffff:192.0.2.9", "192.0.2.9"),
        ("FE80:0::1%eth0", "fe80::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_client_is_what_a_listener_sees(written: str, client: str) -> None:
    found = client_of(written)
    assert str(found) == client
    assert explain(situation(text=at_listener("deny: [10.0.0.0/8]")), found, "mx")["listeners"]


@pytest.mark.parametrize("written", ["", "mx.example", "192.0.2.9:25", "1%1", "%", "\x1b[2J"])
def test_what_is_no_client(written: str) -> None:
    with pytest.raises(ValueError, match="must be an IP address without a port"):
        client_of(written)
