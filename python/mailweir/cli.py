"""The command line: arguments and exit codes only.

The imports inside functions are on purpose: a command pays for what it uses, so that
`mailweir status` answers in under 100 ms without pydantic, aiohttp and uvloop.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mailweir.errors import ConfigError, Exit, MailweirError, PlaneError, Problem

DEFAULT_SOCKET = "/run/mailweir/admin.sock"

_config = click.option(
    "-c",
    "--config",
    "config_file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The YAML configuration.",
)
_socket = click.option(
    "--socket",
    "socket_path",
    envvar="MAILWEIR_SOCKET",
    default=DEFAULT_SOCKET,
    show_default=True,
    metavar="PATH",
    help="The admin socket of the running process (or MAILWEIR_SOCKET).",
)
_json = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")


class _Duration(click.ParamType[float]):
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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mailweir")
def commands() -> None:
    """A load balancer in front of SMTP farms."""


@commands.command()
@_config
@click.option("-v", "--verbose", is_flag=True, help="Log every check as well.")
def run(config_file: Path, verbose: bool) -> None:
    """Run the balancer in the foreground.

    HUP reloads the configuration, TERM drains and ends, a second TERM ends at once.
    """
    import signal

    # A reload that comes before anything was loaded: there is nothing to do. By default it
    # would end the process. The daemon takes over as soon as it can.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    from importlib.metadata import version

    import uvloop

    from mailweir import logs
    from mailweir.daemon import Daemon

    logs.configure(verbose=verbose)

    async def serve() -> None:
        await Daemon(config_file, version=version("mailweir")).run()

    uvloop.run(serve())


@commands.command()
@_config
@click.option("-q", "--quiet", is_flag=True, help="Say nothing about a file that is fine.")
def check(config_file: Path, quiet: bool) -> None:
    """Check a configuration file without running it.

    Every problem is shown as file:line:col: path: message. Exit code 78 for a bad file.
    """
    import socket

    from mailweir import descriptors, plane
    from mailweir.config.load import load
    from mailweir.state.desired import fold
    from mailweir.state.diff import describe

    loaded = load(config_file)
    sessions = descriptors.sessions(descriptors.raise_limit())
    desired = fold(loaded.config, {}, hostname=socket.gethostname(), max_sessions=sessions)
    try:
        plane.check(desired)
    except PlaneError as error:
        raise ConfigError([Problem(str(config_file), 0, 0, "", str(error))]) from None
    if not quiet:
        for warning in loaded.warnings:
            click.echo(f"warning: {warning}", err=True)
        click.echo(f"{config_file}: ok, {describe(None, desired)}")


@commands.command()
@click.option("--once", is_flag=True, help="Run for 15 s; exit code 1 where mail came to harm.")
def demo(once: bool) -> None:
    """Show the balancer at work: three mail servers, traffic, a table that lives.

    Needs no configuration and no privileges, and leaves nothing behind.
    """
    try:
        from mailweir.demo.run import run
    except ModuleNotFoundError as error:
        extra = (error.name or "").partition(".")[0]
        if extra not in ("aiosmtpd", "rich"):
            raise
        raise MailweirError(
            f"the demo needs {extra}, which isn't installed: pip install 'mailweir[demo]'"
        ) from None
    sys.exit(run(once=once))


@commands.command()
@_socket
@_json
def status(socket_path: str, as_json: bool) -> None:
    """Show how the running process is."""
    from mailweir.admin import text

    _show(_ask(socket_path, "GET", "/api/v1/status"), as_json, text.status)


@commands.command()
@_socket
@_json
def servers(socket_path: str, as_json: bool) -> None:
    """List the servers with their states, sessions and last checks."""
    from mailweir.admin import text

    _show(_ask(socket_path, "GET", "/api/v1/servers"), as_json, text.servers)


@commands.command()
@_socket
@_json
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
    _show(
        _ask(socket_path, "GET", f"/api/v1/sessions?{query}"),
        as_json,
        text.filters if tcpdump else text.sessions,
    )


@commands.command()
@click.argument("session")
@_socket
def kill(session: str, socket_path: str) -> None:
    """End a session, by its id in `mailweir sessions`."""
    _ask(socket_path, "POST", f"/api/v1/sessions/{_quoted(session)}/kill")
    click.echo(f"{session} ended")


@commands.command()
@click.argument("server", metavar="POOL/SERVER")
@click.option("--wait", is_flag=True, help="Until no session is left on it.")
@click.option(
    "--timeout",
    type=_Duration(),
    default="35m",
    show_default=True,
    help="The longest to wait; as in the configuration.",
)
@_socket
def drain(server: str, wait: bool, timeout: float, socket_path: str) -> None:
    """Take a server out of use: no new sessions, the others end where no mail comes twice.

    Until `ready`, or until mailweir restarts. Its checks go on.
    """
    answer = _ask(socket_path, "POST", f"/api/v1/servers/{_server_path(server)}/drain")
    click.echo(f"{server} drains, {_sessions(answer['sessions'])}")
    if wait:
        _wait_until_empty(socket_path, server, timeout)


@commands.command()
@click.argument("server", metavar="POOL/SERVER")
@_socket
def ready(server: str, socket_path: str) -> None:
    """Take a server into use again that was drained."""
    answer = _ask(socket_path, "POST", f"/api/v1/servers/{_server_path(server)}/ready")
    click.echo(f"{server} is used again, {_sessions(answer['sessions'])}")


def _sessions(number: int) -> str:
    return "1 session" if number == 1 else f"{number} sessions"


def _wait_until_empty(socket_path: str, server: str, timeout: float) -> None:
    import time

    began = time.monotonic()
    pool, _, name = server.partition("/")
    while True:
        found = _ask(socket_path, "GET", "/api/v1/servers")["servers"]
        left = sum(one["active"] for one in found if (one["pool"], one["name"]) == (pool, name))
        waited = time.monotonic() - began
        if not left:
            click.echo(f"{server} is empty after {waited:.1f} s")
            return
        if waited > timeout:
            raise MailweirError(f"{server} still has {_sessions(left)} after {waited:.0f} s")
        time.sleep(0.2)


def _server_path(server: str) -> str:
    pool, slash, name = server.partition("/")
    if not (pool and slash and name):
        raise click.UsageError(f"{server!r} isn't POOL/SERVER, as `mailweir servers` shows them")
    return f"{_quoted(pool)}/{_quoted(name)}"


def _quoted(word: str) -> str:
    from urllib.parse import quote

    return quote(word, safe="")


@commands.command()
@_socket
@_json
def reload(socket_path: str, as_json: bool) -> None:
    """Have the running process read its configuration again, and say how that went."""
    from mailweir.admin import text

    answer = _ask(socket_path, "POST", "/api/v1/reload")
    for warning in answer["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    if answer["ok"]:
        _show(answer, as_json, text.reload)
        return
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    for problem in answer["problems"]:
        click.echo(problem, err=True)
    click.echo(f"reload refused, the old configuration stays: {answer['message']}", err=True)
    sys.exit(Exit.BAD_CONFIG if answer["problems"] else Exit.FAILURE)


@commands.group("kernel-path")
def kernel_path() -> None:
    """What is in the kernel of an instance, also where its process is gone."""


@kernel_path.command("status")
@_config
def kernel_path_status(config_file: Path) -> None:
    """Say how many sessions go on in the kernel."""
    from mailweir import plane
    from mailweir.config.load import load
    from mailweir.instance import instance_of

    left = plane.kernel_path_left(instance_of(load(config_file).config.state_dir))
    if left is None:
        click.echo("nothing is in the kernel")
    else:
        click.echo(f"{_sessions(left[0])} in the kernel, {left[1]} other places taken")


@kernel_path.command("flush")
@_config
def kernel_path_flush(config_file: Path) -> None:
    """Remove everything that a process left in the kernel; its sessions are reset.

    Not needed where mailweir is to run again: it goes on with them.
    """
    from mailweir import plane
    from mailweir.config.load import load
    from mailweir.instance import instance_of, only_instance

    state_dir = load(config_file).config.state_dir
    with only_instance(state_dir):
        left = plane.kernel_path_left(instance_of(state_dir))
        plane.kernel_path_flush(instance_of(state_dir))
    click.echo(f"removed, with {_sessions(left[0] if left else 0)}")


def _ask(socket_path: str, method: str, route: str) -> dict[str, Any]:
    from mailweir.admin.client import ask

    answer = ask(socket_path, method, route)
    if isinstance(answer.get("error"), str):
        raise MailweirError(answer["error"])
    return answer


def _show(answer: dict[str, Any], as_json: bool, render: Callable[[dict[str, Any]], str]) -> None:
    click.echo(json.dumps(answer, indent=2) if as_json else render(answer).rstrip("\n"))


def main() -> None:
    """The `mailweir` command."""
    try:
        commands(prog_name="mailweir")
    except ConfigError as error:
        for warning in error.warnings:
            click.echo(f"warning: {warning}", err=True)
        click.echo(str(error), err=True)
        sys.exit(error.exit_code)
    except MailweirError as error:
        click.echo(f"mailweir: {error}", err=True)
        sys.exit(error.exit_code)
