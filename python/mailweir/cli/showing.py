"""Commands that show how the running process is."""

import json
import sys
from contextlib import suppress
from typing import Any

import click

from mailweir.cli import names
from mailweir.cli.shared import ask, json_option, server_path, show, socket_option
from mailweir.errors import Exit, UnknownError

# Seconds. Whoever asks this does so every few seconds, and has to be told.
_HEALTHCHECK_LIMIT = 5.0


@click.command()
@socket_option
@json_option
def status(socket_path: str, as_json: bool) -> None:
    """Show how the running process is."""
    from mailweir.admin import text

    show(ask(socket_path, "GET", "/api/v1/status"), as_json, text.status)


@click.command()
@click.option("--listener", help="At this listener alone.")
@socket_option
@json_option
def healthcheck(listener: str | None, socket_path: str, as_json: bool) -> None:
    """Say whether new sessions may be sent here, for scripts, keepalived and containers.

    Exit code 0 where they may, 4 where not, with the reasons, 3 where nobody answers. Without
    --listener they may where each pool in use has a server for them.
    """
    from mailweir.admin import text

    status = ask(socket_path, "GET", "/api/v1/status", timeout=_HEALTHCHECK_LIMIT)
    if listener is not None:
        known = {one["name"]: one for one in status["listeners"]}
        if listener not in known:
            raise UnknownError(f"there is no listener {listener}; there are {', '.join(known)}")
        status = known[listener]
    show({key: status[key] for key in ("ready", "reasons")}, as_json, text.healthcheck)
    if not status["ready"]:
        sys.exit(Exit.NOT_READY)


@click.command()
@click.argument("server", metavar="[POOL/SERVER]", required=False, shell_complete=names.servers)
@socket_option
@json_option
def servers(server: str | None, socket_path: str, as_json: bool) -> None:
    """List the servers with their states, sessions and last checks, or show one with all its
    checks and their last results.
    """
    from mailweir.admin import text

    if server is not None:
        route = f"/api/v1/servers/{server_path(server)}"
        show(ask(socket_path, "GET", route), as_json, text.server)
        return
    show(ask(socket_path, "GET", "/api/v1/servers"), as_json, text.servers)


@click.command()
@click.argument("client", metavar="CLIENT-IP")
@socket_option
@json_option
@click.option("--listener", help="At this listener alone.")
def explain(client: str, socket_path: str, as_json: bool, listener: str | None) -> None:
    """Say what would become of a client that connected now, and why."""
    from urllib.parse import urlencode

    from mailweir.admin import text

    wanted = {"client": client, "listener": listener}
    query = urlencode({key: value for key, value in wanted.items() if value is not None})
    show(ask(socket_path, "GET", f"/api/v1/explain?{query}"), as_json, text.explanation)


@click.command()
@socket_option
@json_option
@click.option("-f", "--follow", is_flag=True, help="Go on with those that come.")
@click.option("--limit", default=100, show_default=True, help="At most so many, the last ones.")
def events(socket_path: str, as_json: bool, follow: bool, limit: int) -> None:
    """Show what happened lately and why; with --json an object a line."""
    from mailweir.admin import client, text

    def say(event: dict[str, Any]) -> None:
        click.echo(json.dumps(event) if as_json else text.event(event))

    found = ask(socket_path, "GET", "/api/v1/events")["events"]
    for event in found[-limit:] if limit > 0 else []:
        say(event)
    if follow:
        last = found[-1]["id"] if found else 0
        with suppress(KeyboardInterrupt):
            for event in client.follow(socket_path, f"/api/v1/events?since={last}"):
                say(event)


@click.command()
@socket_option
@json_option
@click.option("--listener", shell_complete=names.listeners, help="Only those of this listener.")
@click.option(
    "--server",
    metavar="POOL/SERVER",
    shell_complete=names.servers,
    help="Only those on this server.",
)
@click.option(
    "--client", metavar="PREFIX", help="Only those from there, as 192.0.2.0/24 or 2001:db8::1."
)
@click.option("--limit", default=100, show_default=True, help="At most so many, oldest first.")
@click.option("--tcpdump", is_flag=True, help="Filters that show those on the kernel path.")
def sessions(
    socket_path: str,
    as_json: bool,
    listener: str | None,
    server: str | None,
    client: str | None,
    limit: int,
    tcpdump: bool,
) -> None:
    """List live sessions."""
    from urllib.parse import urlencode

    from mailweir.admin import text

    wanted = {"listener": listener, "server": server, "client": client, "limit": limit}
    query = urlencode({key: value for key, value in wanted.items() if value is not None})
    show(
        ask(socket_path, "GET", f"/api/v1/sessions?{query}"),
        as_json,
        text.filters if tcpdump else text.sessions,
    )


@click.command()
@socket_option
@json_option
@click.option("--listener", shell_complete=names.listeners, help="Only by this listener.")
@click.option("--limit", default=20, show_default=True, help="At most so many.")
def refused(socket_path: str, as_json: bool, listener: str | None, limit: int) -> None:
    """List the sources whose sessions were refused most, with the reasons, and when last."""
    from urllib.parse import urlencode

    from mailweir.admin import text

    wanted = {"listener": listener, "limit": limit}
    query = urlencode({key: value for key, value in wanted.items() if value is not None})
    show(ask(socket_path, "GET", f"/api/v1/refused?{query}"), as_json, text.refused)
