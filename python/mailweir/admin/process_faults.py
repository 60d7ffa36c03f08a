"""What is wrong with the process itself, as metrics: bugs of ours, and lines of its log that nobody
read. Part of `metrics`.
"""

from mailweir import logs
from mailweir.admin.exposition import Counter, CounterBy, Group
from mailweir.faults import FaultPart, Faults

FAULTS = Group[Faults, Faults](
    (),
    lambda faults: [((), faults)],
    CounterBy(
        "mailweir_internal_errors",
        "Bugs of ours that came up, by where; any is worth an alert.",
        "part",
        lambda faults: {part.value: faults.times(part) for part in FaultPart},
    ),
    Counter(
        "mailweir_stderr_lines_dropped",
        "Lines of the process's log that were dropped, since nobody read standard error.",
        lambda _: logs.dropped(),
    ),
)
