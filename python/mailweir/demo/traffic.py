"""The senders: some twenty mails a second in sessions of one to three, each mail numbered."""

import asyncio
from random import Random

import aiosmtplib

from mailweir.demo.farm import HOST, NUMBER_HEADER
from mailweir.demo.ledger import Ledger

_SESSIONS_PER_SECOND = 10.0
_MOST_MAILS = 3  # in a session; two on average
_MOST_SESSIONS = 30  # at a time; where servers don't keep up, new ones wait
_PATIENCE = 10.0  # seconds for one answer
_LONGEST_BODY = 400  # lines
_SENDER, _RECIPIENT = "sender@demo.example", "recipient@demo.example"


class Traffic:
    """Sessions to the balancer's port. Nothing is tried twice: each failure counts."""

    def __init__(self, port: int, ledger: Ledger, random: Random) -> None:
        self.sessions = 0
        self._port = port
        self._ledger = ledger
        self._random = random

    async def run(self, stop: asyncio.Event) -> None:
        """Send until told to stop, then let the sessions under way end."""
        room = asyncio.Semaphore(_MOST_SESSIONS)
        async with asyncio.TaskGroup() as sessions:
            while not stop.is_set():
                await room.acquire()
                task = sessions.create_task(self._session())
                task.add_done_callback(lambda _: room.release())
                # Sessions come as they do in life, not in step.
                await self._pause(self._random.expovariate(_SESSIONS_PER_SECOND), stop)

    async def _session(self) -> None:
        self.sessions += 1
        client = aiosmtplib.SMTP(
            hostname=HOST,
            port=self._port,
            local_hostname=f"[{HOST}]",
            start_tls=False,
            timeout=_PATIENCE,
        )
        number = self._ledger.send()
        try:
            await client.connect()
            for left in reversed(range(self._random.randint(1, _MOST_MAILS))):
                await client.sendmail(_SENDER, [_RECIPIENT], self._mail(number))
                self._ledger.confirm(number)
                if left:
                    await asyncio.sleep(self._random.uniform(0.05, 0.3))
                    number = self._ledger.send()
        except (aiosmtplib.SMTPException, OSError) as error:
            self._ledger.fail(f"mail {number}: {' '.join(str(error).split())}")
        else:
            await _quit(client)
        finally:
            client.close()

    def _mail(self, number: int) -> str:
        lines = self._random.randint(1, _LONGEST_BODY)
        return (
            f"From: <{_SENDER}>\r\nTo: <{_RECIPIENT}>\r\nSubject: Mail {number} of the demo\r\n"
            f"{NUMBER_HEADER}: {number}\r\n\r\n" + "Kind regards from the demo.\r\n" * lines
        )

    async def _pause(self, seconds: float, stop: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            return


async def _quit(client: aiosmtplib.SMTP) -> None:
    """Every mail is answered by now; a QUIT that fails harms none of them."""
    try:
        await client.quit()
    except (aiosmtplib.SMTPException, OSError):
        return
