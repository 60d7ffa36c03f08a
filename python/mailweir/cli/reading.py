"""Commands that show how the running process is."""

import click

from mailweir.cli.shared import ask, json_option, show, socket_option


@click.command()
@socket_option
@json_option
def status(socket_path: str, as_json: bool) -> None:
    """Show how the running process is."""
    from mailweir.admin import text

    show(ask(socket_path, "GET", "/api/v1/status"), as_json, text.status)


@click.command()
@socket_option
@json_option
def servers(socket_path: str, as_json: bool) -> None:
    """List the servers with their states, sessions and last checks."""
    from mailweir.admin import text

    show(ask(socket_path, "GET", "/api/v1/servers"), as_json, text.servers)


@click.command()
@socket_option
@json_option
@click.option("--listener", help="Only those of this listener.")
@click.option("--server", metavar="POOL/SERVER", help="Only those on this server.")
@click.option("--limit", default=100, show_default=True, help="At most so many, oldest first.")
@click.option("--tcpdump", is_flag=True, help="Filters that show those on the kernel path.")
def sessions(
    socket_path: str,
    as_json: bool,
    listener: str | None,
    server: str | None,
    limit: int,
    tcpdump: bool,
) -> None:
    """List live sessions."""
    from urllib.parse import urlencode

    from mailweir.admin import text

    wanted = {"listener": listener, "server": server, "limit": limit}
    query = urlencode({key: value for key, value in wanted.items() if value is not None})
    show(
        ask(socket_path, "GET", f"/api/v1/sessions?{query}"),
        as_json,
        text.filters if tcpdump else text.sessions,
    )
