"""Commands that run the balancer, or look at its files where none runs."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailweir.cli.shared import config_option, json_option, said_in_json, sessions_in_words, show
from mailweir.errors import ConfigError, MailweirError, PlaneError, Problem, StartError

if TYPE_CHECKING:
    from mailweir.config.load import Loaded


@click.command()
@config_option
@click.option("-v", "--verbose", is_flag=True, help="Log every check as well.")
def run(config_file: Path, verbose: bool) -> None:
    """Run the balancer in the foreground.

    HUP reloads the configuration, USR2 has the program as it is now take over, TERM drains and
    ends, a second TERM ends at once.
    """
    import signal

    from mailweir import importing, inherited

    # A reload that comes before anything was loaded: there is nothing to do. By default it
    # would end the process. The daemon takes over as soon as it can.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    inherited.hear_signals()
    inherited.need_descriptors()
    inherited.spare_address_space()

    with importing.cheaply():
        from importlib.metadata import version

        import uvloop

        from mailweir import logs
        from mailweir.daemon import Daemon
        from mailweir.journal import Journal
        from mailweir.supervisor import Supervisor
        from mailweir.upgrade.predecessor import predecessor_in

    journal = Journal()
    logs.configure(verbose=verbose, also=journal.take)
    predecessor = predecessor_in(os.environ)

    async def serve() -> None:
        daemon = Daemon(
            config_file,
            version=version("mailweir"),
            journal=journal,
            supervisor=Supervisor(os.environ),
            predecessor=predecessor,
        )
        await daemon.run()

    uvloop.run(serve())


@click.command()
@config_option
@click.option("-q", "--quiet", is_flag=True, help="Say nothing about a file that is fine.")
@json_option
def check(config_file: Path, quiet: bool, as_json: bool) -> None:
    """Check a configuration file without running it.

    Every problem is shown as file:line:col: path: message. Exit code 78 for a bad file.
    """
    try:
        message, warnings = _check(config_file)
    except ConfigError as error:
        if as_json:
            _show_checked(config_file, "", error.problems, error.warnings)
            said_in_json()
        raise
    if as_json:
        _show_checked(config_file, message, (), warnings)
    if quiet:
        return
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if not as_json:
        click.echo(f"{config_file}: ok, {message}")


def _check(file: Path) -> tuple[str, Sequence[Problem]]:
    """What a file configures, in a sentence, and what is odd about it. Raises ConfigError."""
    from mailweir import importing

    with importing.cheaply():
        import socket

        from mailweir import plane, room
        from mailweir.config.load import load
        from mailweir.state.desired import fold
        from mailweir.state.diff import describe
        from mailweir.state.overrides import Overrides
        from mailweir.this_machine import this_machine

    loaded = load(file, this_machine())
    found = room.read().where(loaded.config.max_sessions)
    desired = fold(loaded.config, {}, Overrides(), hostname=socket.gethostname(), room=found.room)
    try:
        plane.check(desired)
    except PlaneError as error:
        raise ConfigError([Problem(str(file), 0, 0, "", str(error))], loaded.warnings) from None
    return describe(None, desired), [*loaded.warnings, *_of_keys(loaded)]


def _of_keys(loaded: "Loaded") -> Iterator[Problem]:
    """What is wrong with the files of a pair's keys: `mailweir run` goes without them."""
    from mailweir.ha.key_files import read_keys

    try:
        read_keys(loaded.config.ha.keys if loaded.config.ha else {})
    except StartError as error:
        yield loaded.problem(("ha", "keys"), str(error))


def _show_checked(
    file: Path, message: str, problems: Sequence[Problem], warnings: Sequence[Problem]
) -> None:
    """The words are those of a reload's answer."""
    answer = {
        "file": str(file),
        "ok": not problems,
        "message": message or f"{file} has {len(problems)} problem(s)",
        "problems": [str(problem) for problem in problems],
        "warnings": [str(warning) for warning in warnings],
    }
    click.echo(json.dumps(answer, indent=2))


@click.command()
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


@click.group("kernel-path")
def kernel_path() -> None:
    """What is in the kernel of an instance, also where its process is gone."""


@kernel_path.command("status")
@config_option
@json_option
def kernel_path_status(config_file: Path, as_json: bool) -> None:
    """Say how many sessions go on in the kernel."""
    from mailweir import plane
    from mailweir.config.load import load
    from mailweir.instance import instance_of

    left = plane.kernel_path_left(instance_of(load(config_file).config.state_dir))
    if as_json:
        click.echo(json.dumps({"kernel_path": _left(left)}, indent=2))
    elif left is None:
        click.echo("nothing is in the kernel")
    else:
        others = f", {sessions_in_words(left[2])} of another version" if left[2] else ""
        click.echo(
            f"{sessions_in_words(left[0])} in the kernel, {left[1]} other places taken{others}"
        )


@kernel_path.command("flush")
@config_option
@json_option
def kernel_path_flush(config_file: Path, as_json: bool) -> None:
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
    show(
        {"removed": _left(left)},
        as_json,
        lambda _: f"removed, with {sessions_in_words(left[0] + left[2] if left else 0)}",
    )


def _left(left: tuple[int, int, int] | None) -> dict[str, int] | None:
    """What is in the kernel, in the words of `mailweir status --json`; null for nothing."""
    if left is None:
        return None
    flows, others, earlier = left
    return {"flows": flows, "places_taken": flows + others, "earlier": earlier}
