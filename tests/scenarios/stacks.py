"""SYNs of the systems that mail comes from and goes to, as they are by default unless they say so.

Layouts are written as p0f 3 writes them, with what matters of a value behind it. Its data base is
of 2012 to 2016: scales that have grown since are of later kernels.

Weights are a guess at how many of a hundred sessions of a mixed farm each has: servers that send
mail, clients that submit it. Of servers alone 97 % are Unix and 2.6 % Windows by their software
(Security Space's survey of December 2023, 609 000 servers: Exim 55.7, Postfix 37.7, Sendmail 3.5,
MailEnable 1.8, MDaemon 0.5, Microsoft 0.2 %; 10 servers are OpenVMS). What is carried doesn't
depend on the guess: it is every system but OpenVMS.
"""

from dataclasses import dataclass

_SIZES = {"mss": 4, "ws": 3, "sok": 2, "ts": 10}
_KINDS = {"mss": 2, "ws": 3, "sok": 4, "ts": 8}


@dataclass(frozen=True)
class Stack:
    """One system's SYN: options in its order, `ecn` as `foreign` takes it, hops that it allows."""

    name: str
    weight: int
    options: str
    ecn: str = ""
    ttl: int = 64
    whole: bool = True

    def habits(self) -> str:
        """For `foreign`."""
        said = f"--syn {_bytes(self.options).hex()} --ttl {self.ttl}" if self.options else ""
        bare = f"--syn= --ttl {self.ttl}"
        ecn = f" --ecn {self.ecn}" if self.ecn else ""
        return (said or bare) + ecn + ("" if self.whole else " --never-df")


def _bytes(layout: str) -> bytes:
    """Options as a SYN has them; the time is whoever's sends it."""
    found = b""
    for option in filter(None, layout.split(",")):
        name, _, value = option.partition("=")
        if name in ("nop", "eol"):
            found += b"\x01" if name == "nop" else b"\x00"
            continue
        size = _SIZES[name]
        found += bytes([_KINDS[name], size]) + int(value or 0).to_bytes(size - 2, "big")
    return found


CLIENTS = [
    # Read on Linux 6.18; net/ipv4/tcp_output.c, tcp_options_write(). p0f: "Linux 3.x".
    Stack("Linux", 40, "mss=1460,sok,ts,nop,ws=7"),
    # As above with tcp_timestamps=0. p0f: "Linux 2.2.x-3.x (no timestamps)".
    Stack("Linux without time stamps", 5, "mss=1460,nop,nop,sok,nop,ws=7"),
    # As the first with tcp_ecn=1 (ip-sysctl.rst; flags: RFC 3168, 6.1.1).
    Stack("Linux with ECN", 4, "mss=1460,sok,ts,nop,ws=7", ecn="plain"),
    # p0f: "Windows 7 or 8", the same in later ones; time stamps off: Tcp1323Opts, netsh's default.
    Stack("Windows", 22, "mss=1460,nop,ws=8,nop,nop,sok", ttl=128),
    # netsh int tcp set global timestamps=enabled; the order is that of p0f's answers of "Windows 7
    # or 8" to whoever has them.
    Stack("Windows with time stamps", 4, "mss=1460,nop,ws=8,sok,ts", ttl=128),
    # p0f: "Mac OS X"; scale 6 of later ones, and ECN: net.inet.tcp.ecn is 1 by default in macOS 26
    # (developer.apple.com/forums/thread/815209, which doesn't see it asked for by IPv4).
    Stack("macOS", 5, "mss=1460,nop,ws=6,nop,nop,ts,sok,eol,eol", ecn="plain"),
    # p0f: "iPhone or iPad"; accurate ECN as L4S has it (RFC 9330, RFC 9768), which is a setting
    # there: the harder case.
    Stack("iOS", 5, "mss=1400,nop,ws=6,nop,nop,ts,sok,eol,eol", ecn="accurate"),
    # p0f: "FreeBSD 9.x".
    Stack("FreeBSD", 5, "mss=1460,nop,ws=6,sok,ts"),
    # p0f: "OpenBSD 4.x-5.x"; scale 6 of later ones.
    Stack("OpenBSD", 2, "mss=1460,nop,nop,sok,nop,ws=6,nop,nop,ts"),
    # Linux's order; p0f: "Linux (Android)"; scale 9 and a mobile network's size of later ones.
    Stack("Android", 4, "mss=1358,sok,ts,nop,ws=9"),
    # lwIP's src/include/lwip/opt.h: TCP_MSS 536, neither scale nor SACK nor time stamps.
    Stack("an appliance with small segments", 2, "mss=536", ttl=255),
    # Options aren't obligatory to send (RFC 9293, 3.7.1): the least that a SYN can be.
    Stack("an appliance without options", 1, ""),
    # p0f: "OpenVMS 8.x", which lacks DF; its segments may be cut on their way.
    Stack("OpenVMS, without DF", 1, "mss=1460,nop,ws=0", ttl=128, whole=False),
]

# What answers have of it is what was asked for.
SERVERS = [
    # As clients of the same name.
    Stack("Linux", 0, "mss=1460,sok,ts,nop,ws=7"),
    # Exchange on Windows as it comes; p0f's answers of "Windows 7 or 8" without time stamps.
    Stack("without time stamps", 0, "mss=1460,nop,ws=8,nop,nop,sok", ttl=128),
    # The same where they are on.
    Stack("window scale 8", 0, "mss=1460,nop,ws=8,sok,ts", ttl=128),
    # As clients of the same name.
    Stack("FreeBSD", 0, "mss=1460,nop,ws=6,sok,ts"),
]
