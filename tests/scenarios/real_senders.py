"""Programs that people send mail with, each to mailweir in the three ways that there are.

Each of their sessions has one mail. They run in a network of a test's own, where `before`, the
beginning of a command, takes them.
"""

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from harness.clients.dialogue import Address
from harness.needs import program
from harness.process import run
from harness.programs.exim import exim
from harness.programs.postfix import DOMAIN, postfix
from harness.waiting import LIMIT

_FROM, _TO = "sender@client.test", f"box@{DOMAIN}"
_AT_ONCE = 4


class How(enum.Enum):
    """What a session is like."""

    PLAIN = "plain"
    STARTTLS = "STARTTLS"
    SMTPS = "smtps"


# Sends so many mails of such a size; what isn't waited for here comes soon.
Send = Callable[[How, int, int], None]
Addresses = Mapping[How, Address]
# A command that sends this file, which it may read as its standard input.
_Command = Callable[[How, Path], list[str]]


@contextmanager
def swaks(directory: Path, addresses: Addresses, before: Sequence[str]) -> Iterator[Send]:
    """swaks, which says QUIT and waits for its answer."""
    options = {How.PLAIN: [], How.STARTTLS: ["--tls"], How.SMTPS: ["--tls-on-connect"]}

    def command(how: How, mail: Path) -> list[str]:
        to = ["--server", "{}:{}".format(*addresses[how]), "--from", _FROM, "--to", _TO]
        quietly = ["--suppress-data", "--data", f"@{mail}"]
        return [*before, program("swaks"), *to, *quietly, *options[how]]

    yield _one_by_one(directory, command)


@contextmanager
def msmtp(directory: Path, addresses: Addresses, before: Sequence[str]) -> Iterator[Send]:
    """msmtp, by GnuTLS."""
    options = {
        How.PLAIN: [],
        How.STARTTLS: ["--tls=on", "--tls-starttls=on", "--tls-certcheck=off"],
        How.SMTPS: ["--tls=on", "--tls-starttls=off", "--tls-certcheck=off"],
    }

    def command(how: How, _: Path) -> list[str]:
        host, port = addresses[how]
        to = ["--file=/dev/null", f"--host={host}", f"--port={port}", f"--from={_FROM}"]
        return [*before, program("msmtp"), *to, *options[how], _TO]

    yield _one_by_one(directory, command)


@contextmanager
def exim_sends(directory: Path, addresses: Addresses, before: Sequence[str]) -> Iterator[Send]:
    """Exim, by GnuTLS and BDAT."""
    options = {
        How.PLAIN: "hosts_avoid_tls = *",
        How.STARTTLS: "hosts_require_tls = *",
        How.SMTPS: "protocol = smtps",
    }
    with exim(before) as sender:

        def command(how: How, _: Path) -> list[str]:
            host, port = addresses[how]
            sends = sender.command(how.value, f"{host}::{port}", options[how])
            return [*sends, "-f", _FROM, _TO]

        yield _one_by_one(directory, command)


@contextmanager
def postfix_sends(directory: Path, addresses: Addresses, before: Sequence[str]) -> Iterator[Send]:
    """Postfix, which says QUIT in one segment with the final dot and waits for no answer to it."""
    options = {
        How.PLAIN: "-o smtp_tls_security_level=none",
        How.STARTTLS: "-o smtp_tls_security_level=encrypt",
        How.SMTPS: "-o smtp_tls_security_level=encrypt -o smtp_tls_wrappermode=yes",
    }
    # Where it takes what it sends so.
    own = {how: f"127.0.0.1:{number}" for number, how in enumerate(addresses, start=2600)}
    takes, sends = [], []
    for how, (host, port) in addresses.items():
        onward = f"-o content_filter={how.name}:[{host}]:{port}"
        takes.append(f"{own[how]} inet n - n - - smtpd {onward}")
        sends.append(f"{how.name} unix - - n - - smtp {options[how]}")
    # A session for each mail, and no pause between two that it takes.
    settings = {"smtp_connection_cache_on_demand": "no", "in_flow_delay": "0"}
    home = directory / "sender"
    home.mkdir()
    with postfix(home, services=[*takes, *sends], settings=settings, before=before):

        def send(how: How, size: int, number: int) -> None:
            load = ["-s", str(_AT_ONCE), "-m", str(number), "-l", str(size)]
            told = [program("smtp-source"), *load, "-f", _FROM, "-t", _TO]
            done = run([*before, *told, f"inet:{own[how]}"], limit=LIMIT + number / 10)
            assert done.returncode == 0, done.stderr

        yield send


def _one_by_one(directory: Path, command: _Command) -> Send:
    """A process for each mail, a few at a time."""

    def send(how: How, size: int, number: int) -> None:
        mail = directory / f"{size}.eml"
        text = "Subject: an end\n\n" + ("x" * 70 + "\n") * (size // 71)
        mail.write_text(text)
        argv = command(how, mail)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            runs = [pool.submit(run, argv, limit=3 * LIMIT, told=text) for _ in range(number)]
            for sent in (one.result() for one in runs):
                assert sent.returncode == 0, sent.stdout + sent.stderr

    return send
