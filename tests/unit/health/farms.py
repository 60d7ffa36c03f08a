"""A pool whose servers fail sessions by chance, second by second, without any of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from mailweir.config.pool import Outlier
from mailweir.health.outliers import Change, Outliers, PoolSeen, ServerSeen
from mailweir.health.suspicion import Counted
from mailweir.spec import ServerKey

POOL = "farm"


@dataclass
class Farm:
    """Servers `a`, `b`, ... that fail so much of their sessions; who is down isn't in use."""

    shares: list[float]
    random: Random
    settings: Outlier | None = field(default_factory=Outlier)
    panic: float = 0.5
    down: set[str] = field(default_factory=set)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.outliers = Outliers()
        self.names = [chr(ord("a") + number) for number in range(len(self.shares))]
        self._counted = {name: Counted(0, 0, 0, 0, 0) for name in self.names}
        self._before: dict[str, Counted] = {}

    def second(self, sessions: int) -> list[Change]:
        """So many sessions come in it; what is decided then."""
        self.come(sessions)
        self.now += 1.0
        found = self.look()
        self._before = dict(self._counted)
        return found

    def look(self) -> list[Change]:
        """What is decided now."""
        self.outliers.keep([POOL])
        return self.outliers.step(self.seen(), self.now)

    def seen(self) -> PoolSeen:
        """The pool at this moment."""
        members = [
            ServerSeen(
                name,
                "10.0.0.1:25",
                in_use=name not in self.down,
                counted=self._counted[name],
            )
            for name in self.names
        ]
        bad = sum(one.refused + one.cut + one.in_vain for one in self._counted.values())
        meant = len(self.names)
        return PoolSeen(POOL, self.settings, self.panic, meant, members, bad, self._before)

    def come(self, sessions: int) -> None:
        """Each asks servers in any order until one takes it."""
        for _ in range(sessions):
            used = self.used()
            self.random.shuffle(used)
            failed = []
            for name in used:
                if self.random.random() >= self.shares[self.names.index(name)]:
                    self._count(name, taken=1)
                    break
                failed.append(name)
            else:
                for name in failed:
                    self._count(name, in_vain=1)
                continue
            for name in failed:
                self._count(name, refused=1)

    def used(self) -> list[str]:
        """Who gets new sessions."""
        out = self.out()
        return [name for name in self.names if name not in out and name not in self.down]

    def out(self) -> set[str]:
        """Who is ejected."""
        return {key.server for key in self.outliers.ejected()}

    def check(self, *, passes: Callable[[str], bool] = lambda _: True) -> list[Change]:
        """Those whose time is over."""
        due = [key for key in self.outliers.due(self.now) if passes(key.server)]
        found = [self.outliers.checked(key, self.now, self.now, passed=True) for key in due]
        return [change for change in found if change]

    def fails(self, name: str, sessions: int) -> None:
        """So many in a row; the others take theirs."""
        for other in self.used():
            self._count(other, taken=20)
        self._count(name, refused=sessions, in_a_row=sessions)

    def ejected(self, name: str) -> None:
        """Have one ejected, by a row of failures."""
        self.fails(name, 5)
        (change,) = self.look()
        assert (change.key, change.ended) == (ServerKey(POOL, name), "")
        self._counted[name] = self._counted[name]._replace(in_a_row=0)

    def spoil(self, name: str) -> None:
        """A session that another one takes, and one for each other."""
        for other in self.used():
            if other != name:
                self._count(other, taken=1)
        self._count(name, refused=1)

    def _count(
        self, name: str, *, taken: int = 0, refused: int = 0, in_vain: int = 0, in_a_row: int = 0
    ) -> None:
        now = self._counted[name]
        self._counted[name] = Counted(
            now.taken + taken,
            now.refused + refused,
            now.cut,
            now.in_vain + in_vain,
            0 if taken else now.in_a_row + (in_a_row or refused),
        )


def ejections(changes: Sequence[Change]) -> list[str]:
    """Who was ejected, in order."""
    return [change.key.server for change in changes if not change.ended]
