"""The command line: arguments and exit codes only.

The imports inside functions are on purpose: a command pays for what it uses, so that
`mailweir status` answers in under 100 ms without pydantic, aiohttp and uvloop.
"""

import json
import sys
from io import TextIOWrapper

import click

from mailweir.cli import config, doctor, ha, operating, packaging, process, showing
from mailweir.cli.shared import Wanted
from mailweir.errors import ConfigError, MailweirError
from mailweir.inherited import ensure_standard_streams


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mailweir")
def commands() -> None:
    """A load balancer in front of SMTP farms."""


for _command in (
    process.run,
    process.check,
    process.demo,
    doctor.doctor,
    showing.status,
    showing.healthcheck,
    showing.servers,
    showing.sessions,
    showing.events,
    showing.explain,
    showing.refused,
    operating.kill,
    operating.drain,
    operating.maint,
    operating.ready,
    operating.weight,
    operating.pause,
    operating.resume,
    operating.deny,
    operating.undeny,
    operating.reload,
    operating.upgrade,
    config.config,
    ha.ha,
    process.kernel_path,
    packaging.completion,
    packaging.man,
):
    commands.add_command(_command)


def main() -> None:
    """The `mailweir` command."""
    ensure_standard_streams()
    # A terminal that doesn't know a letter gets its number, not a traceback.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    wanted = Wanted()
    try:
        commands(prog_name="mailweir", obj=wanted)
    except MailweirError as error:
        if wanted.json:
            click.echo(json.dumps(_told(error), indent=2))
        _tell(error)
        sys.exit(error.exit_code)


def _told(error: MailweirError) -> dict[str, object]:
    """A failure in the words of the API."""
    if not isinstance(error, ConfigError):
        return {"error": str(error)}
    problems, warnings = map(str, error.problems), map(str, error.warnings)
    return {
        "error": "the configuration can't be used",
        "problems": [*problems],
        "warnings": [*warnings],
    }


def _tell(error: MailweirError) -> None:
    """The same for people."""
    if isinstance(error, ConfigError):
        for warning in error.warnings:
            click.echo(f"warning: {warning}", err=True)
        click.echo(str(error), err=True)
    else:
        click.echo(f"mailweir: {error}", err=True)
