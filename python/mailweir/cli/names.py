"""The names that the running process knows, for shells that complete them.

A shell runs us at each press of Tab, and click asks here for what may stand for a parameter.
Where nobody answers there are no names, and nothing is said.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import click
from click.shell_completion import CompletionItem

from mailweir.errors import MailweirError

# Seconds. An answer takes milliseconds; for longer than this nobody waits at a prompt.
_PATIENCE = 0.5
# More than anybody chooses from, and enough to find an id among by how it begins.
_MOST = 1000

Names = list[CompletionItem[str]]


def servers(context: click.Context, _: click.Parameter, incomplete: str) -> Names:
    """For POOL/SERVER, each with its state."""
    found = _ask(context, "/api/v1/servers").get("servers", [])
    return _matching(incomplete, ((f"{row['pool']}/{row['name']}", row["state"]) for row in found))


def listeners(context: click.Context, _: click.Parameter, incomplete: str) -> Names:
    """For LISTENER, each with its addresses."""
    found = _ask(context, "/api/v1/status").get("listeners", [])
    return _matching(incomplete, ((one["name"], " ".join(one["addresses"])) for one in found))


def pools(context: click.Context, _: click.Parameter, incomplete: str) -> Names:
    """For --pool."""
    found = _ask(context, "/api/v1/status").get("pools", [])
    return _matching(incomplete, ((one["name"], "") for one in found))


def denied(context: click.Context, _: click.Parameter, incomplete: str) -> Names:
    """For what `undeny` takes back, each with who said it."""
    words = _ask(context, "/api/v1/status").get("operator", {}).get("words", [])
    said = ((word["what"].partition(" "), word["told"]) for word in words)
    found = ((about, by) for (what, _, about), by in said if what == "deny")
    return _matching(incomplete, islice(found, _MOST))


def sessions(context: click.Context, _: click.Parameter, incomplete: str) -> Names:
    """For SESSION, each with its client."""
    found = _ask(context, f"/api/v1/sessions?limit={_MOST}").get("sessions", [])
    return _matching(incomplete, ((one["id"], one["client"]) for one in found))


def _ask(context: click.Context, route: str) -> dict[str, Any]:
    from mailweir.admin import client

    try:
        return client.ask(context.params["socket_path"], "GET", route, timeout=_PATIENCE)
    except MailweirError:
        return {}


def _matching(incomplete: str, found: Iterable[tuple[str, str]]) -> Names:
    return [
        CompletionItem(name, help=about) for name, about in found if name.startswith(incomplete)
    ]
