"""A wall clock that a test sets, for programs that it starts. Needs the package faketime."""

from pathlib import Path

from harness.needs import missing


def by_clock(file: Path, *, at_once: bool = True) -> list[str]:
    """The beginning of a command whose wall clock is set by a file: `+3600`, say.

    Else than at once it is within a second. Then the file isn't read each time that a thread waits
    for another one, and a process with precedence doesn't wait for one that has none.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        missing("needs libfaketimeMT.so.1")
    return [
        "env",
        f"LD_PRELOAD={found[0]}",
        f"FAKETIME_TIMESTAMP_FILE={file}",
        "FAKETIME_NO_CACHE=1" if at_once else "FAKETIME_CACHE_DURATION=1",
        # Under both of its names.
        "DONT_FAKE_MONOTONIC=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    ]
