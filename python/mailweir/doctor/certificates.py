"""What a server's certificate says, and what it is held to. Pure."""

from dataclasses import dataclass

from mailweir.config.units import format_days

_DAY = 86400
# Most are renewed a month before their end: one that is nearer wasn't.
SOON = 14
# OpenSSL, x509_vfy.h: the numbers that `verify_code` can be.
_NOT_YET_VALID, _EXPIRED = 9, 10
_SELF_SIGNED = (18, 19)
_NO_ISSUER = (2, 20, 21)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate whose chain leads to one that this machine trusts. `names` are those of DNS,
    `ends` is in seconds since 1970.
    """

    names: tuple[str, ...]
    ends: float

    def is_for(self, name: str) -> bool:
        """Whether a client that looks for `name` takes it (RFC 9525: a `*` is the first label)."""
        wanted = name.lower().rstrip(".")
        beyond = wanted.partition(".")[2]
        return any(one.lower() in (wanted, f"*.{beyond}") for one in self.names)

    def left(self, now: float) -> float:
        """Seconds until it ends, at `now` in seconds since 1970."""
        return self.ends - now


@dataclass(frozen=True, slots=True)
class BadChain:
    """Why this machine doesn't trust a certificate: `code` is OpenSSL's, `words` too."""

    code: int
    words: str

    @property
    def in_words(self) -> str:
        """For an operator."""
        if self.code == _EXPIRED:
            return "has ended"
        if self.code == _NOT_YET_VALID:
            return "isn't valid yet (or the clock of this machine is wrong)"
        if self.code in _SELF_SIGNED:
            return "is signed by itself or by a root that this machine doesn't trust"
        if self.code in _NO_ISSUER:
            return (
                "is of an issuer that this machine doesn't know: an intermediate is missing, or"
                " its root isn't trusted here"
            )
        return f"isn't trusted: {self.words}"


def wrong_with(found: Certificate | BadChain | None, name: str, now: float) -> str:
    """What is wrong with a certificate for a server that calls itself `name`, or nothing. An empty
    name isn't looked at.
    """
    if found is None:
        return ""
    if isinstance(found, BadChain):
        return f"its certificate {found.in_words}"
    left = found.left(now)
    if left < SOON * _DAY:
        return f"its certificate ends in {format_days(left)}: it wasn't renewed"
    if name and not found.is_for(name):
        listed = ", ".join(found.names[:3]) or "no name"
        return f"its certificate is for {listed}, and it calls itself {name}"
    return ""
