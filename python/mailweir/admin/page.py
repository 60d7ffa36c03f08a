"""The page: whether mail is served, the listeners and the servers; it refreshes itself. No script,
no file of its own. Fit for a phone: there each row becomes a block.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from html import escape
from typing import Any

from mailweir.admin import text
from mailweir.admin.answers.servers import server, servers
from mailweir.admin.answers.status import kernel_path, listeners, pools, role
from mailweir.admin.rates import Rates, Rising
from mailweir.admin.readiness import failing, panics, unready
from mailweir.admin.text import check_told, overflows, span, state
from mailweir.situation import Situation
from mailweir.spec import ServerKey
from mailweir.state.overrides import told
from mailweir.stats import ServerStats

_LISTENERS = ("listener", "addresses", "pool", "state", "sessions", "new/s", "accepted", "refused")
_SERVERS = (
    "server",
    "address",
    "state",
    "weight",
    "sessions",
    "new/s",
    "taken",
    "failed",
    "last check",
    "operator",
)


def _names(table: str, columns: Sequence[str]) -> str:
    """On a phone, each value's column beside it. Not in the cells: there may be thousands."""
    return "".join(
        f'.{table} td:nth-child({number})::before{{content:"{column}"}}'
        for number, column in enumerate(columns, start=1)
    )


_STYLE = (
    ":root{color-scheme:light}"
    "body{font:14px/1.5 system-ui,sans-serif;margin:1.5em;color:#222;background:#fff}"
    "h1{font-size:1.5em;margin:0 0 .4em}h2{font-size:1.1em;margin:1.4em 0 .3em}"
    "p,ul{margin:.4em 0}ul{padding-left:1.2em}a{color:#04c}pre{white-space:pre-wrap}"
    ".status{padding:.3em .7em;border-radius:.3em;color:#fff;font-weight:600}"
    "p.ready{background:#060;display:inline-block}p.unready{background:#a00}"
    ".notes{color:#850}.facts{color:#555}"
    "table{border-collapse:collapse}"
    "th,td{border-bottom:1px solid #ddd;padding:.25em .7em;text-align:left;vertical-align:top}"
    "th{color:#555;font-weight:600}.n{text-align:right;white-space:nowrap}"
    ".up{color:#060}.drain,.maint,.ejected{color:#850}.down,.panic{color:#a00}"
    "@media(max-width:60em){body{margin:1em .8em}"
    "table,tbody,tr,td{display:block}thead{display:none}"
    "tr{border:1px solid #ccc;border-radius:.3em;margin:.6em 0;padding:.2em .6em}"
    "td{border:0;padding:.1em 0 .1em 5.7em;min-height:1.5em;position:relative;"
    "overflow-wrap:anywhere}td:empty{display:none}"
    "td.n{display:inline-block;width:50%;box-sizing:border-box;text-align:left}"
    "td::before{position:absolute;left:0;color:#555}"
    "td:first-child{font-weight:600}"
    f"{_names('listeners', _LISTENERS)}{_names('servers', _SERVERS)}}}"
)
_STYLE_HASH = b64encode(sha256(_STYLE.encode()).digest()).decode()

# Nothing is loaded from anywhere, nothing runs, and nobody may frame it.
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}';"
    " frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def render(situation: Situation, rates: Rates) -> str:
    """The page as HTML; `rates` are those of all who look at it."""
    reasons = unready(situation)
    said = f"NOT READY: {'; '.join(reasons)}" if reasons else "ready"
    rising = rates.look(situation.moment)
    notes = "".join(f"<li>{escape(note)}</li>" for note in _notes(situation))
    of_listeners = [_listener(one, rising) for one in listeners(situation)]
    of_servers = [
        _server(one, stats, rising)
        for one, stats in zip(servers(situation), situation.servers, strict=True)
    ]
    return _document(
        f"mailweir on {situation.hostname}",
        f'<p class="status {"unready" if reasons else "ready"}">{escape(said)}</p>'
        f"{f'<ul class=notes>{notes}</ul>' if notes else ''}"
        f'<p class="facts">{escape(", ".join(_facts(situation)))}</p>'
        f"<h2>Listeners</h2>{_table('listeners', _LISTENERS, of_listeners)}"
        f"<h2>Servers</h2>{_table('servers', _SERVERS, of_servers)}",
    )


def render_server(situation: Situation, key: ServerKey) -> str:
    """The page of one server: its checks with their last results. Raises UnknownError."""
    text_of = text.server(server(situation, key))
    return _document(
        f"{key} on {situation.hostname}",
        f'<p><a href="/">all servers</a></p><pre>{escape(text_of)}</pre>',
    )


def _document(title: str, body: str) -> str:
    """`body` is HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="refresh" content="5"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )


def _table(name: str, columns: Sequence[str], rows: Sequence[str]) -> str:
    """`rows` are HTML."""
    heads = "".join(f"<th>{column}</th>" for column in columns)
    body = "".join(rows)
    return f'<table class="{name}"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def _notes(situation: Situation) -> Iterator[str]:
    """What somebody should see to."""
    yield from panics(situation)
    yield from failing(situation)
    yield from text.refused_load(asdict(situation.last_load))
    yield from text.kernel_path_lacks(kernel_path(situation.stats))
    if situation.socket_problem:
        yield f"admin socket: {situation.socket_problem}"
    # What is said of servers stands beside them; denies may be thousands.
    words = situation.overrides.words()
    pauses = (one for one in words if one[0].startswith("pause"))
    yield from (f"operator: {what} {told(word, situation.now)}" for what, word in pauses)
    if situation.not_kept:
        yield f"operators' words won't outlive the process: {situation.not_kept}"
    if times := sum(fault.times for fault in situation.faults):
        yield f"{times} internal errors: see `mailweir status`"
    if dropped := situation.stats.log.dropped:
        yield f"{dropped} sessions are missing from the session log: see `mailweir status`"
    if pair := role(situation):
        yield text.role(pair)
    yield from (text.overflow(pool) for pool in pools(situation) if overflows(pool))


def _facts(situation: Situation) -> Iterator[str]:
    stats, load = situation.stats, situation.last_load
    yield f"{stats.active} sessions"
    if stats.kernel_path:
        yield f"{stats.kernel_path.flows} of them in the kernel"
    yield f"{stats.max_sessions} at most"
    yield from (f"{pool.waiting} wait for {pool.name}" for pool in stats.pools if pool.waiting)
    loaded = f", loaded {span(situation.now - load.at)} ago" if load.ok else ""
    yield f"generation {load.generation}{loaded}"
    yield f"mailweir {situation.version}, up {span(situation.uptime)}"


def _listener(listener: Mapping[str, Any], rising: Rising) -> str:
    name, refused = listener["name"], listener["refused"]
    said = "; ".join(listener["reasons"]) or "ready"
    return _row(
        _cell(name),
        _cell(" ".join(listener["addresses"])),
        _cell(listener["pool"] or ""),
        _cell(said, "up" if listener["ready"] else "down"),
        _cell(_of(listener["active"], listener["max_sessions"]), "n"),
        _cell(_rate(rising("accepted", name, total=listener["accepted"])), "n"),
        _cell(listener["accepted"], "n"),
        _cell(_tallied(refused, rising("refused", name, total=sum(refused.values())))),
    )


def _server(server: Mapping[str, Any], stats: ServerStats, rising: Rising) -> str:
    at = (server["pool"], server["name"])
    link = f'<a href="/servers/{"/".join(at)}">{escape("/".join(at))}</a>'
    failed = {f"connect {why}": n for why, n in stats.connect_failures.items()}
    failed |= {f"greeting {why}": n for why, n in stats.greeting_failures.items()}
    checks = "; ".join([check_told(server["check"]), *map(str, server["alarms"])])
    return _row(
        f"<td>{link}</td>",
        _cell(server["address"]),
        _cell(state(server), server["state"]),
        _cell(server["weight"], "n"),
        _cell(_of(server["active"], server["max_sessions"]), "n"),
        _cell(_rate(rising("taken", *at, total=server["sessions"])), "n"),
        _cell(server["sessions"], "n"),
        _cell(_tallied(failed, rising("failed", *at, total=sum(failed.values())))),
        _cell(checks),
        _cell(server["operator"] or ""),
    )


def _row(*cells: str) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _cell(value: object, kind: str = "") -> str:
    begin = f'<td class="{kind}">' if kind else "<td>"
    return f"{begin}{escape(str(value))}</td>"


def _of(used: int, most: int | None) -> str:
    return f"{used} of {most}" if most else str(used)


def _rate(rate: float | None) -> str:
    """Empty where it isn't known yet."""
    if rate is None:
        return ""
    return f"{rate:.1f}" if rate < 100 else f"{rate:.0f}"


def _tallied(tally: Mapping[str, int], rate: float | None) -> str:
    """Each that there is, and how fast they come together."""
    each = ", ".join(f"{n} {why}" for why, n in tally.items() if n)
    return f"{each} ({_rate(rate)}/s)" if each and rate else each or "0"
