"""The environment that tests and their processes see: the same on every machine.

What one machine happens to have (output that isn't buffered, a proxy, a language, a time zone)
would otherwise decide whether a test passes.
"""

import re
from collections.abc import MutableMapping

_OF_ONE_MACHINE = re.compile(
    r"PYTHON.*"  # what an interpreter does by itself: buffering, warnings, encodings
    r"|LANG|LANGUAGE|LC_.*|TZ"
    r"|TERM|COLUMNS|LINES|(NO|FORCE)_COLOR|CLICOLOR.*"
    r"|(?i:(https?|no|all)_proxy)"
    r"|NOTIFY_SOCKET|LISTEN_.*|WATCHDOG_.*|INVOCATION_ID|JOURNAL_STREAM"  # systemd's
)


def same_everywhere(environment: MutableMapping[str, str]) -> None:
    """Take out what differs between machines and isn't meant for tests."""
    for name in [name for name in environment if _OF_ONE_MACHINE.fullmatch(name)]:
        del environment[name]
