"""Which sessions an examination has with a server, and what it heard in them. Called by
`examination`; the verdicts are made of what it returns.

No more than it takes to know: a server that does as it is configured hears of one session, of two
where it is sent PROXY headers, and is asked for several at once only where it may count them
as one client's.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace

from mailweir.config.words import Proxy
from mailweir.doctor.conversation import Asked, Dial, connected, talk, timed_reply
from mailweir.doctor.mta import Mta
from mailweir.doctor.opening import CLIENT4, CLIENT6, IP, Opening
from mailweir.doctor.sessions_heard import AtOnce, Heard, Looked, is_about_headers
from mailweir.doctor.subject import Subject
from mailweir.health.probes import bytestream
from mailweir.health.probes.bytestream import ByteStream
from mailweir.health.probes.reply import NoReplyError, Replies

# Seconds. Longer than checks and clients wait, so that what comes too late for them is seen, and
# as long as a name server that doesn't answer holds servers up; and for a session whose header is
# a guess.
_LATER, _LATE, _GUESS = 5.0, 60.0, 15.0
# Sessions that servers take at a time by default, and the first that would be too many: Postfix
# of one client (smtpd_client_connection_count_limit), Exim of all (smtp_accept_max).
_TOO_MANY = {Mta.POSTFIX: 51, Mta.EXIM: 21}
# For one greeting of those, in seconds: a server that is slower is busy and isn't pressed.
_PATIENCE = 5.0
_OTHER = {Proxy.V1: Proxy.V2, Proxy.V2: Proxy.V1}


async def look(subject: Subject, source: IP | None, live: int) -> Looked:
    """Everything about a server that takes sessions to know. `live` is how many the running process
    has on it. Raises nothing but cancellation.
    """
    greeting = max(subject.check_timeout + _LATER, subject.greeting + _LATER, _LATE)
    dial = Dial(subject.address, source, subject.connect, greeting)
    tls_first = subject.speaks == "smtps"
    named = subject.proxy is not Proxy.OFF
    tls = {"tls": not tls_first, "tls_first": tls_first}
    asked = Asked(subject.helo, recipient=not named, ca=subject.ca, **tls)
    first = await talk(dial, Opening(subject.proxy), asked)
    if tls_first and first.certificate is not None and not first.serves:
        trusted = await talk(dial, Opening(subject.proxy), replace(asked, verify=False))
        first = replace(trusted, certificate=first.certificate)
    asked = replace(asked, recipient=False, tls=False, verify=False)
    if first.serves:
        return await _served(subject, dial, Looked(first), replace(asked, helo=None), live)
    if not is_about_headers(subject.proxy, first):
        return Looked(first)
    return await _guessed(subject, replace(dial, greeting=_GUESS), first, asked)


async def _served(subject: Subject, dial: Dial, looked: Looked, asked: Asked, live: int) -> Looked:
    """What else there is to know of one that serves."""
    if subject.proxy is not Proxy.OFF:
        foreign = replace(asked, recipient=True)
        client4 = await talk(dial, Opening(subject.proxy, CLIENT4), foreign)
        client6 = None
        if subject.ipv6_clients:
            client6 = await talk(dial, Opening(subject.proxy, CLIENT6), asked)
        looked = replace(looked, client4=client4, client6=client6)
    who = looked.configured.mta
    counts_us = who.mta is Mta.EXIM or subject.proxy is Proxy.OFF
    if counts_us and not who.postscreen and subject.speaks == "smtp":
        most = _TOO_MANY.get(who.mta, 0)
        clients = subject.server.max_sessions or most
        wanted = min(clients + subject.checks, most)
        looked = replace(looked, at_once=await _at_once(subject, dial, wanted, live))
    return looked


async def _guessed(subject: Subject, dial: Dial, first: Heard, asked: Asked) -> Looked:
    """What header a server wants that doesn't serve with the one it is sent."""
    if subject.proxy is Proxy.OFF:
        others: list[Heard] = []
        for kind in (Proxy.V2, Proxy.V1):
            others.append(await talk(dial, Opening(kind), asked))
            if others[-1].serves:
                break
        return Looked(first, others=tuple(others))
    client4 = None
    if first.greeting is None:
        client4 = await talk(dial, Opening(subject.proxy, CLIENT4), replace(asked, helo=None))
        if client4.serves:
            return Looked(first, client4)
    plain = await talk(dial, Opening(Proxy.OFF), asked)
    if plain.serves:
        return Looked(first, client4, plain=plain)
    other = await talk(dial, Opening(_OTHER[subject.proxy]), asked)
    return Looked(first, client4, plain=plain, others=(other,))


async def _at_once(subject: Subject, dial: Dial, wanted: int, live: int) -> AtOnce:
    """Open sessions one after the other, until so many are open or one is refused; end all."""
    header = Opening(subject.proxy)
    opened, refused = live, None
    streams: list[tuple[Replies, ByteStream]] = []
    try:
        while opened < wanted and refused is None:
            sock = await connected(dial)
            own, there = sock.getsockname()[:2], sock.getpeername()[:2]
            stream = await bytestream.opened(sock)
            replies = Replies(stream)
            streams.append((replies, stream))
            stream.write(header.header(own, there))
            async with asyncio.timeout(_PATIENCE):
                said = await timed_reply(replies, opens=True)
            if said.good:
                opened += 1
            else:
                refused = said
    except (OSError, EOFError, NoReplyError):
        pass  # whatever kept it from being opened, it says nothing of a limit
    finally:
        await asyncio.gather(*(_leave(replies, stream) for replies, stream in streams))
    return AtOnce(wanted, opened, refused)


async def _leave(replies: Replies, stream: ByteStream) -> None:
    with suppress(OSError, EOFError, NoReplyError):
        async with asyncio.timeout(_PATIENCE):
            stream.write(b"QUIT\r\n")
            await replies.reply()
    stream.close()
