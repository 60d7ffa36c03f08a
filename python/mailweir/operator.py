"""Takes operators' words: checks names, has them kept, drops what is over. Owned by the daemon."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal

import structlog

from mailweir.config.model import Config
from mailweir.errors import TooManyError, UnknownError
from mailweir.spec import ServerKey
from mailweir.state.keeping import Keeping
from mailweir.state.overrides import Overrides, StateWord, WeightWord, Word, person, told

# Each of these words makes the others a little slower to keep and to show. A list that is longer
# belongs in a file that `deny` names.
MAX_DENIED = 10_000
# Prefixes that an error names.
_MOST_NEAR = 10

_log = structlog.get_logger("mailweir")


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who says something, for how many seconds it is to count (None is until it is undone), and
    why. `behind` is who that is believed to be, as `sudo: alice`: shown, and nothing else.
    """

    name: str
    seconds: float | None = None
    behind: str = ""
    why: str = ""

    def __str__(self) -> str:
        return person(self.name, self.behind)

    def said(self) -> dict[str, str]:
        """Who and why, as the log and answers have it; why alone where a reason was given."""
        return {"by": str(self), **({"why": self.why} if self.why else {})}


class Operator:
    """What counts now. Each change is given to `keep`, so that it outlives the process; that it
    can't be kept doesn't keep it from counting.
    """

    def __init__(
        self,
        keep: Callable[[Overrides], object],
        *,
        on_ready: Callable[[ServerKey], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`on_ready` is called where a server is wanted in use, whatever is held against it."""
        self._keep = keep
        self._on_ready = on_ready
        self._clock = clock
        self.overrides = Overrides()

    def remember(self, kept: Overrides, config: Config) -> None:
        """Go on with what was kept."""
        self.overrides = kept.without_those_over(self._clock()).without_absent(config)

    def inherit(self, said: Overrides, config: Config) -> None:
        """Go on with what the process before this one was told."""
        self._take(said.without_those_over(self._clock()).without_absent(config))

    def go_back(self, overrides: Overrides) -> None:
        """Have what was said before count again."""
        self._take(overrides)

    def set_state(
        self, key: ServerKey, state: Literal["drain", "maint"], speaker: Speaker, config: Config
    ) -> None:
        """Take a server out of use. Raises UnknownError where `config` has none of that name."""
        word = StateWord(state=state, **self._said(speaker))
        self._change(states={**self.overrides.states, str(_server(key, config)): word})

    def ready(self, key: ServerKey, config: Config) -> None:
        """Take that back, and end an ejection. Raises UnknownError where `config` has none of that
        name.
        """
        self._change(states=_without(self.overrides.states, str(_server(key, config))))
        self._on_ready(key)

    def set_weight(self, key: ServerKey, weight: str, speaker: Speaker, config: Config) -> None:
        """Give a server another weight, as `parse_weight` takes it. Raises UnknownError."""
        word = WeightWord(weight=weight, **self._said(speaker))
        self._change(weights={**self.overrides.weights, str(_server(key, config)): word})

    def reset_weight(self, key: ServerKey, config: Config) -> None:
        """Give it its own again. Raises UnknownError."""
        self._change(weights=_without(self.overrides.weights, str(_server(key, config))))

    def pause(self, listener: str | None, speaker: Speaker, config: Config) -> None:
        """Have a listener refuse new sessions; None is all of them. Raises UnknownError."""
        word = Word(**self._said(speaker))
        if listener is None:
            self._change(node=word)
        else:
            self._change(paused={**self.overrides.paused, _listener(listener, config): word})

    def resume(self, listener: str | None, config: Config) -> None:
        """Take that back; None is what was said of all of them. Raises UnknownError."""
        if listener is None:
            self._change(node=None)
        else:
            self._change(paused=_without(self.overrides.paused, _listener(listener, config)))

    def deny(self, prefix: str, speaker: Speaker) -> None:
        """Have every listener refuse clients from `prefix`, as `parse_denied` gives it. Raises
        TooManyError.
        """
        denied = {**self.overrides.denied, prefix: Word(**self._said(speaker))}
        if len(denied) > MAX_DENIED:
            raise TooManyError(
                f"operators deny {MAX_DENIED} prefixes already, the most there may be; put them"
                " into a file that `deny` of a listener names"
            )
        self._change(denied=denied)

    def undeny(self, prefix: str) -> None:
        """Take that back. Raises UnknownError where nobody said it."""
        if prefix not in self.overrides.denied:
            raise UnknownError(_not_denied(prefix, self.overrides.denied))
        self._change(denied=_without(self.overrides.denied, prefix))

    def forget_those_over(self) -> list[str]:
        """Drop what has reached its end; what that was."""
        return self._keep_only(self.overrides.without_those_over(self._clock()))

    def forget_absent(self, config: Config) -> list[str]:
        """Drop what is about servers and listeners that `config` hasn't; what that was."""
        return self._keep_only(self.overrides.without_absent(config))

    def next_end(self) -> float | None:
        """In how many seconds something is over by itself."""
        end = self.overrides.next_end()
        return None if end is None else max(0.0, end - self._clock())

    def _said(self, speaker: Speaker) -> Mapping[str, object]:
        now = self._clock()
        until = None if speaker.seconds is None else now + speaker.seconds
        return {
            "by": speaker.name,
            "behind": speaker.behind,
            "at": now,
            "until": until,
            "why": speaker.why,
        }

    def _keep_only(self, left: Overrides) -> list[str]:
        if left == self.overrides:
            return []
        stays = {what for what, _ in left.words()}
        gone = [what for what, _ in self.overrides.words() if what not in stays]
        self._take(left)
        return gone

    def _change(self, **change: object) -> None:
        self._take(self.overrides.model_copy(update=change))

    def _take(self, overrides: Overrides) -> None:
        self.overrides = overrides
        self._keep(overrides)


async def remembering(
    keeping: Keeping, config: Config, on_ready: Callable[[ServerKey], None]
) -> Operator:
    """With what was said to the process before this one, which the log tells. Raises StalledError
    where the disk doesn't answer.
    """
    kept, problem = await keeping.read()
    if problem:
        _log.error("what operators said before isn't known", reason=problem)
    operator = Operator(keeping.keep, on_ready=on_ready)
    operator.remember(kept, config)
    overrides = operator.overrides
    if overrides.denied:
        _log.warning("operators' denies from before", prefixes=len(overrides.denied))
    for what, word in overrides.model_copy(update={"denied": {}}).words():
        _log.warning("operator's word from before", change=what, told=told(word, time.time()))
    return operator


def _without(words: Mapping[str, Word], key: str) -> dict[str, Word]:
    return {name: word for name, word in words.items() if name != key}


def _not_denied(prefix: str, denied: Iterable[str]) -> str:
    """What an operator may have meant instead."""
    wanted = ip_network(prefix)
    near = [one for one in denied if ip_network(one).overlaps(wanted)]
    said = f"no operator denied {prefix}"
    return f"{said}; of it or around it they did: {', '.join(near[:_MOST_NEAR])}" if near else said


def _server(key: ServerKey, config: Config) -> ServerKey:
    pool = config.pools.get(key.pool)
    if pool is None:
        raise UnknownError(f"there is no pool {key.pool}; there are {', '.join(config.pools)}")
    if key.server not in pool.servers:
        raise UnknownError(
            f"pool {key.pool} has no server {key.server}; it has {', '.join(pool.servers)}"
        )
    return key


def _listener(name: str, config: Config) -> str:
    if name not in config.listeners:
        known = ", ".join(config.listeners)
        raise UnknownError(f"there is no listener {name}; there are {known}")
    return name
