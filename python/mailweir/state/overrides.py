"""What operators said, as values: of servers, of listeners, of clients, of the node. Pure.

Made by `operator`, kept in a file by `state.kept`, folded into the desired state.
"""

import re
from collections.abc import Iterator, Mapping
from math import ceil
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from mailweir.config.model import Config
from mailweir.config.pool import MAX_WEIGHT
from mailweir.config.prefix import parse_prefix
from mailweir.config.units import format_duration
from mailweir.spec import ServerKey, ServerState

_WEIGHT = re.compile(r"([0-9]{1,4})(%?)", re.ASCII)


def parse_weight(text: str) -> str:
    """`50`, or `50%` of what is configured, as it is. Raises ValueError."""
    found = _WEIGHT.fullmatch(text)
    if found is None or int(found[1]) > MAX_WEIGHT:
        raise ValueError(
            f"must be a weight from 0 to {MAX_WEIGHT} or a share of the configured one, as 50%,"
            f" not {text!r}"
        )
    return text


def parse_denied(text: str) -> str:
    """A prefix that clients can be denied by, in its usual writing. Raises ValueError."""
    prefix = parse_prefix(text)
    if prefix.endswith("/0"):
        raise ValueError(f"{prefix} is everybody; have listeners refuse all sessions by `pause`")
    return prefix


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Word(_Value):
    """Who said something, when, and for how long. Times in seconds since 1970."""

    by: str
    at: float
    until: float | None = None

    def is_over(self, now: float) -> bool:
        """Whether its time has passed."""
        return self.until is not None and self.until <= now


class StateWord(Word):
    """A server is to be out of use; its checks go on where it only drains."""

    state: Literal["drain", "maint"]


class WeightWord(Word):
    """A server is to have another weight."""

    weight: Annotated[str, AfterValidator(parse_weight)]

    def weight_for(self, configured: int) -> int:
        """What that comes to; a share of something is never nothing unless it is 0%."""
        if not self.weight.endswith("%"):
            return int(self.weight)
        return shared(configured, int(self.weight[:-1]) / 100)


def shared(configured: int, share: float) -> int:
    """A share of a weight, `MAX_WEIGHT` at most; one of something is nothing only where it is 0."""
    least = 1 if share and configured else 0
    return min(MAX_WEIGHT, max(least, round(configured * share)))


_Word = TypeVar("_Word", bound=Word)


class Overrides(_Value):
    """All of it. Servers are called `pool/server`, which no name of either can contain."""

    version: Literal[1] = 1
    states: Mapping[str, StateWord] = {}
    weights: Mapping[str, WeightWord] = {}
    paused: Mapping[str, Word] = {}
    denied: Mapping[Annotated[str, AfterValidator(parse_denied)], Word] = {}
    node: Word | None = None

    def server_state(self, key: ServerKey) -> ServerState | None:
        """What an operator wants a server to be; None where nobody said anything."""
        word = self.states.get(str(key))
        return ServerState(word.state) if word else None

    def pause_of(self, listener: str) -> Word | None:
        """Why a listener is paused, if it is."""
        return self.node or self.paused.get(listener)

    def next_end(self) -> float | None:
        """When the next of them is over by itself."""
        return min((word.until for _, word in self.words() if word.until is not None), default=None)

    def words(self) -> Iterator[tuple[str, Word]]:
        """Each with what it is about, as the log says it."""
        yield from ((f"{word.state} {server}", word) for server, word in self.states.items())
        for server, weighs in self.weights.items():
            yield f"weight {server} {weighs.weight}", weighs
        yield from ((f"pause {listener}", word) for listener, word in self.paused.items())
        if self.node:
            yield "pause", self.node
        yield from ((f"deny {prefix}", word) for prefix, word in self.denied.items())

    def without_those_over(self, now: float) -> Self:
        """What still counts."""
        return self.model_copy(
            update={
                "states": _current(self.states, now),
                "weights": _current(self.weights, now),
                "paused": _current(self.paused, now),
                "denied": _current(self.denied, now),
                "node": None if self.node and self.node.is_over(now) else self.node,
            }
        )

    def without_absent(self, config: Config) -> Self:
        """What is about servers and listeners that `config` has."""
        servers = {
            str(ServerKey(name, server))
            for name, pool in config.pools.items()
            for server in pool.servers
        }
        return self.model_copy(
            update={
                "states": {key: word for key, word in self.states.items() if key in servers},
                "weights": {key: word for key, word in self.weights.items() if key in servers},
                "paused": {n: word for n, word in self.paused.items() if n in config.listeners},
            }
        )


def _current(words: Mapping[str, _Word], now: float) -> dict[str, _Word]:
    return {key: word for key, word in words.items() if not word.is_over(now)}


def told(word: Word, now: float) -> str:
    """`by root, for another 119m`: for logs and tables. In minutes where it is some."""
    if word.until is None:
        return f"by {word.by}"
    unit = 60 if word.until - now > 120 else 1
    left = max(0, ceil((word.until - now) / unit)) * unit
    return f"by {word.by}, for another {format_duration(left)}"
