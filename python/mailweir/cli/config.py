"""Commands about the configuration: what there is, what runs, what a reload would change."""

import json
import sys

import click

from mailweir.cli.shared import ask, json_option, show, socket_option
from mailweir.errors import Exit


@click.group()
def config() -> None:
    """Show what can be configured, what is, and what a reload would change."""


@config.command()
def sample() -> None:
    """Print a complete configuration file: every key with its default and its reason."""
    from mailweir.config import sample

    click.echo(sample.sample(), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, which editors use to help and to check."""
    from mailweir.config import schema

    click.echo(json.dumps(schema.schema(), indent=2))


@config.command("show")
@socket_option
@json_option
def show_running(socket_path: str, as_json: bool) -> None:
    """Print the configuration that runs, defaults included."""
    import yaml

    answer = ask(socket_path, "GET", "/api/v1/config")
    show(answer, as_json, lambda told: yaml.safe_dump(told["config"], sort_keys=False))


@config.command()
@socket_option
@json_option
def diff(socket_path: str, as_json: bool) -> None:
    """Say what a reload would change; exit code 78 where the file can't be used."""
    answer = ask(socket_path, "GET", "/api/v1/config/diff")
    for warning in answer["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    for problem in answer["problems"]:
        click.echo(problem, err=True)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif not answer["problems"]:
        click.echo("\n".join(answer["changes"]) or "nothing would change")
    if answer["problems"]:
        sys.exit(Exit.BAD_CONFIG)
