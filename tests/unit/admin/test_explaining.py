"""What would become of a client: let in or not, which server, why not another, which path."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any, cast

import pytest

from mailweir.admin.explaining import explain
from mailweir.admin.text import explanation
from mailweir.admin.views import Situation
from mailweir.errors import UnknownError
from mailweir.state.desired import fold
from mailweir.state.overrides import Overrides, StateWord, Word
from unit.admin.situations import situation
from unit.fakes import MINIMAL, FakePlane, config

_CLIENT = ip_address("192.0.2.9")


def said(now: Situation, client: str = "192.0.2.9", listener: str | None = None) -> dict[str, Any]:
    (found,) = cast(list[dict[str, Any]], explain(now, ip_address(client), listener)["listeners"])
    return found


def test_the_next_one_and_why_not_the_other() -> None:
    found = said(situation())
    assert (found["refused"], found["next"], found["balance"]) == (None, "a", "least_conn")
    a, b = found["servers"]
    assert (a["next"], a["usable"], a["why"]) == (True, True, "the fewest sessions for its weight")
    assert (b["next"], b["usable"], b["why"]) == (False, False, "down: greeting: 421 <b>busy</b>")


def test_in_words() -> None:
    now = situation()
    stats = replace(now.stats, kernel_path=object())  # type: ignore[type-var]
    text = explanation(explain(replace(now, stats=stats), _CLIENT, None))
    assert text.splitlines() == [
        "192.0.2.9 at listener mx (192.0.2.1:25) would get farm/a, through the kernel if it can",
        "sessions there: 1, without a cap of its own; least_conn",
        "SERVER  USABLE  SESSIONS  WEIGHT  WHY",
        "farm/a  next           2     100  the fewest sessions for its weight",
        "farm/b  no             2     100  down: greeting: 421 <b>busy</b>",
    ]
    assert "no listener" in explanation(explain(situation(), ip_address("2001:db8::9"), None))


def test_why_it_is_refused() -> None:
    nobody = said(situation(up=""))
    assert nobody["refused"] == "no server of pool farm takes sessions"
    paused = Overrides(paused={"mx": Word(by="root", at=990.0, until=None)})
    assert str(said(situation(overrides=paused))["refused"]).startswith("paused by root")
    capped = MINIMAL.replace("    pool: farm\n", "    pool: farm\n    limits: {sessions: 1}\n")
    assert "as many sessions as it may: 1" in said(situation(text=capped))["refused"]
    assert "REFUSED: the listener" in explanation(explain(situation(text=capped), _CLIENT, None))


def test_what_operators_said_of_a_server() -> None:
    drained = StateWord(state="drain", by="root", at=990.0, until=None)
    words, plane = Overrides(states={"farm/a": drained}), FakePlane()
    plane.apply(fold(config(), {}, words, hostname="h", max_sessions=9000))
    a, _ = said(situation(plane, overrides=words))["servers"]
    assert a["why"] == "drain by root"


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
    stats = replace(now.stats, kernel_path=None, no_kernel_path="no BPF")  # type: ignore[type-var]
    assert said(replace(now, stats=stats))["relayed"] == "no BPF"


def test_a_listener_that_isnt_there() -> None:
    with pytest.raises(UnknownError, match="no listener my; there are mx"):
        explain(situation(), _CLIENT, "my")
