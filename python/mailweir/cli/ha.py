"""Commands of the pair: its process, and what is asked and told of it."""

from pathlib import Path
from typing import Any

import click

from mailweir.cli.shared import ask, config_option, json_option, show, socket_option
from mailweir.config.words import HaKeeper, HaRole
from mailweir.errors import MailweirError, NotRunningError

DEFAULT_SOCKET = "/run/mailweir/ha.sock"

ha_socket_option = click.option(
    "--socket",
    "socket_path",
    envvar="MAILWEIR_HA_SOCKET",
    default=DEFAULT_SOCKET,
    show_default=True,
    metavar="PATH",
    help="The socket of the running `mailweir ha run` (or MAILWEIR_HA_SOCKET).",
)


@click.group()
def ha() -> None:
    """A pair of balancers: who has the virtual addresses, and why."""


@ha.command("run")
@config_option
def ha_run(config_file: Path) -> None:
    """Take part in the pair, in the foreground, beside `mailweir run`.

    HUP reloads the configuration, TERM gives the addresses to the other node and ends.
    """
    from mailweir import importing

    with importing.cheaply():
        import asyncio
        import os

        from mailweir import inherited, logs
        from mailweir.ha import realtime
        from mailweir.journal import Journal
        from mailweir.supervisor import Supervisor

        try:
            from mailweir.ha.agent import Agent
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "pyroute2":
                raise
            raise MailweirError(
                "a pair needs pyroute2, which isn't installed: pip install 'mailweir[vip]'"
            ) from None
    inherited.hear_signals()
    inherited.need_descriptors()
    inherited.spare_address_space()
    journal = Journal()
    problems = realtime.prepare(realtime.NET_ADMIN, realtime.NET_RAW)
    logs.configure(verbose=False, also=journal.take)
    _say(problems)

    async def serve() -> None:
        await Agent(config_file, journal=journal, supervisor=Supervisor(os.environ)).run()

    asyncio.run(serve())


@ha.command("witness")
@config_option
def ha_witness(config_file: Path) -> None:
    """Be the third node that the two of a pair ask, in the foreground; with the same file."""
    from mailweir import importing

    with importing.cheaply():
        import asyncio
        import os

        from mailweir import inherited, logs
        from mailweir.ha import realtime
        from mailweir.ha.witness import Answering
        from mailweir.supervisor import Supervisor

    inherited.hear_signals()
    inherited.need_descriptors()
    inherited.spare_address_space()
    problems = realtime.prepare()
    logs.configure(verbose=False)
    _say(problems)
    asyncio.run(Answering(config_file, supervisor=Supervisor(os.environ)).run())


def _say(problems: list[str]) -> None:
    """What this process has to do without."""
    import structlog

    for problem in problems:
        reason = f"{problem}; heartbeats may be late on a busy machine"
        structlog.get_logger("mailweir").info("without precedence", reason=reason)


@ha.command("status")
@ha_socket_option
@json_option
def ha_status(socket_path: str, as_json: bool) -> None:
    """Show both nodes, the links between them, and what is wrong."""
    from mailweir.ha import text

    show(_ask(socket_path, "GET", "status"), as_json, text.status)


@ha.command("explain")
@ha_socket_option
@json_option
def ha_explain(socket_path: str, as_json: bool) -> None:
    """Say why this node is what it is."""
    from mailweir.ha import text

    show(_ask(socket_path, "GET", "explain"), as_json, text.explanation)


@ha.command("switch")
@ha_socket_option
@json_option
@click.option(
    "--force",
    is_flag=True,
    help="Also to a node that can't serve, is worse off, or has another configuration.",
)
def ha_switch(socket_path: str, as_json: bool, force: bool) -> None:
    """Have the other one of the two nodes be active.

    Sessions end: they are with the node, and the addresses move. It is refused where clients would
    be worse off; `mailweir ha explain` says why. A node that is silent, in maintenance or without
    carrier doesn't take the addresses, by force neither.
    """
    _tell(socket_path, "switch?force=1" if force else "switch", as_json)


@ha.command("maint")
@ha_socket_option
@json_option
def ha_maint(socket_path: str, as_json: bool) -> None:
    """Have this node take nothing over until `mailweir ha ready`; kept over restarts."""
    _tell(socket_path, "maint", as_json)


@ha.command("ready")
@ha_socket_option
@json_option
def ha_ready(socket_path: str, as_json: bool) -> None:
    """End this node's maintenance."""
    _tell(socket_path, "ready", as_json)


@ha.command("notify")
@click.argument("role", type=click.Choice([role.value for role in HaRole]))
@socket_option
@json_option
def ha_notify(role: str, socket_path: str, as_json: bool) -> None:
    """Tell `mailweir run` which ROLE this node has, where keepalived or the like decides.

    It shows in `status`, in metrics and in the log, and changes nothing else. For `notify_master`,
    `notify_backup`, `notify_fault` and `notify_stop` of keepalived.conf(5): active, backup, fault,
    stopped.
    """
    answer = ask(socket_path, "POST", f"/api/v1/ha/{role}?by={HaKeeper.KEEPALIVED}")
    show(answer, as_json, lambda told: f"this node is {told['role']}")


def _tell(socket_path: str, command: str, as_json: bool) -> None:
    from mailweir.ha import text

    answer = _ask(socket_path, "POST", command)
    if answer["problem"]:
        click.echo(f"warning: {answer['problem']}", err=True)
    show(answer, as_json, text.explanation)


def _ask(socket_path: str, method: str, what: str) -> dict[str, Any]:
    try:
        return ask(socket_path, method, f"/api/v1/{what}")
    except NotRunningError:
        raise NotRunningError(
            f"nobody answers at {socket_path}: `mailweir ha run` isn't running, or has another"
            " `ha.socket` (give it with --socket or MAILWEIR_HA_SOCKET)"
        ) from None
