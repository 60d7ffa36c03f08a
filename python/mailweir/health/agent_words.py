"""What an agent's words mean. Pure.

As HAProxy's configuration manual has them for `agent-check`: words between spaces, tabs or commas.
What an agent doesn't mention stays as it was, so that only an agent takes back what it said.
"""

import re
from dataclasses import dataclass, replace

from mailweir.spec import ServerState
from mailweir.state.desired import NO_WISH, Wish

_SHARE = re.compile(r"([0-9]{1,5})%", re.ASCII)
_CAP = re.compile(r"maxconn:([0-9]{1,9})", re.ASCII)
_BETWEEN = re.compile(r"[ \t,]+")
_DOWN = ("down", "stopped", "fail", "failed")


@dataclass(frozen=True, slots=True)
class AgentSays:
    """What an agent has said until now."""

    wish: Wish = NO_WISH
    down: str = ""  # why the server is down, with the word for it; empty where it isn't


NOTHING_SAID = AgentSays()


def heard(before: AgentSays, line: str) -> AgentSays:
    """What counts after one more line. Words that nobody knows say nothing."""
    words, mark, why = line.partition("#")
    says = before
    for word in _BETWEEN.split(words.lower()):
        if word in _DOWN:
            says = replace(says, down=f"{word}{mark}{why}")
        elif word == "up":
            says = replace(says, down="")
        else:
            says = replace(says, wish=_wish(says.wish, word))
    return says


def _wish(before: Wish, word: str) -> Wish:
    match word:
        case "ready":
            return replace(before, state=None)
        case "drain":
            return replace(before, state=ServerState.DRAIN)
        case "maint":
            return replace(before, state=ServerState.MAINT)
    if share := _SHARE.fullmatch(word):
        return replace(before, share=int(share[1]) / 100)
    if cap := _CAP.fullmatch(word):
        return replace(before, max_sessions=int(cap[1]) or None)
    return before
