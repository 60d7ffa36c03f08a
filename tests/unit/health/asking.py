"""One check at a time, of servers that a test makes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP

from harness.servers.certificates import Certificate
from mailweir.config.address import Address, parse_server
from mailweir.config.check_keys import FurtherCheck
from mailweir.config.words import CheckKind, Proxy
from mailweir.health.check import Outcome, run
from mailweir.health.target import Speech, Target
from mailweir.state.desired import Health

NAME = "mx.farm.test"
BOX = "box@farm.test"


async def check(
    address: Address, kind: CheckKind, speech: Speech = Speech.SMTP, **keys: Any
) -> Outcome:
    asked = FurtherCheck.model_validate({"kind": kind, "timeout": "5s", **keys})
    return await run(Target(address, 5.0, kind, speech, Proxy.OFF, asked))


def told(outcome: Outcome) -> tuple[Health, str, str]:
    return outcome.verdict, outcome.step, outcome.detail


PASSED = (Health.UP, "", "")


@asynccontextmanager
async def smtp(handler: object = None, **options: Any) -> AsyncIterator[Address]:
    """aiosmtpd, as a server or in TLS from the first byte (`ssl`)."""
    loop = asyncio.get_running_loop()
    first = options.pop("ssl", None)

    def made() -> SMTP:
        return SMTP(handler or Sink(), loop=loop, **options)

    server = await loop.create_server(made, "127.0.0.1", 0, ssl=first)
    async with server:
        yield parse_server(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")


def serving(of: Certificate) -> SSLContext:
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(of.cert, of.key)
    return context
