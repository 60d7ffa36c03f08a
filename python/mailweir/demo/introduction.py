"""What the demo says of itself at its start: what runs where, what to try."""

import shutil
import sys
from pathlib import Path

from mailweir.demo.child import Child
from mailweir.demo.farm import DOWN, HOST, UP, Farm

_CHARACTERS = {
    "swift": "answers at once",
    "slow": "answers late",
    "flaky": f"up for {UP:.0f} s, down for {DOWN:.0f} s, and again",
}


def introduction(farm: Farm, child: Child) -> str:
    """The text, with everything to copy on lines of its own."""
    servers = "\n".join(
        f"    {server.name:6} {HOST}:{server.port}  {_CHARACTERS[server.name]}"
        for server in farm.servers
    )
    config = "\n".join(f"    {line}" for line in child.config.splitlines())
    mailweir = _command()
    return f"""\
Three mail servers, mailweir in front of them, and senders with some 20 mails a second:

{servers}

mailweir's whole configuration, {child.file}:

{config}

While it runs, there is

    http://{HOST}:{child.http_port}/         the page
    http://{HOST}:{child.http_port}/metrics  for Prometheus

and in another terminal you can try

    {mailweir} status --socket {child.socket}
    {mailweir} servers --socket {child.socket}
    tail -f {child.log}

Ctrl-C ends it; nothing stays behind.
"""


def _command() -> str:
    """How this user calls mailweir in another terminal, where no virtual environment is active."""
    installed = Path(sys.executable).with_name("mailweir")
    if shutil.which("mailweir"):
        return "mailweir"
    return str(installed) if installed.exists() else f"{sys.executable} -m mailweir"
