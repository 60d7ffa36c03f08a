"""The load that every peer gets: kinds of sessions, each a bounded run of `smtpload source`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One kind of session, and how many of them make a run of some seconds."""

    name: str
    sessions: int
    messages: int
    size: str
    concurrency: int

    def arguments(self, sessions: int | None = None) -> list[str]:
        """The options of `smtpload source`; `sessions` shortens the run, for a warm-up."""
        return [
            f"--sessions={sessions or self.sessions}",
            f"--messages={self.messages}",
            f"--size={self.size}",
            f"--concurrency={self.concurrency}",
        ]

    def describe(self) -> str:
        """The same for a reader."""
        return (
            f"{self.sessions} sessions of {self.messages} x {self.size} bytes, "
            f"{self.concurrency} at a time"
        )


CASES = {
    case.name: case
    for case in (
        Case("1k", sessions=20000, messages=1, size="1k", concurrency=50),
        Case("20x1k", sessions=1500, messages=20, size="1k", concurrency=50),
        Case("64k", sessions=3000, messages=1, size="64k", concurrency=50),
        Case("8m", sessions=200, messages=1, size="8m", concurrency=8),
    )
}
