"""The demo's mail servers over real sockets: what arrives, and going down kindly."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiosmtplib
import pytest

from mailweir.demo.farm import HOST, MailServer, come_and_go
from mailweir.demo.ledger import Ledger

MAIL = "Subject: x\r\n\r\nHello.\r\n"


@asynccontextmanager
async def serving(ledger: Ledger) -> AsyncIterator[MailServer]:
    server = MailServer("swift", ledger)
    server.open()
    try:
        yield server
    finally:
        server.end()


def client(server: MailServer) -> aiosmtplib.SMTP:
    return aiosmtplib.SMTP(
        hostname=HOST, port=server.port, local_hostname="[127.0.0.1]", start_tls=False, timeout=5
    )


async def send(connected: aiosmtplib.SMTP, text: str) -> str:
    _, answer = await connected.sendmail("a@demo.example", ["b@demo.example"], text)
    return answer


async def test_mails_are_counted_and_entered_by_number() -> None:
    ledger = Ledger()
    number = ledger.send()
    async with serving(ledger) as server, client(server) as connected:
        assert await send(connected, f"X-Demo-Mail: {number}\r\n{MAIL}") == "2.0.0 swift has it"
        await send(connected, MAIL)
        ledger.confirm(number)
    assert (server.mails, ledger.lost, ledger.duplicates) == (2, 0, 0)


async def test_going_down_refuses_new_sessions_and_lets_the_others_end() -> None:
    async with serving(Ledger()) as server, client(server) as under_way:
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, server.port)
        await send(under_way, MAIL)
        server.open()
        async with client(server) as again:
            await send(again, MAIL)
        await send(under_way, MAIL)
    assert server.mails == 3


async def test_going_down_keeps_who_waits_to_be_accepted() -> None:
    async with serving(Ledger()) as server:
        # Connected by the kernel; the server had no turn to accept it yet.
        waiting = socket.create_connection((HOST, server.port))
        server.close()
        reader, writer = await asyncio.open_connection(sock=waiting)
        assert (await reader.readline()).startswith(b"220 swift.demo.example ESMTP")
        writer.close()


async def test_coming_and_going_is_told() -> None:
    told: list[str] = []
    twice = asyncio.Event()

    def say(event: str) -> None:
        told.append(event)
        if len(told) == 4:
            twice.set()

    async with serving(Ledger()) as server:
        task = asyncio.create_task(come_and_go(server, say, up=0.001, down=0.001))
        await twice.wait()
        task.cancel()
        async with client(server):
            pass
    assert (server.outages, server.returns) == (2, 2)
    assert told[:2] == told[2:]
    assert told[0].startswith("swift goes down")
    assert told[1].startswith("swift is back")
