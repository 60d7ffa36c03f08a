"""Clients of one source and another, many at once, and what they hear first."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from harness.clients.dialogue import Address, Client

IN = "220"
ABOVE_A_LIMIT = "421 4.7.0"
BUSY = "421 4.3.2"
DENIED = "554 5.7.1"


def heard(client: Client) -> str:
    """The code of its greeting; of a refusal, by which the connection ends, both codes."""
    line = client.line()
    if line.startswith(IN):
        return IN
    assert client.rest() == b"", "it is closed with that"
    return " ".join(line.split()[:2])


def answer(address: Address, host: str) -> str:
    """What a client of this source hears; it leaves as one should."""
    with Client(address, host=host) as client:
        said = heard(client)
        if said == IN:
            client.expect("221", "QUIT")
    return said


@contextmanager
def at_once(
    address: Address, host: str, number: int
) -> Iterator[tuple[list[Client], Counter[str]]]:
    """So many of a source, all connected before any of them listens. Those that were let in stay
    to the end of the block; and how many heard what.
    """
    clients: list[Client] = []
    try:
        for _ in range(number):
            clients.append(Client(address, host=host))
        said = [heard(client) for client in clients]
        here = [client for client, word in zip(clients, said, strict=True) if word == IN]
        yield here, Counter(said)
    finally:
        for client in clients:
            client.close()
