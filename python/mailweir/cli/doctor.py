"""`mailweir doctor`: what is wrong with servers and this machine, and which setting to change."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailweir.cli import names
from mailweir.cli.shared import config_option, json_option, socket_option
from mailweir.errors import Exit, MailweirError, UnknownError

if TYPE_CHECKING:
    from mailweir.doctor.examination import Live

# Seconds. It is asked beside; an answer isn't needed.
_ASKING = 5.0


@click.command()
@config_option
@click.option("--pool", shell_complete=names.pools, help="Only its servers, and not this machine.")
@click.option(
    "--outwards",
    metavar="HOST",
    help="Connect to port 25 of a mail server out there, to see whether that is open from here.",
)
@socket_option
@json_option
def doctor(
    config_file: Path, pool: str | None, outwards: str | None, socket_path: str, as_json: bool
) -> None:
    """Look for what is wrong between here and the servers, and on this machine.

    A line for each finding says what is wrong and which setting to change, of the server in its
    own words. Exit code 0 where nothing is wrong, 1 where something is, 78 for a bad file. It needs
    no running process, and changes nothing. No mail is sent: servers hear EHLO, a recipient at
    most, QUIT.
    """
    from mailweir import importing

    with importing.cheaply():
        from mailweir.config.load import load
        from mailweir.doctor import text
        from mailweir.doctor.examination import examine
        from mailweir.this_machine import this_machine

    config = load(config_file, this_machine()).config
    if pool is not None and pool not in config.pools:
        raise UnknownError(f"there is no pool {pool}; there are {', '.join(config.pools)}")
    examined = examine(config, pool, _live(socket_path), outwards)
    if as_json:
        click.echo(json.dumps(text.answer(examined), indent=2))
    else:
        click.echo("\n".join(text.lines(examined)))
    if examined.findings:
        sys.exit(Exit.FAILURE)


def _live(socket_path: str) -> "Live | None":
    """What the running process says; None where it can't be asked."""
    from mailweir.admin import client
    from mailweir.doctor.examination import Live

    try:
        status = client.ask(socket_path, "GET", "/api/v1/status", timeout=_ASKING)
        servers = client.ask(socket_path, "GET", "/api/v1/servers", timeout=_ASKING)
        sessions = {(row["pool"], row["name"]): row["active"] for row in servers["servers"]}
        path = status["kernel_path"] or {}
        return Live(status["pid"], sessions, path.get("why_not") or "")
    except (MailweirError, KeyError):  # nobody answers, or not to us
        return None
