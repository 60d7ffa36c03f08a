"""The senders against a server of the demo, and against nobody."""

import asyncio
import socket
from collections.abc import Callable
from random import Random

from mailweir.demo.farm import HOST, MailServer
from mailweir.demo.ledger import Ledger
from mailweir.demo.traffic import Traffic


async def send_until(port: int, ledger: Ledger, condition: Callable[[], bool]) -> Traffic:
    traffic = Traffic(port, ledger, Random(7))  # noqa: S311 - the same sessions each time
    enough = asyncio.Event()
    sending = asyncio.create_task(traffic.run(enough))
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the books have no event
            await asyncio.sleep(0.01)
        enough.set()
        await sending
    return traffic


async def test_every_mail_is_entered_on_both_sides() -> None:
    ledger = Ledger()
    server = MailServer("swift", ledger)
    server.open()
    traffic = await send_until(server.port, ledger, lambda: ledger.delivered >= 5)
    server.end()
    assert traffic.sessions <= ledger.sent == ledger.delivered == server.mails
    assert (ledger.failed, ledger.lost, ledger.duplicates, ledger.unanswered) == (0, 0, 0, 0)


async def test_a_failure_is_entered_with_its_reason() -> None:
    ledger = Ledger()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as nobody:
        nobody.bind((HOST, 0))
        port = nobody.getsockname()[1]
        traffic = await send_until(port, ledger, lambda: ledger.failed >= 2)
    assert traffic.sessions == ledger.sent == ledger.failed
    assert ledger.last_failure.startswith(f"mail {ledger.sent - 1}: ")
