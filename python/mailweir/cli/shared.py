"""What the commands share: options, asking the running process, showing what it answers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mailweir.cli import names
from mailweir.errors import MailweirError

DEFAULT_SOCKET = "/run/mailweir/admin.sock"


class Duration(click.ParamType[float]):
    """A time as the configuration writes it, in seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """`30s` or the like."""
        from mailweir.config.units import parse_duration

        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


config_option = click.option(
    "-c",
    "--config",
    "config_file",
    required=True,
    # Whoever reads it says what is wrong, with the exit code for that.
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="The YAML configuration.",
)
socket_option = click.option(
    "--socket",
    "socket_path",
    envvar="MAILWEIR_SOCKET",
    default=DEFAULT_SOCKET,
    show_default=True,
    metavar="PATH",
    help="The admin socket of the running process (or MAILWEIR_SOCKET).",
)


@dataclass
class Wanted:
    """What `main` has to know of a command that failed: whether it was to answer in JSON."""

    json: bool = False


def _note_json(context: click.Context, _: click.Parameter, value: bool) -> bool:
    context.ensure_object(Wanted).json = value
    return value


def said_in_json() -> None:
    """What a command was to answer in JSON stands there, though it fails."""
    click.get_current_context().ensure_object(Wanted).json = False


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    callback=_note_json,
    help="Machine-readable output; of a failure too.",
)
server_argument = click.argument("server", metavar="POOL/SERVER", shell_complete=names.servers)
listener_argument = click.argument("listener", required=False, shell_complete=names.listeners)
for_option = click.option(
    "--for",
    "seconds",
    type=Duration(),
    metavar="TIME",
    help="Undo it by itself after this time, as 2h.",
)

why_option = click.option(
    "--why",
    metavar="TEXT",
    help="The reason, shown with your name to who looks at it later.",
)


def server_path(server: str) -> str:
    """A server in a route. Raises click's UsageError."""
    pool, slash, name = server.partition("/")
    if not (pool and slash and name):
        raise click.UsageError(f"{server!r} isn't POOL/SERVER, as `mailweir servers` shows them")
    return f"{quoted(pool)}/{quoted(name)}"


def quoted(word: str) -> str:
    """A name in a route."""
    from urllib.parse import quote

    return quote(word, safe="")


def sessions_in_words(number: int) -> str:
    """`1 session`, `2 sessions`."""
    return "1 session" if number == 1 else f"{number} sessions"


def ask(
    socket_path: str, method: str, route: str, *, timeout: float | None = None
) -> dict[str, Any]:
    """What the running process answers; `timeout` is in seconds. Raises MailweirError with what it
    refuses.
    """
    from mailweir.admin import client

    limit = {} if timeout is None else {"timeout": timeout}
    answer = client.ask(socket_path, method, route, **limit)
    if isinstance(answer.get("error"), str):
        raise MailweirError(answer["error"])
    return answer


def show(answer: dict[str, Any], as_json: bool, render: Callable[[dict[str, Any]], str]) -> None:
    """Print an answer, as it is or in words."""
    click.echo(json.dumps(answer, indent=2) if as_json else render(answer).rstrip("\n"))
