"""Which mail server it is, by its own words: whoever is told what to change is told it in the words
of that server. Pure.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Mta(StrEnum):
    """Those whose settings are known here."""

    POSTFIX = "Postfix"
    EXIM = "Exim"
    OPENSMTPD = "OpenSMTPD"
    UNKNOWN = ""


# First by name, then by words that no other one has: names can be hidden.
_SIGNS = (
    (Mta.OPENSMTPD, re.compile(r"\bOpenSMTPD\b")),
    (Mta.EXIM, re.compile(r"\bExim\b")),
    (Mta.POSTFIX, re.compile(r"\bPostfix\b")),
    (Mta.EXIM, re.compile(r"\brequired Proxy negotiation failed\b")),
    # Not Exchange, which says the address alone, and not Sendmail, which is pleased to meet us.
    (
        Mta.EXIM,
        re.compile(
            r"^250 \S+ Hello (\S+ at )?\S+ \[[0-9A-Fa-f.:]+\]( (?!.*pleased to meet you)|$)"
        ),
    ),
    (Mta.EXIM, re.compile(r"^(214 Commands supported:|554 SMTP synchronization)")),
    (Mta.EXIM, re.compile(r"\bsynchronization error\b|\bToo many concurrent SMTP connections\b")),
    (
        Mta.POSTFIX,
        re.compile(r"\b(Recipient|Sender|Client host|Helo command) (address )?rejected: "),
    ),
    (Mta.POSTFIX, re.compile(r": Relay access denied$|Error: too many connections from ")),
    (Mta.POSTFIX, re.compile(r"^50[02] 5\.5\.2 Error: (command not recognized|bad syntax)")),
)
# How many seconds a greeting's lines are apart where somebody waits on purpose.
_TEASED = 0.9


@dataclass(frozen=True, slots=True)
class Recognised:
    """A mail server. `postscreen` is Postfix's, in front of it."""

    mta: Mta = Mta.UNKNOWN
    postscreen: bool = False

    def __str__(self) -> str:
        return "postscreen" if self.postscreen else self.mta.value


def recognised(said: Iterable[str], paused: float = 0.0) -> Recognised:
    """By whole replies, codes first; `paused` is how many seconds the lines of its greeting were
    apart.
    """
    words = list(said)
    for mta, sign in _SIGNS:
        if any(sign.search(one) for one in words):
            return Recognised(mta, mta is Mta.POSTFIX and paused >= _TEASED)
    return Recognised()
