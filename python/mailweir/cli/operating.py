"""Commands by which an operator changes what the running process does."""

import json
import sys
import time
from typing import Any

import click

from mailweir.cli import names
from mailweir.cli.shared import (
    Duration,
    ask,
    for_option,
    json_option,
    listener_argument,
    quoted,
    said_in_json,
    server_argument,
    server_path,
    sessions_in_words,
    show,
    socket_option,
    why_option,
)
from mailweir.errors import Exit, MailweirError

# Between looks whether a server is empty, in seconds: at first, and from so many seconds on.
_SOON, _LATER, _SOON_OVER = 0.2, 1.0, 5.0

_wait = click.option("--wait", is_flag=True, help="Until no session is left on it.")
_timeout = click.option(
    "--timeout",
    type=Duration(),
    default="35m",
    show_default=True,
    help="The longest to wait; as in the configuration.",
)


# Seconds: longer than the next process may take.
_UPGRADE = 200.0


@click.command()
@server_argument
@_wait
@_timeout
@for_option
@why_option
@socket_option
@json_option
def drain(
    server: str,
    wait: bool,
    timeout: float,
    seconds: float | None,
    why: str | None,
    socket_path: str,
    as_json: bool,
) -> None:
    """Take a server out of use: no new sessions, the others end where no mail comes twice.

    Until `ready`. Its checks go on. Restarts and reloads don't change it.
    """
    answer = _change_server(socket_path, server, "drain", seconds=seconds, why=why)
    _tell_taken_out(socket_path, server, answer, "drains", timeout if wait else None, as_json)


@click.command()
@server_argument
@_wait
@_timeout
@for_option
@why_option
@socket_option
@json_option
def maint(
    server: str,
    wait: bool,
    timeout: float,
    seconds: float | None,
    why: str | None,
    socket_path: str,
    as_json: bool,
) -> None:
    """Take a server out of use as `drain` does, and don't check it either.

    After `ready` it is down until checks have passed.
    """
    answer = _change_server(socket_path, server, "maint", seconds=seconds, why=why)
    how = "is in maintenance"
    _tell_taken_out(socket_path, server, answer, how, timeout if wait else None, as_json)


@click.command()
@server_argument
@socket_option
@json_option
def ready(server: str, socket_path: str, as_json: bool) -> None:
    """Take a server into use again that was drained, in maintenance or ejected."""
    answer = _change_server(socket_path, server, "ready")
    row = _row_of(socket_path, server)
    show(
        {**answer, "server": row},
        as_json,
        lambda _: f"{server} is used again, {sessions_in_words(row['active'])}",
    )


@click.command()
@server_argument
@click.argument("weight")
@for_option
@why_option
@socket_option
@json_option
def weight(
    server: str,
    weight: str,
    seconds: float | None,
    why: str | None,
    socket_path: str,
    as_json: bool,
) -> None:
    """Give a server another WEIGHT: a number, a share of its own as 50%, or `own` to undo that."""
    if weight == "own":
        answer = _change_server(socket_path, server, "own-weight")
    else:
        answer = _change_server(
            socket_path, server, "weight", seconds=seconds, weight=weight, why=why
        )
    row = _row_of(socket_path, server)
    show({**answer, "server": row}, as_json, lambda _: f"{server} has weight {row['weight']}")


@click.command()
@listener_argument
@for_option
@why_option
@socket_option
@json_option
def pause(
    listener: str | None, seconds: float | None, why: str | None, socket_path: str, as_json: bool
) -> None:
    """Have LISTENER, or all of them, refuse new sessions with 421 until `resume`.

    Sessions that are there go on. Restarts and reloads don't change it.
    """
    route = _listener_route(listener, "pause")
    answer = _change(socket_path, route, seconds=seconds, why=why)
    show(answer, as_json, lambda _: f"{listener or 'every listener'} refuses new sessions")


@click.command()
@listener_argument
@socket_option
@json_option
def resume(listener: str | None, socket_path: str, as_json: bool) -> None:
    """Have LISTENER take sessions again; without one, undo a `pause` of all."""
    answer = _change(socket_path, _listener_route(listener, "resume"))
    show(answer, as_json, lambda _: f"{listener or 'the node'} takes sessions again")


@click.command()
@click.argument("prefix", metavar="CIDR")
@click.option("--end", "ends", is_flag=True, help="End the sessions from there, too.")
@for_option
@why_option
@socket_option
@json_option
def deny(
    prefix: str,
    ends: bool,
    seconds: float | None,
    why: str | None,
    socket_path: str,
    as_json: bool,
) -> None:
    """Have every listener refuse clients from CIDR, as 192.0.2.0/24 or 2001:db8::1, until `undeny`.

    Sessions that are there go on, but with --end. Restarts and reloads don't change it.
    """
    from mailweir.config.units import format_duration

    route = f"/api/v1/deny/{quoted(prefix)}"
    answer = _change(socket_path, route, seconds=seconds, why=why, end="1" if ends else None)
    said = f"{answer['prefix']} is denied"
    if seconds is not None:
        said += f" (for {format_duration(seconds)})"
    if ends:
        said += f"; {sessions_in_words(answer['ended'])} told to end"
    show(answer, as_json, lambda _: said)


@click.command()
@click.argument("prefix", metavar="CIDR", shell_complete=names.denied)
@socket_option
@json_option
def undeny(prefix: str, socket_path: str, as_json: bool) -> None:
    """Take back what `deny` said of CIDR. What the configuration denies stays denied."""
    answer = _change(socket_path, f"/api/v1/undeny/{quoted(prefix)}")
    show(answer, as_json, lambda _: f"{answer['prefix']} is denied by no operator any more")


@click.command()
@click.argument("session", shell_complete=names.sessions)
@socket_option
@json_option
def kill(session: str, socket_path: str, as_json: bool) -> None:
    """End a session, by its id in `mailweir sessions`."""
    answer = ask(socket_path, "POST", f"/api/v1/sessions/{quoted(session)}/kill")
    show(answer, as_json, lambda _: f"{session} ended")


@click.command()
@socket_option
@json_option
def reload(socket_path: str, as_json: bool) -> None:
    """Have the running process read its configuration again, and say how that went."""
    from mailweir.admin import text

    answer = ask(socket_path, "POST", "/api/v1/reload")
    for warning in answer["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    if answer["ok"]:
        show(answer, as_json, text.reload)
        return
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    for problem in answer["problems"]:
        click.echo(problem, err=True)
    click.echo(f"reload refused, the old configuration stays: {answer['message']}", err=True)
    sys.exit(Exit.BAD_CONFIG if answer["problems"] else Exit.FAILURE)


@click.command()
@socket_option
@json_option
def upgrade(socket_path: str, as_json: bool) -> None:
    """Have the program as it is installed now take over, without refusing or ending a session.

    The new process reads the configuration and checks its servers while the old one serves. Where
    it fails, the old one goes on.
    """
    from mailweir.admin import text

    answer = ask(socket_path, "POST", "/api/v1/upgrade", timeout=_UPGRADE)
    if "ok" not in answer or not answer["ok"]:
        why = answer.get("message") or answer.get("error")
        raise MailweirError(f"not upgraded, the old process goes on: {why}")
    show(answer, as_json, text.upgrade)


def _listener_route(listener: str | None, word: str) -> str:
    return f"/api/v1/listeners/{quoted(listener)}/{word}" if listener else f"/api/v1/{word}"


def _change_server(
    socket_path: str,
    server: str,
    word: str,
    *,
    seconds: float | None = None,
    weight: str | None = None,
    why: str | None = None,
) -> dict[str, Any]:
    route = f"/api/v1/servers/{server_path(server)}/{word}"
    return _change(socket_path, route, seconds=seconds, weight=weight, why=why)


def _change(
    socket_path: str, route: str, *, seconds: float | None = None, **others: str | None
) -> dict[str, Any]:
    """Say something; `others` are parameters of the route where they aren't None."""
    from urllib.parse import urlencode

    from mailweir.config.units import format_duration

    said = {"for": None if seconds is None else format_duration(seconds), **others}
    query = urlencode({key: value for key, value in said.items() if value is not None})
    answer = ask(socket_path, "POST", f"{route}?{query}" if query else route)
    if answer["problem"]:
        click.echo(f"warning: {answer['problem']}", err=True)
    return answer


def _tell_taken_out(
    socket_path: str,
    server: str,
    answer: dict[str, Any],
    how: str,
    wait: float | None,
    as_json: bool,
) -> None:
    """Say that a server is taken out of use, and wait until it is empty where that is wanted."""
    row = _row_of(socket_path, server)
    if not as_json:
        click.echo(f"{server} {how}, {sessions_in_words(row['active'])}")
    waited = 0.0
    if wait is not None:
        row, waited = _last_row(socket_path, server, wait)
        answer["waited_seconds"] = round(waited, 3)
    if as_json:
        click.echo(json.dumps({**answer, "server": row}, indent=2))
        said_in_json()
    if wait is None:
        return
    if row["active"]:
        left = sessions_in_words(row["active"])
        raise MailweirError(f"{server} still has {left} after {waited:.0f} s")
    if not as_json:
        click.echo(f"{server} is empty after {waited:.1f} s")


def _last_row(socket_path: str, server: str, wait: float) -> tuple[dict[str, Any], float]:
    """A server's row once it has no session, or at the end of the wait; the seconds it took."""
    began = time.monotonic()
    while True:
        row = _row_of(socket_path, server)
        waited = time.monotonic() - began
        if not row["active"] or waited > wait:
            return row, waited
        time.sleep(_SOON if waited < _SOON_OVER else _LATER)


def _row_of(socket_path: str, server: str) -> dict[str, Any]:
    """Of the server alone: a farm may have thousands. Raises MailweirError where it has left the
    configuration meanwhile.
    """
    return ask(socket_path, "GET", f"/api/v1/servers/{server_path(server)}")
