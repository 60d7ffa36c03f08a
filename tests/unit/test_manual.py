"""The manual pages have every command, option, exit code and key, and troff has nothing against
them.
"""

import subprocess

import click
import pytest
from click.testing import CliRunner

from mailweir import cli
from mailweir.cli import manual, roff
from mailweir.config.keys import parts
from mailweir.config.load import parse
from mailweir.errors import Exit


def page(name: str) -> str:
    done = CliRunner().invoke(cli.commands, ["man", name], prog_name="mailweir")
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def formatted(troff: str) -> str:
    """As a terminal shows it. Fails on any warning."""
    command = ["groff", "-man", "-Tascii", "-ww", "-P-cbou", "-rLL=2000n"]
    done = subprocess.run(command, input=troff, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def leaves(group: click.Group, before: str) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        path = f"{before} {name}"
        if isinstance(command, click.Group):
            found |= leaves(command, path)
        else:
            found[path] = command
    return found


@pytest.mark.needs("groff-base")
def test_every_command_and_option_is_there() -> None:
    shown = formatted(page("mailweir"))
    lines = shown.splitlines()
    for path, command in leaves(cli.commands, "mailweir").items():
        usages = [line for line in lines if f"{line} ".startswith(f"   {path} ")]
        assert len(usages) == 1, path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert any(name in usages[0] for name in parameter.opts), (path, parameter)
    for code in Exit:
        assert f"\n       {code:d} " in shown


@pytest.mark.needs("groff-base")
def test_every_key_is_there() -> None:
    shown = formatted(page("mailweir.yaml"))
    for part in parts():
        for key in part.keys:
            assert f"       {key.path}\n" in shown
    assert "pools.*.servers.*.weight" in shown


def test_the_example_is_a_configuration() -> None:
    assert parse(manual.EXAMPLE, "example.yaml").warnings == ()


@pytest.mark.needs("man-db")
@pytest.mark.parametrize("name", ["mailweir", "mailweir.yaml"])
def test_man_has_nothing_against_a_page(name: str) -> None:
    command = ["man", "--warnings", "--local-file", "-"]
    done = subprocess.run(command, input=page(name), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "SEE ALSO" in done.stdout


@pytest.mark.needs("groff-base")
def test_what_is_typed_comes_out_as_it_is() -> None:
    typed = """.dot 'quoted' "twice" back\\slash --option ~/`x` ^ a-b"""
    shown = formatted(roff.title("x", 1, "1", "y") + roff.example(typed) + roff.paragraph(typed))
    assert shown.count(typed.replace("`", "")) == 1
    assert typed in shown
