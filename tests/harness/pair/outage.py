"""How long an address was out, as clients see it: `outage_clients` beside a test, and what it says.

Stamps are of the monotonic clock, which all processes of a machine share.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from harness.clients.dialogue import Address
from harness.pair import outage_clients
from harness.process import Running, running

RATE = 20.0  # attempts a second
LIMIT = 0.3  # seconds for each


@dataclass(frozen=True)
class Attempt:
    """One connection."""

    began: float
    took: float
    outcome: str  # `ok`, or why not

    @property
    def ok(self) -> bool:
        """Whether it was greeted."""
        return self.outcome == "ok"


@dataclass(frozen=True)
class Gap:
    """What came of an event; seconds. Without success nothing came back: infinity."""

    first: float  # to the first attempt after it that succeeded
    gap: float  # to the first one after which none failed; 0 where none failed at all
    # From the beginning of the first one that failed to the same. What an event takes to happen
    # (a command that has to start, say) is a part of `gap` and none of `out`.
    out: float
    failures: dict[str, int]  # attempts that failed since, by reason


class Outage:
    """What the clients have seen so far."""

    def __init__(self, process: Running) -> None:
        self._process = process

    def attempts(self) -> list[Attempt]:
        """Those that are over, in the order in which they began."""
        whole = self._process.out.split("\n")[:-1]
        fields = (line.split() for line in whole)
        found = [Attempt(float(began), float(took), outcome) for began, took, outcome in fields]
        return sorted(found, key=lambda attempt: attempt.began)

    def steady_since(self, event: float) -> float:
        """For how long all were greeted that began after `event`, up to the newest; in seconds."""
        attempts = [one for one in self.attempts() if one.began >= event]
        after = max((one.began for one in attempts if not one.ok), default=event)
        greeted = [one.began for one in attempts if one.began > after]
        return greeted[-1] - greeted[0] if greeted else 0.0

    def until_steady(
        self, event: float = 0.0, *, seconds: float = 2 * LIMIT, limit: float = 30.0
    ) -> None:
        """Wait until all clients were greeted for so long, after `event`.

        That is longer than an attempt may take, so that none is missed that will still fail.
        """
        self._process.until(
            lambda: self.steady_since(event) >= seconds, "clients to be greeted", limit=limit
        )


@contextmanager
def outage_clients_of(
    directory: Path,
    address: Address,
    before: Sequence[str],
    *,
    name: str = "clients",
    rate: float = RATE,
    limit: float = LIMIT,
) -> Iterator[Outage]:
    """Clients that connect until the block ends; `before` begins their command."""
    host, port = address
    argv = [*before, sys.executable, outage_clients.__file__]
    with running([*argv, host, str(port), str(rate), str(limit)], directory, name) as process:
        yield Outage(process)


def gap(attempts: Sequence[Attempt], event: float, end: float = float("inf")) -> Gap:
    """What the attempts say that began from `event` on and before `end`.

    Those that were under way at the event belong to it if they failed.
    """
    since = [
        one
        for one in attempts
        if one.began < end and (one.began >= event or (one.began + one.took > event and not one.ok))
    ]
    failed = [one for one in since if not one.ok]
    after = max((one.began for one in failed), default=event)
    successes = [one.began for one in since if one.ok]
    stable = min((one for one in successes if one > after), default=float("inf"))
    return Gap(
        first=min(successes, default=float("inf")) - event,
        gap=stable - event if failed else 0.0,
        out=stable - min(one.began for one in failed) if failed else 0.0,
        failures=dict(Counter(one.outcome for one in failed)),
    )


def longest(attempts: Sequence[Attempt]) -> float:
    """The longest time anywhere between two successes that had a failure between them."""
    spans = [0.0]
    successes = [number for number, attempt in enumerate(attempts) if attempt.ok]
    for earlier, later in pairwise(successes):
        if later - earlier > 1:
            spans.append(attempts[later].began - attempts[earlier].began)
    return max(spans)
