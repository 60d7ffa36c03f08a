"""The page: what it has, that all of it is escaped, and that nothing in it runs."""

import json
import re
from dataclasses import replace

from mailweir.admin import text as text_of
from mailweir.admin.answers.status import status
from mailweir.admin.page import render, render_server
from mailweir.admin.rates import Rates
from mailweir.config.model import MAIN_CHECK
from mailweir.situation import Situation
from mailweir.state.desired import Health
from mailweir.state.overrides import Overrides, StateWord
from unit import figures
from unit.admin.situations import A, FakeCheck, busy, situation
from unit.fakes import FakePlane

_EVIL = "<script>alert('&\"')</script>"


def page(now: Situation, rates: Rates | None = None) -> str:
    return render(now, rates or Rates())


def _rows(text: str, table: str) -> list[list[str]]:
    """The cells of a table, as HTML."""
    body = text.partition(f'<table class="{table}">')[2].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", body.partition("<tbody>")[2])
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]


def test_it_says_where_it_is_and_whether_mail_is_served() -> None:
    text = page(situation())
    assert "<title>mailweir on lb1</title>" in text
    assert "<h1>mailweir on lb1</h1>" in text
    assert '<p class="status ready">ready</p>' in text
    assert "generation 1, loaded 1m 39s ago, mailweir 1.2.3, up 1m 40s" in text
    text = page(situation(up=""))
    assert '<p class="status unready">NOT READY: pool farm: no server is up</p>' in text


def test_listeners_with_what_they_refused() -> None:
    [row] = _rows(page(busy()), "listeners")
    assert row == ["mx", "192.0.2.1:25", "farm", "ready", "1", "", "7", "9 denied, 2 queue_timeout"]


def test_servers_with_what_failed() -> None:
    row, *_ = _rows(page(busy()), "servers")
    assert row == [
        '<a href="/servers/farm/a">farm/a</a>',
        "10.0.0.1:25",
        "up (slow start 35%)",
        "100",
        "2",
        "",
        "3",
        "1 connect refused, 2 greeting 4xx, 1 greeting timeout",
        "ehlo ok in 12 ms, 10s ago",
        "",
    ]


def test_rates_from_the_second_look() -> None:
    rates, now = Rates(), busy()
    assert page(now, rates)
    listener = figures.listener_stats("mx", accepted=57, ended={"denied": 19, "queue_timeout": 2})
    server = figures.server_stats("farm", "a", "10.0.0.1:25", 100, "up", sessions=1503)
    later = replace(
        now,
        moment=now.moment + 10,
        stats=figures.stats(1, False, 3, [listener]),
        read_servers=lambda: [server],
    )
    text = page(later, rates)
    [row] = _rows(text, "listeners")
    assert row[5:] == ["5.0", "57", "19 denied, 2 queue_timeout (1.0/s)"]
    [row] = _rows(text, "servers")
    assert row[5:7] == ["150", "1503"]
    assert row[7] == "1 connect refused, 2 greeting 4xx, 1 greeting timeout"


def test_all_that_others_say_is_escaped() -> None:
    said = StateWord(by=_EVIL, at=990.0, until=None, state="drain")
    server = figures.server_stats("farm", "a", "10.0.0.1:25", 100, "drain")
    check = FakeCheck(Health.DOWN, "greeting", _EVIL, alarm=_EVIL, name=MAIN_CHECK)
    now = replace(
        situation(overrides=Overrides(states={"farm/a": said})),
        hostname=_EVIL,
        socket_problem=_EVIL,
        not_kept=_EVIL,
        checks=lambda _: [check],
        read_servers=lambda: [server],
    )
    for text in (page(now), render_server(now, A)):
        assert "<script" not in text
        assert text.count("&lt;script&gt;") >= 2
    assert page(now).count("&lt;script&gt;") >= 7


def test_before_the_first_configuration_runs() -> None:
    """The data plane knows of no pool yet."""
    now = situation(FakePlane())
    assert "NOT READY: starting: the listeners aren" in page(now)
    assert "NOT READY: starting" in text_of.status(json.loads(json.dumps(status(now))))


def test_a_refused_load_has_no_age() -> None:
    """It is the time of what was refused."""
    now = situation()
    refused = replace(now.last_load, ok=False, message="f.yaml has 1 problem(s)")
    assert "generation 1, mailweir 1.2.3" in page(replace(now, last_load=refused))


def test_on_a_phone_each_value_has_the_name_of_its_column() -> None:
    text = page(situation())
    for table in ("listeners", "servers"):
        heads = re.findall(
            r"<th>(.*?)</th>", text.partition(f'class="{table}"')[2].partition("</thead>")[0]
        )
        for number, head in enumerate(heads, start=1):
            assert f'.{table} td:nth-child({number})::before{{content:"{head}"}}' in text
    assert '<meta name="viewport" content="width=device-width,initial-scale=1">' in text
