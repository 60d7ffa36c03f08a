"""What a rule of the configuration finds, and what more than one of them says. Pure.

Used by `rules` and by whoever else looks at the configuration.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

Path = tuple[str | int, ...]

# Of the names that a message is about.
_SHOWN = 3
# Words that are compared with a wrong one, and how long it may be: comparing takes its time.
_COMPARED, _LONGEST_COMPARED = 200, 64


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong, or with `warning` only odd, at `path`."""

    path: Path
    message: str
    warning: bool = False


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where something known is near, else nothing."""
    if len(word) > _LONGEST_COMPARED:
        return ""
    near = get_close_matches(word, islice(known, _COMPARED), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def listed(names: Sequence[str]) -> str:
    """`a, b, c and 5 more`."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def one_source(path: Path, prefix4: int, prefix6: int) -> Iterator[Finding]:
    """Lengths by which nobody differs from anybody."""
    for version, bits in ((4, prefix4), (6, prefix6)):
        if bits == 0:
            yield Finding(
                (*path, f"prefix{version}"), f"all of IPv{version} is one source", warning=True
            )
