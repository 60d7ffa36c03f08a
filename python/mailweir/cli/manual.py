"""The manual pages mailweir(8) and mailweir.yaml(5), out of the commands and the model themselves.

What is written here by hand is what neither can know. Called by `mailweir man`; what it knows of
commands is in the page of all commands as well (docs/generator).
"""

from collections.abc import Iterator
from importlib.metadata import version
from inspect import cleandoc

import click

from mailweir.cli import roff
from mailweir.cli.shared import DEFAULT_SOCKET
from mailweir.config.keys import parts
from mailweir.errors import Exit

_NAME = "mailweir"
_FILE = "mailweir.yaml"
# Every command that asks the running process has these; they are told once.
SHARED = ("socket_path", "as_json")
_ABOUT = """\
mailweir accepts sessions on ports 25, 587 and 465, picks a mail server that is up, tells it who the
client is and relays the bytes. A server that doesn't accept, or greets with 421, 554 or not at all,
is replaced before the client notices. `mailweir run` is the process; all other commands ask it over
its socket, or look at files.
"""
SHARED_OPTIONS = {
    "`--socket` PATH": f"The admin socket of the running process: by default that of"
    f" `MAILWEIR_SOCKET`, else `{DEFAULT_SOCKET}`. Its permissions decide who may.",
    "`--json`": "One JSON object on standard output, in the words of the socket's API; `events`"
    " prints one a line. What is for people goes to standard error all the same.",
    "`-h`, `--help`": "Every command explains itself.",
}
SIGNALS = {
    "HUP": "Reload: whole or not at all. On any error the old configuration stays; sessions go on.",
    "TERM": "No new sessions; the others go on to their end or `drain.deadline`. Again: end now.",
    "INT": "The same, for a process that follows at once: where systemd keeps the listening"
    " sockets, clients wait there, and no session is waited for longer than 10 s.",
    "USR1": "Opens the session log's file anew, after it was moved away.",
    "USR2": "Has the program as it is installed now take over, as `mailweir upgrade` does.",
}
EXIT_CODES = {
    Exit.OK: "It is done.",
    Exit.FAILURE: "It can't be done; standard error says why.",
    Exit.USAGE: "The command line is wrong.",
    Exit.NOT_RUNNING: "Nobody answers at the socket.",
    Exit.NOT_READY: "`healthcheck`: new sessions shouldn't be sent here now.",
    Exit.BAD_CONFIG: "The configuration can't be used; every problem is on standard error.",
}
_ABOUT_FILE = """\
The configuration of `mailweir run` is YAML. It is taken as a whole or not at all: unknown and
duplicate keys are errors, and `mailweir check -c` FILE shows all errors of a file at once, as
file:line:col: path: message. `mailweir reload` has a running process take a changed file.
"""
_VALUES = """\
Times are `500ms`, `30s`, `5m`, `4h` or `1d`. Names of listeners, pools and servers are your own:
letters, digits and `.`, `_`, `-`, at most 64. A `*` below stands for such a name,
or for each entry of a list.
"""
EXAMPLE = """\
listeners:
  mx:
    bind: ["0.0.0.0:25", "[::]:25"]
    pool: farm
pools:
  farm:
    servers:
      a: {address: 10.0.0.1:25, proxy: v2}
      b: {address: 10.0.0.2:25, proxy: v2, weight: 50}
"""


def of_commands(root: click.Context) -> Iterator[str]:
    """mailweir(8), as troff."""
    yield roff.title(_NAME, 8, _version(), "System administration")
    yield roff.section("NAME")
    yield f"{_NAME} \\- a load balancer in front of SMTP farms\n"
    yield roff.section("SYNOPSIS")
    yield roff.paragraph("`mailweir` COMMAND [OPTIONS] [ARGUMENTS]")
    yield roff.section("DESCRIPTION")
    yield roff.paragraph(_ABOUT)
    yield roff.section("COMMANDS")
    for context in leaves(root):
        yield from _command(context)
    yield roff.section("OPTIONS")
    yield from map(roff.item, SHARED_OPTIONS.keys(), SHARED_OPTIONS.values())
    yield roff.section("SIGNALS")
    yield from map(roff.item, SIGNALS.keys(), SIGNALS.values())
    yield roff.section("EXIT STATUS")
    for code in Exit:
        yield roff.item(f"`{code:d}`", EXIT_CODES[code])
    yield roff.section("SEE ALSO")
    yield roff.paragraph(f"`{_FILE}`(5)")


def of_configuration() -> Iterator[str]:
    """mailweir.yaml(5), as troff."""
    yield roff.title(_FILE, 5, _version(), "File formats")
    yield roff.section("NAME")
    yield f"{_FILE} \\- the configuration of mailweir\n"
    yield roff.section("DESCRIPTION")
    yield roff.paragraph(_ABOUT_FILE)
    yield roff.paragraph(_VALUES)
    yield roff.section("EXAMPLE")
    yield roff.paragraph("Everything that isn't written has a default that is safe for mail.")
    yield roff.example(EXAMPLE)
    yield roff.section("KEYS")
    for part in parts():
        yield roff.subsection(part.name or "The file itself")
        yield roff.paragraph(part.about)
        for key in part.keys:
            yield roff.item(f"`{key.path}`", f"{key.what} May be {key.values}. {key.default}")
    yield roff.section("SEE ALSO")
    yield roff.paragraph("`mailweir`(8); `mailweir config sample` prints a whole file.")


def leaves(context: click.Context) -> Iterator[click.Context]:
    """Every command that does something, as the groups list them."""
    group = context.command
    if not isinstance(group, click.Group):
        yield context
        return
    for name in group.list_commands(context):
        command = group.commands[name]
        if not command.hidden:
            yield from leaves(click.Context(command, info_name=name, parent=context))


def _command(context: click.Context) -> Iterator[str]:
    parameters = context.command.params
    usage = " ".join(usage_of(parameter, context) for parameter in parameters)
    yield roff.subsection(f"`{context.command_path}` {usage}")
    for paragraph in cleandoc(context.command.help or "").split("\n\n"):
        yield roff.paragraph(paragraph)
    for option in parameters:
        if isinstance(option, click.Option) and option.name not in SHARED:
            told = option.get_help_record(context)
            if told is not None:
                yield roff.item(typed_options(told[0]), told[1])


def usage_of(parameter: click.Parameter, context: click.Context) -> str:
    if isinstance(parameter, click.Argument):
        return parameter.make_metavar(context)
    longest = max(parameter.opts, key=len)
    flag = isinstance(parameter, click.Option) and parameter.is_flag
    typed = f"`{longest}`" if flag else f"`{longest}` {parameter.make_metavar(context)}"
    return typed if parameter.required else f"[{typed}]"


def typed_options(record: str) -> str:
    """`-c, --config FILE` as click writes it, with what is to be typed marked as such."""
    words = (word.partition(",") for word in record.split(" "))
    return " ".join(f"`{w}`{comma}" if w.startswith("-") else w + comma for w, comma, _ in words)


def _version() -> str:
    return f"{_NAME} {version(_NAME)}"
