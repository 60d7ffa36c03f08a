"""A reply of a server (RFC 5321, 4.2), fit to be shown. Pure."""

from dataclasses import dataclass

from mailweir.foreign import shown


@dataclass(frozen=True, slots=True)
class TimedReply:
    """A whole reply. `lines` are without codes. `first` is how many seconds its first line took,
    and `paused` how many more its last.
    """

    code: int
    lines: tuple[str, ...]
    first: float = 0.0
    paused: float = 0.0

    @property
    def good(self) -> bool:
        """2yz."""
        return self.code // 100 == 2

    def __str__(self) -> str:
        return shown(f"{self.code} {' '.join(self.lines)}".rstrip())

    def offers(self, extension: str) -> bool:
        """Whether an answer to EHLO names an extension."""
        return any(line.upper().split(" ")[0] == extension for line in self.lines[1:])
