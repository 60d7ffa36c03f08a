"""The page: one plain table of servers that refreshes itself. No script, no file of its own."""

from base64 import b64encode
from dataclasses import asdict
from hashlib import sha256
from html import escape
from typing import Any

from mailweir.admin import text
from mailweir.admin.answers.servers import server, servers
from mailweir.admin.answers.status import kernel_path, pools, role
from mailweir.admin.readiness import failing, panics, unready
from mailweir.admin.text import overflows, state
from mailweir.situation import Situation
from mailweir.spec import ServerKey
from mailweir.state.overrides import told

_STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2em}table{border-collapse:collapse}"
    "th,td{border-bottom:1px solid #ccc;padding:.2em .8em;text-align:left}"
    ".up{color:#060}.drain,.maint,.ejected{color:#850}.down,.panic{color:#a00}"
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
_COLUMNS = ("pool", "name", "address", "state", "weight", "active", "sessions")


def render(situation: Situation) -> str:
    """The page as HTML."""
    stats = situation.stats
    head = [f"{'; '.join(unready(situation)) or 'ready'}."]
    head += [f"{one}." for one in (*panics(situation), *failing(situation))]
    unusual = text.refused_load(asdict(situation.last_load))
    unusual += text.kernel_path_lacks(kernel_path(stats))
    head += [f"{one[0].upper()}{one[1:]}." for one in unusual]
    # What is said of servers stands beside them; denies may be thousands.
    head += [
        f"Operator: {what} {told(word, situation.now)}."
        for what, word in situation.overrides.words()
        if what.startswith("pause")
    ]
    if situation.socket_problem:
        head.append(f"Admin socket: {situation.socket_problem}.")
    if times := sum(fault.times for fault in situation.faults):
        head.append(f"{times} internal errors: see `mailweir status`.")
    if pair := role(situation):
        head.append(f"{text.role(pair)}.")
    head += [f"{text.overflow(pool)}." for pool in pools(situation) if overflows(pool)]
    waiting = [f", {pool.waiting} wait for {pool.name}" for pool in stats.pools if pool.waiting]
    head.append(
        f"{stats.active} sessions{''.join(waiting)}, generation {situation.last_load.generation}."
    )
    rows = "".join(_row(one) for one in servers(situation))
    heads = "".join(f"<th>{column}</th>" for column in (*_COLUMNS, "last check", "operator"))
    return _document(
        "mailweir",
        f"<p>{escape(' '.join(head))}</p>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>",
    )


def render_server(situation: Situation, key: ServerKey) -> str:
    """The page of one server: its checks with their last results. Raises UnknownError."""
    text_of = text.server(server(situation, key))
    return _document(str(key), f'<p><a href="/">all servers</a></p><pre>{escape(text_of)}</pre>')


def _document(title: str, body: str) -> str:
    """`body` is HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="refresh" content="5"><title>mailweir</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )


def _row(server: dict[str, Any]) -> str:
    cells = "".join(
        f'<td class="{server["state"]}">{escape(state(server))}</td>'
        if column == "state"
        else f'<td><a href="/servers/{server["pool"]}/{server["name"]}">'
        f"{escape(str(server['name']))}</a></td>"
        if column == "name"
        else f"<td>{escape(str(server[column]))}</td>"
        for column in _COLUMNS
    )
    checks = "; ".join([_check(server["check"]), *map(str, server["alarms"])])
    return (
        f"<tr>{cells}<td>{escape(checks)}</td><td>{escape(str(server['operator'] or ''))}</td></tr>"
    )


def _check(check: object) -> str:
    if not isinstance(check, dict):
        return "not yet"
    return "ok" if check["ok"] else f"{check['step']}: {check['detail']}"
