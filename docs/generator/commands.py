"""The page of every command, out of the command line itself (`mailweir.cli`)."""

import sys
from collections.abc import Iterator
from inspect import cleandoc
from itertools import groupby
from textwrap import dedent

import click

from generator import markdown
from generator.markdown import code
from mailweir import cli
from mailweir.cli import manual
from mailweir.errors import Exit

_ABOUT = """\
Every command, with its options. `mailweir COMMAND --help` and the manual page (`mailweir man`) say
the same. [Operating](../operating.md) explains the commands that change something."""
_SHARED = "Every command that asks the running process has these. They aren't repeated below."
_EXIT = "By these a script can tell what happened."
_SIGNALS = "Of `mailweir run`."
# The modules of the commands, in the order of the page.
_HEADINGS = {
    "process": "Run",
    "doctor": "Examine",
    "showing": "Look",
    "operating": "Change",
    "config": "The configuration",
    "ha": "The pair",
    "packaging": "Shells and manual pages",
}


def page() -> str:
    """As Markdown."""
    return markdown.page(
        "Commands",
        _ABOUT,
        markdown.section("Options of all", _SHARED),
        "\n".join(
            markdown.item(f"{option}: {told}") for option, told in manual.SHARED_OPTIONS.items()
        ),
        *_sections(),
        markdown.section("Exit codes", _EXIT),
        "\n".join(
            markdown.item(f"{code(str(exit_code.value))}: {manual.EXIT_CODES[exit_code]}")
            for exit_code in Exit
        ),
        markdown.section("Signals", _SIGNALS),
        "\n".join(markdown.item(f"{code(name)}: {told}") for name, told in manual.SIGNALS.items()),
    )


def _sections() -> Iterator[str]:
    found = sorted(manual.leaves(click.Context(cli.commands, info_name="mailweir")), key=_place)
    for module, contexts in groupby(found, key=_module):
        about = (sys.modules[module].__doc__ or "").partition("\n\n")[0]
        name = module.rpartition(".")[2]
        yield markdown.section(_HEADINGS.get(name, name.capitalize()), about)
        for context in contexts:
            yield from _command(context)


def _place(context: click.Context) -> int:
    """Where it stands: modules in the order above, commands as `--help` has them."""
    name = _module(context).rpartition(".")[2]
    return [*_HEADINGS, name].index(name)


def _module(context: click.Context) -> str:
    return str(getattr(context.command.callback, "__module__", ""))


def _command(context: click.Context) -> Iterator[str]:
    parameters = context.command.params
    told = [
        manual.usage_of(one, context).replace("`", "")
        for one in parameters
        if one.name not in manual.SHARED
    ]
    yield markdown.section(code(context.command_path), level=3)
    yield f"```\n{' '.join((context.command_path, *told))}\n```"
    for text in cleandoc(context.command.help or "").split("\n\n"):
        yield _paragraph(text)
    if options := [*_options(context)]:
        yield "\n".join(options)


def _options(context: click.Context) -> Iterator[str]:
    for option in context.command.params:
        if isinstance(option, click.Option) and option.name not in manual.SHARED:
            record = option.get_help_record(context)
            if record is not None:
                yield markdown.item(f"{code(record[0])}: {record[1]}")


def _paragraph(text: str) -> str:
    """Prose, or lines that stay as they are where it begins with click's mark for that."""
    if text.startswith("\b\n"):
        return f"```\n{dedent(text.removeprefix(chr(8)).strip(chr(10)))}\n```"
    return markdown.paragraph(text)
