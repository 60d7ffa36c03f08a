"""The page of every metric, out of the rows that are scraped (`mailweir.admin.exposition`)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from generator import markdown, rust
from generator.markdown import code
from mailweir.admin.exposition import CounterBy, GaugeBy, Group, Row
from mailweir.admin.figures import FIGURES, SERVERS
from mailweir.admin.ha_role import ROLE
from mailweir.admin.metrics import COUNTED
from mailweir.admin.process_faults import FAULTS
from mailweir.admin.refusals import REFUSED
from mailweir.ha.pair_metrics import OF_PAIR

_ABOUT = """\
What Prometheus scrapes. `mailweir run` has it at `admin.http` (127.0.0.1:8025), `mailweir ha run`
has the part of the pair at `ha.http` (127.0.0.1:8026), both under `/metrics`. Labels are names of
the configuration and words of closed lists; none is a client's. A counter begins at 0 with the
process. A histogram has `_bucket`, `_count` and `_sum`. [Watching](../watching.md) says which of
them are worth an alert. Beside these there are `process_...`: the memory, descriptors and CPU time
of the process."""


class _Section(NamedTuple):
    prefix: str
    heading: str
    about: str


# In this order; a metric is in the first one whose prefix it has, else in the last.
_SECTIONS = (
    _Section(
        "mailweir_listener_", "Listeners", "What clients do at a listener, and what they get."
    ),
    _Section("mailweir_pool_", "Pools", "Servers of a pool by state; queue, overflow and sticky."),
    _Section("mailweir_server_", "Servers", "What a server was given, and how it served."),
    _Section("mailweir_check_", "Checks", "What checks found, and how long they took."),
    _Section(
        "mailweir_kernel_path_", "The kernel path", "Sessions that the kernel carries by itself."
    ),
    _Section("mailweir_relay_", "The relay", "How the process moves bytes of other sessions."),
    _Section("mailweir_session_log_", "The session log", "Lines that were written or are missing."),
    _Section("mailweir_config_", "The configuration", "Which one runs, and how reloads went."),
    _Section("mailweir_ha_", "The pair", "At `ha.http` of `mailweir ha run`, `_role` at both."),
    _Section("mailweir_", "The process", "Of the process as a whole."),
)
_REFUSALS = """\
The values of `reason` in `mailweir_kernel_path_refusals_total`: why sessions took the relay."""


def page() -> str:
    """As Markdown."""
    return markdown.page(
        "Metrics",
        _ABOUT,
        *_sections(),
        markdown.section("Reasons of the relay", _REFUSALS),
        _list(rust.words("kernel_path/refusal.rs", "Refusal")),
    )


def _sections() -> Iterator[str]:
    groups: tuple[Group[Any, Any], ...] = (
        *FIGURES,
        *SERVERS,
        *COUNTED,
        FAULTS,
        REFUSED,
        ROLE,
        *OF_PAIR,
    )
    left = [(group, row) for group in groups for row in group.rows]
    for section in _SECTIONS:
        here = [one for one in left if one[1].name.startswith(section.prefix)]
        left = [one for one in left if one not in here]
        yield markdown.section(section.heading, section.about)
        yield "\n".join(_entry(group, row) for group, row in here)


def _entry(group: Group[Any, Any], row: Row[Any, Any]) -> str:
    by = (row.by,) if isinstance(row, GaugeBy | CounterBy) else ()
    labels = ", ".join((*group.labels, *by))
    name = f"{row.whole_name}{{{labels}}}" if labels else row.whole_name
    return markdown.item(f"{code(name)}, {row.kind}: {row.help}")


def _list(words: Mapping[str, str]) -> str:
    entries: Iterable[tuple[str, str]] = words.items()
    return "\n".join(markdown.item(f"{code(word)}: {meaning}") for word, meaning in entries)
