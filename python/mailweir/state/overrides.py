"""What operators said, as values: of servers, of listeners, of clients, of the node. Pure.

Made by `operator`, kept in a file by `state.kept`, folded into the desired state.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from math import ceil, floor
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mailweir.config.model import Config
from mailweir.config.pool import MAX_WEIGHT
from mailweir.config.prefix import parse_prefix
from mailweir.config.units import format_duration
from mailweir.foreign import MOST, shown
from mailweir.spec import ServerKey, ServerState

_WEIGHT = re.compile(r"([0-9]{1,4})(%?)", re.ASCII)
# An escape of `shown` has ten characters at most, so that what it returned isn't cut by it.
_MOST_SHOWN = 10 * MOST
# The unit that a span of so many seconds is told in: as coarse as is still of use.
_COARSE = ((2 * 86400, 86400), (2 * 3600, 3600), (120, 60), (0, 1))


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


def parse_why(text: str) -> str:
    """An operator's reason, fit to be shown anywhere. Raises ValueError where it is too long."""
    if len(text) > MOST:
        raise ValueError(f"has {len(text)} characters, and may have {MOST}")
    return _fit(text.strip())


def _fit(text: str) -> str:
    return shown(text, _MOST_SHOWN)


class _Value(BaseModel):
    # A later version may write more, and this one come after it again: that is passed over.
    model_config = ConfigDict(frozen=True, extra="ignore")


_Optional = Annotated[str, AfterValidator(_fit), Field(exclude_if=lambda text: not text)]


class Word(_Value):
    """Who said something, when, for how long and why. Times in seconds since 1970.

    What is empty isn't written.
    """

    by: str
    behind: _Optional = ""  # who that is believed to be, as `sudo: alice`: a claim
    at: float
    until: float | None = None
    why: _Optional = ""

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


def person(by: str, behind: str) -> str:
    """`root (sudo: alice)`: who the kernel says it was, and who that is believed to be."""
    return f"{by} ({behind})" if behind else by


def author(word: Word) -> str:
    """`by root: new disk`: what stays the same for as long as the word counts."""
    return _because(f"by {person(word.by, word.behind)}", word)


def told(word: Word, now: float) -> str:
    """`by root 5m ago, for another 119m: new disk`: for tables and answers to commands."""
    said = f"by {person(word.by, word.behind)} {_span(max(0.0, now - word.at), floor)} ago"
    if word.until is not None:
        said += f", for another {_span(max(0.0, word.until - now), ceil)}"
    return _because(said, word)


def _because(said: str, word: Word) -> str:
    return f"{said}: {word.why}" if word.why else said


def _span(seconds: float, rounded: Callable[[float], int]) -> str:
    unit = next(unit for least, unit in _COARSE if seconds >= least)
    return format_duration(rounded(seconds / unit) * unit)
