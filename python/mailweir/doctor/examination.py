"""The whole examination: servers beside each other, each host's one after the other; this machine;
the way out. Called by the command line.
"""

import asyncio
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address

from mailweir import descriptors, plane
from mailweir.config.address import Address
from mailweir.config.model import Config
from mailweir.config.words import Proxy
from mailweir.doctor import machine_facts, server_verdict, trust
from mailweir.doctor.conversation import Asked, Dial, talk
from mailweir.doctor.findings import Ailment, Diagnosis, Examined, NotSeen
from mailweir.doctor.machine_state import MachineFacts
from mailweir.doctor.machine_verdict import machine_findings
from mailweir.doctor.mta import Mta
from mailweir.doctor.opening import IP, Opening
from mailweir.doctor.server_looks import look
from mailweir.doctor.sessions_heard import Looked, is_about_name, is_about_relay
from mailweir.doctor.subject import Subject, subjects
from mailweir.foreign import shown
from mailweir.this_machine import is_own

_SMTP = 25
# Servers that are looked at at a time.
_BESIDE = 16
# Seconds, for a name of DNS, and for somebody out there.
_NAME, _OUTSIDE = 5.0, 15.0


@dataclass(frozen=True, slots=True)
class Live:
    """The running process: its id, how many sessions each server has, by pool and name, and why it
    has no kernel path.
    """

    pid: int
    sessions: Mapping[tuple[str, str], int]
    why_no_kernel_path: str = ""


def examine(config: Config, pool: str | None, live: Live | None, outwards: str | None) -> Examined:
    """All of it; of one pool, its servers alone. `outwards` is a host whose port 25 is tried."""
    descriptors.raise_limit()
    chosen = list(subjects(config, pool))
    findings, not_seen = asyncio.run(_servers(chosen, live, outwards))
    if pool is None:
        pid = live.pid if live else None
        facts = machine_facts.read(pid, config.admin.socket)
        why_not = live.why_no_kernel_path if live else ""
        built = plane.kernel_path_is_built()
        findings += machine_findings(config, facts, pid, why_not, built=built)
        not_seen += _not_seen(config, facts, live)
    return Examined(len(chosen), tuple(findings), tuple(not_seen))


def _not_seen(config: Config, facts: MachineFacts, live: Live | None) -> Iterator[NotSeen]:
    if facts.unasked:
        yield NotSeen(
            "this machine",
            "rights and descriptors of `mailweir run`, and whether ports whose process only root"
            f" can see are its own: somebody may be at {config.admin.socket} and doesn't answer"
            " you; ask as root, with that --socket (descriptors are those of this command)",
        )
    elif live is None:
        yield NotSeen(
            "this machine",
            "rights and descriptors of `mailweir run`: it isn't running, or can't be asked by you;"
            " descriptors are those of this command",
        )
    elif facts.rights is None:
        yield NotSeen("this machine", "rights of the running process: only root can see them")
    if facts.synchronised is None:
        yield NotSeen("this machine", "whether its clock is set: the kernel doesn't say")


async def _servers(
    chosen: Sequence[Subject], live: Live | None, outwards: str | None
) -> tuple[list[Diagnosis], list[NotSeen]]:
    beside = asyncio.Semaphore(_BESIDE)
    # Sessions that servers count by client would be counted together.
    hosts: dict[IP, asyncio.Lock] = defaultdict(asyncio.Lock)
    sessions = live.sessions if live else {}

    async def one(subject: Subject) -> Looked:
        lost = subject.ca and trust.why_not(subject.ca)
        trusting = replace(subject, ca=None) if lost else subject
        async with hosts[subject.address.ip], beside:
            running = sessions.get((subject.pool, subject.name), 0)
            return await look(trusting, _source(subject), running)

    # What speaks no SMTP can't be asked anything.
    asked = [subject for subject in chosen if subject.speaks != "tcp"]
    looked = await asyncio.gather(*map(one, asked))
    names = await _names({ip for subject in asked for ip in subject.reached_at})
    now = time.time()
    findings = [
        found
        for subject, seen in zip(asked, looked, strict=True)
        for found in server_verdict.findings(subject, seen, names, now)
    ]
    if outwards is not None:
        findings += await _outwards(outwards)
    return findings, [*_unasked(chosen), *_unanswered(asked, looked)]


def _source(subject: Subject) -> IP | None:
    """What its sessions are dialled from, of what this machine has now."""
    return next((ip for ip in subject.server.source if is_own(ip)), None)


def _unasked(chosen: Iterable[Subject]) -> Iterator[NotSeen]:
    for subject in chosen:
        if subject.speaks == "tcp":
            yield NotSeen(subject.where, "it speaks no SMTP (protocol: tcp): nothing can be asked")
        elif subject.ca and (why := trust.why_not(subject.ca)):
            yield NotSeen(subject.where, f"whether checks trust its certificate: {why}")
        if subject.server.source and _source(subject) is None:
            yield NotSeen(
                subject.where,
                "what it does for sessions from its `source`: this machine has none of those now",
            )


def _unanswered(asked: Sequence[Subject], looked: Sequence[Looked]) -> Iterator[NotSeen]:
    for subject, seen in zip(asked, looked, strict=True):
        heard = seen.configured if subject.proxy is Proxy.OFF else seen.client4
        recipient = heard.recipient if heard else None
        if seen.configured.serves and (recipient is None or recipient.code in (421, 530)):
            yield NotSeen(subject.where, "whether it relays: it let us name no recipient")
        elif heard and recipient and is_about_name(recipient) and subject.proxy is not Proxy.OFF:
            why = f"it refuses {heard.helo}, the name that a client of ours says ({recipient})"
            yield NotSeen(subject.where, f"whether it relays: {why}")
        elif recipient is not None and not (is_about_relay(recipient) or is_about_name(recipient)):
            yield NotSeen(subject.where, f"whether it relays: it refuses for else ({recipient})")
        if seen.configured.serves and subject.speaks == "smtps" and subject.proxy is Proxy.OFF:
            yield NotSeen(subject.where, "its limits by client: not tried where TLS comes first")
        tried = seen.at_once
        if tried is not None and tried.refused is None and tried.opened < tried.wanted:
            yield NotSeen(
                subject.where,
                f"its limits by client: it was too slow after {tried.opened} sessions of"
                f" {tried.wanted}",
            )
    looks = zip(asked, looked, strict=True)
    if any(_may_hide_postscreen(subject, seen) for subject, seen in looks):
        yield NotSeen(
            "servers",
            "whether postscreen is in front of a Postfix where no PROXY header is sent: it lets an"
            " address that it knows in without its pause; look at `postconf -M smtp/inet`",
        )
    if asked:
        yield NotSeen(
            "servers",
            "their idle limits, which SMTP has no word for: compare `postconf smtpd_timeout`"
            " (Postfix), `exim -bP smtp_receive_timeout` (Exim) with our timeouts.idle_client",
        )


def _may_hide_postscreen(subject: Subject, seen: Looked) -> bool:
    who = seen.configured.mta
    return subject.proxy is Proxy.OFF and who.mta is Mta.POSTFIX and not who.postscreen


async def _names(addresses: Iterable[IP]) -> dict[IP, str]:
    """What addresses are called in DNS, of those that are."""
    found = {}
    for ip in addresses:
        with suppress(OSError):
            async with asyncio.timeout(_NAME):
                ask = asyncio.get_running_loop().getnameinfo
                found[ip] = (await ask((str(ip), 0), socket.NI_NAMEREQD))[0]
    return found


async def _outwards(host: str) -> Iterator[Diagnosis]:
    """Whether a mail server out there can be reached from here."""
    problem = ""
    change = (
        "have the provider open port 25 outwards (many close it), and look at your own firewall"
    )
    try:
        async with asyncio.timeout(_NAME):
            ask = asyncio.get_running_loop().getaddrinfo
            (_, _, _, _, at), *_ = await ask(host, _SMTP, type=socket.SOCK_STREAM)
        address = Address(ip_address(at[0]), _SMTP)
    except (OSError, UnicodeError) as error:
        # Of a lookup the words come second; a label of 64 letters isn't even looked up.
        why = "it is no host name"
        if isinstance(error, OSError):
            why = error.strerror or "no answer"
        problem = f"can't be tried: {shown(host)} has no address ({shown(why)})"
        change = "write another name, or see to this machine's name servers (/etc/resolv.conf)"
    else:
        dial = Dial(address, None, _OUTSIDE, _OUTSIDE)
        heard = await talk(dial, Opening(Proxy.OFF), Asked(who=False))
        if heard.greeting is None:
            problem = f"can't be reached from here ({heard.last_words})"
    found = Diagnosis(
        "this machine",
        Ailment.OUTWARDS,
        f"port 25 of {shown(host)} {problem}",
        change,
    )
    return iter((found,) if problem else ())
