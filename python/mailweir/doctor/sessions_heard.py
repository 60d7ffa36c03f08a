"""What was heard of a server: in one session, and in all of them. Pure.

Made by `conversation` and `server_looks`; the verdicts are made of it.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address

from mailweir.config.words import Proxy
from mailweir.doctor.certificates import BadChain, Certificate
from mailweir.doctor.mta import Recognised, recognised
from mailweir.doctor.opening import Opening
from mailweir.doctor.reply_words import TimedReply

# A domain of which no server out there has the mail (RFC 2606); but it is in DNS.
RECIPIENT = "mailweir-doctor@example.com"
# What a server answers to EHLO that takes a header, or its lack, for nonsense.
_NO_NAME_MEANT = (500, 502, 503)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Broken:
    """At which step a session ended too early (connect, tls, greeting, ehlo, ...), and how."""

    step: str
    how: str


@dataclass(frozen=True, slots=True)
class Heard:
    """All of one session; None for what it didn't come to. `own` is the address that it came from,
    empty where there was no connection.
    """

    opening: Opening
    own: str = ""
    helo: str = ""
    greeting: TimedReply | None = None
    hello: TimedReply | None = None
    recipient: TimedReply | None = None
    helped: TimedReply | None = None
    certificate: Certificate | BadChain | None = None
    broken: Broken | None = None

    @property
    def serves(self) -> bool:
        """Whether it came to where a client could begin with its mail."""
        return self.hello is not None and self.hello.good

    @property
    def mta(self) -> Recognised:
        """Who the server is, by all that it said."""
        said = (self.greeting, self.hello, self.recipient, self.helped)
        paused = self.greeting.paused if self.greeting else 0.0
        return recognised([str(one) for one in said if one], paused)

    @property
    def name(self) -> str:
        """What the server calls itself: a host's name with a dot; empty where there is none. A
        teaser's line may have any words.
        """
        lines = self.greeting.lines if self.greeting else ()
        firsts = (line.split(" ")[0] for line in lines)
        return next((first for first in firsts if _HOST.fullmatch(first)), "")

    @property
    def last_words(self) -> str:
        """How far it came, for an operator."""
        if self.broken:
            return f"{self.broken.step}: {self.broken.how}"
        if self.greeting is None or not self.greeting.good:
            return f"greeting: {self.greeting}"
        return f"ehlo: {self.hello}"


@dataclass(frozen=True, slots=True)
class AtOnce:
    """So many sessions were open at the same time, with those of the running process, when the next
    one was `refused`; None where none was. Of `wanted` there may be fewer for another reason:
    the server was slow, say.
    """

    wanted: int
    opened: int
    refused: TimedReply | None


@dataclass(frozen=True, slots=True)
class Looked:
    """What was heard: as configured; with headers that name clients from outside; without a header,
    and with another one, where the first session failed. None for what wasn't tried.
    """

    configured: Heard
    client4: Heard | None = None
    client6: Heard | None = None
    plain: Heard | None = None
    others: tuple[Heard, ...] = ()
    at_once: AtOnce | None = None


def is_about_headers(proxy: Proxy, heard: Heard) -> bool:
    """Whether a session that failed may have done so for its PROXY header, or want of one."""
    if heard.broken and heard.broken.step == "connect":
        return False
    greeting, hello = heard.greeting, heard.hello
    if hello is not None:
        return hello.code in _NO_NAME_MEANT or (proxy is not Proxy.OFF and not is_about_name(hello))
    if greeting is not None and is_about_limit(greeting):
        return False
    # Who never expected a header and refuses us says so in his own words.
    refused = greeting is not None and greeting.code // 100 == 5
    return not (refused and proxy is Proxy.OFF)


def is_about_limit(said: TimedReply) -> bool:
    """Whether a server has as many sessions as it takes, of us or of all, by its words."""
    return said.code == 421 and "TOO MANY" in str(said).upper()


def is_about_relay(said: TimedReply) -> bool:
    """Whether an answer to a recipient elsewhere says if the server takes mail for anywhere: it
    takes it, or refuses just that (5.7.1 of RFC 3463; Exim's words; OpenSMTPD's).
    """
    words, theirs = str(said).upper(), (" 5.7.1 ", "RELAY", "INVALID RECIPIENT")
    # By default Postfix only puts it off: 454, of defer_unauth_destination.
    if said.good or "RELAY ACCESS DENIED" in words:
        return True
    # 5.7.1 is said of clients too, those on lists and those that have no name.
    of_client = any(word in words for word in ("CLIENT HOST", "BLOCKED USING"))
    return said.code // 100 == 5 and not of_client and any(word in words for word in theirs)


def is_about_name(said: TimedReply) -> bool:
    """Whether a refusal is of what we called ourselves, by its words."""
    words = str(said).upper()
    return not said.good and ("HELO" in words or "EHLO" in words)


def literal(address: str) -> str:
    """An address as SMTP writes it for a name (RFC 5321, 4.1.3)."""
    return f"[IPv6:{address}]" if ip_address(address).version == 6 else f"[{address}]"
