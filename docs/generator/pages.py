"""Which pages there are, where they are, and who makes each."""

from collections.abc import Callable, Mapping
from pathlib import Path

from generator import api, commands, configuration, events, metrics, session_log

FOLDER = Path(__file__).parents[1] / "reference"

PAGES: Mapping[str, Callable[[], str]] = {
    "configuration.md": configuration.page,
    "commands.md": commands.page,
    "metrics.md": metrics.page,
    "session-log.md": session_log.page,
    "end-reasons.md": session_log.reasons_page,
    "events.md": events.page,
    "api.md": api.page,
}
