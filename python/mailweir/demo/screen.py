"""What the user sees: a table that is drawn anew on a terminal, plain lines elsewhere."""

from collections import deque
from typing import Protocol

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mailweir.demo.watch import ServerRow, View

_EVENTS = 6  # shown below the table; with it they fit a terminal of 24 lines
_COLOURS = {"up": "green", "down": "bold red"}


class Screen(Protocol):
    """Where the demo shows itself."""

    def write(self, text: str) -> None:
        """Text that stays."""

    def event(self, seconds: float, text: str) -> None:
        """What happens right now."""

    def show(self, view: View) -> None:
        """How it stands."""

    def close(self) -> None:
        """Leave the last view standing; `write` alone comes after it."""


def for_stdout() -> Screen:
    """The screen that suits standard output."""
    console = Console(highlight=False)
    return Terminal(console) if console.is_terminal else Lines()


class Lines:
    """A line a second and a line per event, for pipes and files."""

    def __init__(self) -> None:
        self._next = 1.0

    def write(self, text: str) -> None:
        print(text, flush=True)

    def event(self, seconds: float, text: str) -> None:
        print(f"{seconds:4.0f}s  * {text}", flush=True)

    def show(self, view: View) -> None:
        if view.seconds < self._next:
            return
        self._next = int(view.seconds) + 1.0
        servers = ", ".join(_short(row) for row in view.rows)
        print(f"{view.seconds:4.0f}s  {totals(view)}; {servers}", flush=True)

    def close(self) -> None:
        """Nothing is open."""


class Terminal:
    """A table, the totals and the last events, drawn in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._events: deque[tuple[float, str]] = deque(maxlen=_EVENTS)
        self._view: View | None = None
        self._live: Live | None = None

    def write(self, text: str) -> None:
        # Not wrapped by us: paths and commands are there to be copied.
        self._console.print(text, soft_wrap=True, markup=False)

    def event(self, seconds: float, text: str) -> None:
        self._events.append((seconds, text))
        self._draw()

    def show(self, view: View) -> None:
        self._view = view
        self._draw()

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()

    def _draw(self) -> None:
        if self._view is None:
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        body = Group(table(self._view), Text(f" {totals(self._view)}\n"), self._happened())
        self._live.update(body, refresh=True)

    def _happened(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        for seconds, text in self._events:
            grid.add_row(Text(f"{seconds:5.0f}s", "dim"), Text(text))
        return grid


def totals(view: View) -> str:
    """The mails and the pace, in one line."""
    return (
        f"{view.sent} mails sent, {view.delivered} delivered, {view.failed} failed,"
        f" {view.lost} lost, {view.duplicates} twice; {view.sessions_per_second:.0f} sessions/s"
    )


def table(view: View) -> Table:
    """The servers."""
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    drawn.add_column("SERVER")
    drawn.add_column("STATE")
    # The words of `mailweir servers`; FAILED are connects.
    for head in ("SESSIONS", "ACTIVE", "MAILS", "FAILED"):
        drawn.add_column(head, justify="right")
    # As wide as what flaky's outage shows, so that the table doesn't move with it.
    drawn.add_column("LAST CHECK", no_wrap=True, min_width=28)
    for row in view.rows:
        drawn.add_row(
            row.name,
            Text(row.state, _COLOURS.get(row.state, "yellow")),
            str(row.sessions),
            str(row.active),
            "-" if row.mails is None else str(row.mails),
            str(row.failed_connects),
            Text(row.check, "" if row.check_ok else "red"),
        )
    return drawn


def _short(row: ServerRow) -> str:
    state = "" if row.state == "up" else f" ({row.state})"
    return f"{row.name}{state} {'-' if row.mails is None else row.mails}"
