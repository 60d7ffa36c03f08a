"""The books of every mail by its number: what was sent, confirmed, received. Pure.

`traffic` writes the sender's side, `farm` the receivers'; both live in one process,
so that a mail which was confirmed and never arrived shows at once.
"""


class Ledger:
    """Counts what happened to the mails. A number is given out once."""

    def __init__(self) -> None:
        self.delivered = 0
        """Confirmed to the sender."""
        self.failed = 0
        """Refused or broken off, as the sender saw it."""
        self.lost = 0
        """Confirmed to the sender, and no server has it."""
        self.duplicates = 0
        """Received again after they had been received."""
        self.last_failure = ""
        self._arrivals = bytearray()  # by number; a byte each, so that days of it fit

    @property
    def sent(self) -> int:
        """Mails begun by the senders."""
        return len(self._arrivals)

    @property
    def unanswered(self) -> int:
        """Mails that the senders have no answer to yet."""
        return self.sent - self.delivered - self.failed

    def send(self) -> int:
        """The number of a new mail."""
        self._arrivals.append(0)
        return len(self._arrivals) - 1

    def arrive(self, number: int) -> None:
        """A server has the mail. Numbers that were never given out are a stranger's."""
        if number >= len(self._arrivals):
            return
        if self._arrivals[number]:
            self.duplicates += 1
        self._arrivals[number] = 1

    def confirm(self, number: int) -> None:
        """The sender was told that the mail is accepted."""
        self.delivered += 1
        if not self._arrivals[number]:
            self.lost += 1

    def fail(self, reason: str) -> None:
        """The sender was told otherwise, or nothing."""
        self.failed += 1
        self.last_failure = reason
