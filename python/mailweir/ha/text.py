"""What `mailweir ha` commands print, of what its process answers; stdlib only. Pure."""

from collections.abc import Mapping
from typing import Any

from mailweir.admin.text import table

# Operators' words that `status` shows: there may be hundreds.
_MOST_WORDS = 20


def status(answer: Mapping[str, Any]) -> str:
    """`mailweir ha status`."""
    head = ("NODE", "STATE", "PRIORITY", "UP", "SERVERS", "SESSIONS", "CONFIGURATION", "HEARD")
    rows = [_node(node, own=node["name"] == answer["node"]) for node in answer["nodes"]]
    lines = [answer["sentence"]]
    lines += [f"ALARM: {alarm}" for alarm in answer["alarms"]]
    links = [(link["name"], _ago(link["heard_seconds"])) for link in answer["links"]]
    if answer["witness"] is not None:
        links.append(("witness", _ago(answer["witness"]["heard_seconds"])))
    words = [(word["only"], word["command"]) for word in answer["words"]]
    parts = [table(head, rows), table(("LINK", "HEARD"), links)]
    if words:
        parts.append(table(("ONLY", "TO REPEAT IT AT THE OTHER NODE"), words[:_MOST_WORDS]))
    if len(words) > _MOST_WORDS:
        parts.append(f"{len(words) - _MOST_WORDS} more, which --json shows\n")
    return "\n".join([*lines, "", *parts])


def explanation(answer: Mapping[str, Any]) -> str:
    """`mailweir ha explain`."""
    alarms = [f"ALARM: {alarm}" for alarm in answer["alarms"]]
    return "\n".join([f"{answer['sentence']} {answer['peer']}", *alarms])


def _node(node: Mapping[str, Any], *, own: bool) -> tuple[object, ...]:
    def shown(key: str) -> object:
        return "-" if node[key] is None else node[key]

    heard = "this node" if own else _ago(node["heard_seconds"])
    figures = [shown(key) for key in ("priority", "up", "servers", "sessions")]
    return (node["name"], node["state"], *figures, shown("configuration"), heard)


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f}s ago"
