"""Servers to be examined, and what is heard of them, for tests of verdicts."""

from dataclasses import replace
from typing import Any

from mailweir.config.load import parse
from mailweir.config.words import Proxy
from mailweir.doctor.findings import Diagnosis
from mailweir.doctor.opening import Opening
from mailweir.doctor.reply_words import TimedReply
from mailweir.doctor.server_verdict import findings
from mailweir.doctor.sessions_heard import Broken, Heard, Looked
from mailweir.doctor.subject import Subject, subjects

OWN = "10.0.0.25"
GREETING = TimedReply(220, ("mx.farm.test ESMTP Postfix",))
HELLO = TimedReply(250, ("mx.farm.test", "PIPELINING", "STARTTLS"))
CLOSED = Broken("greeting", "connection closed by the server")


def subject(proxy: str = "off", **changed: Any) -> Subject:
    """Server `a` of pool `farm`, for listener `mx`."""
    text = (
        'listeners: {mx: {bind: ["10.9.9.9:25"], pool: farm}}\n'
        f"pools: {{farm: {{servers: {{a: {{address: 10.0.0.1:25, proxy: {proxy}}}}}}}}}\n"
    )
    [found] = subjects(parse(text, "test.yaml").config, None)
    return replace(found, **changed)


def heard(proxy: str = "off", **changed: Any) -> Heard:
    """A session that went well with a Postfix."""
    whole = Heard(Opening(Proxy(proxy)), OWN, f"[{OWN}]", GREETING, HELLO)
    return replace(whole, **changed)


def closed(proxy: str = "off", **changed: Any) -> Heard:
    """A session whose server closed instead of greeting."""
    return heard(proxy, greeting=None, hello=None, broken=CLOSED, **changed)


def found(of: Subject, looked: Looked, now: float = 0.0, **names: str) -> list[Diagnosis]:
    """What comes of it."""
    by_address = {ip: names["name"] for ip in of.reached_at} if names else {}
    return [*findings(of, looked, by_address, now)]
