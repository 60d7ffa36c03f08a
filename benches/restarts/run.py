"""Measures what new clients and a long mail notice of a restart, an upgrade or a reload.

    .venv/bin/python benches/restarts/run.py --rounds 10

mailweir beside HAProxy. Needs root, iproute2, nftables, clang and haproxy. The method is in the
README.md next to this file.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from benches.choosing.figures import percentile  # noqa: E402
from benches.peers.machine import heading  # noqa: E402
from benches.restarts.contenders import CONTENDERS, LIMIT, Replace, Site  # noqa: E402

from harness.clients.dialogue import Client  # noqa: E402
from harness.clients.smtpload import build  # noqa: E402
from harness.mailweir.kernel_rig import PORT  # noqa: E402
from harness.mailweir.replaced import farm_of_two  # noqa: E402
from harness.networks.row import LISTENER, Row, bpf_files, pins, remove_pins  # noqa: E402
from harness.pair.outage import Outage, outage_clients_of  # noqa: E402

_ADDRESS = (LISTENER, PORT)
_RATE = 50.0  # new clients a second
_PATIENCE = 30.0  # seconds that each waits for its greeting
_STEADY = 1.0  # seconds without a failure, before and after
_LINE = 0.2  # seconds between two lines of the mail
_COLUMNS = (
    "balancer",
    "rounds",
    "new clients",
    "of these failed",
    "longest wait p50",
    "max",
    "replaced after p50",
    "mails",
    "of these cut",
)


@dataclass(frozen=True)
class Round:
    """What clients noticed that came from the event on, and how long it took. Seconds."""

    clients: int
    failures: Counter[str]
    longest: float
    took: float
    mail: Future[bool]  # whether it was taken


def main() -> int:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="of each")
    parser.add_argument("--mail", type=float, default=60, help="seconds that DATA takes")
    parser.add_argument("--contenders", default=";".join(CONTENDERS), help="split by ;")
    options = parser.parse_args()
    bpf_files()
    binary, before = build(), pins()
    facts = heading(["haproxy"], sys.executable, options.rounds, 0)
    for key in ("date", "machine", "programs", "commit"):
        print(f"- {key}: {facts[key]}")
    print(f"\n| {' | '.join(_COLUMNS)} |\n|---|{'---:|' * (len(_COLUMNS) - 1)}")
    for name in options.contenders.split(";"):
        with (
            tempfile.TemporaryDirectory(prefix="restarts-") as folder,
            farm_of_two(Path(folder), binary, "restarts") as networks,
            CONTENDERS[name](Site(networks, Path(folder))) as replace,
        ):
            print(_row(name, _rounds(networks, Path(folder), replace, options)), flush=True)
        remove_pins(pins() - before)
    return 0


def _rounds(
    networks: Row, folder: Path, replace: Replace, options: argparse.Namespace
) -> list[Round]:
    command = networks.before("c")
    with (
        outage_clients_of(folder, _ADDRESS, command, rate=_RATE, limit=_PATIENCE) as clients,
        ThreadPoolExecutor(options.rounds) as beside,
    ):
        found = []
        for _ in range(options.rounds):
            begun = Event()
            client = networks.inside("c", lambda: Client(_ADDRESS)).result(LIMIT)
            mail = beside.submit(_taken, client, options.mail, begun)
            assert begun.wait(LIMIT), "no mail began"
            found.append(_round(clients, replace, mail))
        for one in found:
            one.mail.result(options.mail + LIMIT)
        return found


def _round(clients: Outage, replace: Replace, mail: Future[bool]) -> Round:
    clients.until_steady(time.monotonic(), seconds=_STEADY, limit=LIMIT)
    event = time.monotonic()
    replace()
    took = time.monotonic() - event
    clients.until_steady(time.monotonic(), seconds=_STEADY, limit=LIMIT)
    since = [one for one in clients.attempts() if one.began + one.took >= event]
    return Round(
        clients=len(since),
        failures=Counter(one.outcome for one in since if not one.ok),
        longest=max(one.took for one in since if one.ok),
        took=took,
        mail=mail,
    )


def _taken(client: Client, seconds: float, begun: Event) -> bool:
    """Whether a mail is taken whose text comes line by line."""
    try:
        with client:
            client.begin_mail()
            begun.set()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                client.send(b"A line of a long mail.\r\n")
                time.sleep(_LINE)
            client.expect("250", ".")
            client.expect("221", "QUIT")
    except (AssertionError, OSError):
        return False
    return True


def _row(name: str, rounds: Sequence[Round]) -> str:
    failures: Counter[str] = Counter()
    for one in rounds:
        failures.update(one.failures)
    waits = [one.longest for one in rounds]
    cells = [
        name,
        str(len(rounds)),
        str(sum(one.clients for one in rounds)),
        ", ".join(f"{count} {word}" for word, count in failures.items()) or "0",
        f"{percentile(waits, 0.5):.2f} s",
        f"{max(waits):.2f} s",
        f"{percentile([one.took for one in rounds], 0.5):.2f} s",
        str(len(rounds)),
        str(sum(not one.mail.result() for one in rounds)),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
