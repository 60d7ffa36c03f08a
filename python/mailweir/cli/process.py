"""Commands that run the balancer, or look at its files where none runs."""

import os
import sys
from pathlib import Path

import click

from mailweir.cli.shared import config_option, sessions_in_words
from mailweir.errors import ConfigError, MailweirError, PlaneError, Problem


@click.command()
@config_option
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
    from mailweir.journal import Journal
    from mailweir.supervisor import Supervisor

    journal = Journal()
    logs.configure(verbose=verbose, also=journal.take)

    async def serve() -> None:
        daemon = Daemon(
            config_file,
            version=version("mailweir"),
            journal=journal,
            supervisor=Supervisor(os.environ),
        )
        await daemon.run()

    uvloop.run(serve())


@click.command()
@config_option
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
    from mailweir.state.overrides import Overrides

    loaded = load(config_file)
    sessions = descriptors.sessions(descriptors.raise_limit())
    desired = fold(
        loaded.config, {}, Overrides(), hostname=socket.gethostname(), max_sessions=sessions
    )
    try:
        plane.check(desired)
    except PlaneError as error:
        raise ConfigError([Problem(str(config_file), 0, 0, "", str(error))]) from None
    if not quiet:
        for warning in loaded.warnings:
            click.echo(f"warning: {warning}", err=True)
        click.echo(f"{config_file}: ok, {describe(None, desired)}")


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
def kernel_path_status(config_file: Path) -> None:
    """Say how many sessions go on in the kernel."""
    from mailweir import plane
    from mailweir.config.load import load
    from mailweir.instance import instance_of

    left = plane.kernel_path_left(instance_of(load(config_file).config.state_dir))
    if left is None:
        click.echo("nothing is in the kernel")
    else:
        click.echo(f"{sessions_in_words(left[0])} in the kernel, {left[1]} other places taken")


@kernel_path.command("flush")
@config_option
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
    click.echo(f"removed, with {sessions_in_words(left[0] if left else 0)}")
