"""The command line: arguments and exit codes only.

The imports inside functions are on purpose: a command pays for what it uses, so that
`mailweir status` answers in under 100 ms without pydantic, aiohttp and uvloop.
"""

import sys

import click

from mailweir.cli import config, ha, operating, packaging, process, reading
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
    reading.status,
    reading.healthcheck,
    reading.servers,
    reading.sessions,
    reading.events,
    reading.explain,
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
    config.config,
    ha.ha,
    process.kernel_path,
    ha.ha,
    packaging.completion,
    packaging.man,
):
    commands.add_command(_command)


def main() -> None:
    """The `mailweir` command."""
    ensure_standard_streams()
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
