"""Balancers that are replaced while they serve, and the ways to do it. Used by `run.py`."""

import io
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.mailweir.kernel_rig import PORT, Rig, kernel_rig
from harness.mailweir.replaced import SERVERS, farm_configuration, upgradable, upgrade
from harness.needs import program
from harness.networks.row import LISTENER, Row
from harness.process import running
from harness.programs.haproxy import HAProxy, haproxy_configuration
from harness.programs.supervisor import supervisor
from harness.waiting import until

# Seconds: longer than any of them takes.
LIMIT = 60.0
_SETTINGS = ("timeout connect 5s", "timeout server 11m")

# Replaces the program that serves; returns once the next one does.
Replace = Callable[[], None]


@dataclass(frozen=True)
class Site:
    """Where it runs."""

    networks: Row
    folder: Path


Contender = Callable[[Site], AbstractContextManager[Replace]]


@contextmanager
def _mailweir_restarted(forwarding: str, site: Site) -> Iterator[Replace]:
    """As `systemctl restart` does it: INT, and the next process gets the sockets that are kept."""
    config = farm_configuration(site.folder, forwarding=forwarding)
    with _quietly() as exits, supervisor(site.folder) as systemd:

        def begin() -> Rig:
            before = systemd.before()
            return exits.enter_context(kernel_rig(site.networks, site.folder, config, before))

        rig = begin()

        def restart() -> None:
            nonlocal rig
            rig.balancer.process.send(signal.SIGINT)
            rig.balancer.process.wait(LIMIT)
            rig = begin()

        yield restart


@contextmanager
def _mailweir_upgraded(forwarding: str, site: Site) -> Iterator[Replace]:
    """By `mailweir upgrade`, to the same version."""
    config = farm_configuration(site.folder, forwarding=forwarding)
    with _quietly() as exits:
        balancer = exits.enter_context(kernel_rig(site.networks, site.folder, config)).balancer
        exits.enter_context(upgradable(balancer))

        def replace() -> None:
            upgrade(balancer)

        yield replace


@contextmanager
def _haproxy_reloaded(site: Site) -> Iterator[Replace]:
    """USR2 to the master: a new worker listens, the old one ends with its last session."""
    with _quietly() as exits:
        balancer = exits.enter_context(_haproxy(site))

        def reload() -> None:
            before = _worker(balancer)
            balancer.process.send(signal.SIGUSR2)
            until(lambda: _worker(balancer) not in ("", before), "the next worker", limit=LIMIT)

        yield reload


@contextmanager
def _haproxy_restarted(site: Site) -> Iterator[Replace]:
    """TERM, as `systemctl restart` does it, and another one."""
    with _quietly() as exits:
        balancer = exits.enter_context(_haproxy(site))

        def restart() -> None:
            nonlocal balancer
            balancer.process.send(signal.SIGTERM)
            balancer.process.wait(LIMIT)
            balancer = exits.enter_context(_haproxy(site))

        yield restart


@contextmanager
def _haproxy(site: Site) -> Iterator[HAProxy]:
    file, stats = site.folder / "haproxy.cfg", site.folder / "haproxy.sock"
    text = haproxy_configuration(stats, (LISTENER, PORT), SERVERS, _SETTINGS)
    # What hands the listening sockets to the next worker.
    file.write_text(text.replace("level admin", "level admin expose-fd listeners"))
    command = [*site.networks.before("l"), program("haproxy"), "-W", "-db", "-f", str(file)]
    with running(command, site.folder, "haproxy") as process:
        balancer = HAProxy(process, (LISTENER, PORT), stats)
        process.until(balancer.is_listening, "HAProxy to listen")
        yield balancer


def _worker(balancer: HAProxy) -> str:
    """The process that answers, by its id; nothing while none does."""
    try:
        said = balancer.tell("show info")
    except OSError:
        return ""
    return next((line for line in said.splitlines() if line.startswith("Pid:")), "")


@contextmanager
def _quietly() -> Iterator[ExitStack]:
    """What is entered ends without showing its output: all of it ends on purpose here."""
    with ExitStack() as exits:
        yield exits
        with redirect_stderr(io.StringIO()):
            exits.close()


CONTENDERS: dict[str, Contender] = {
    "mailweir upgrade, kernel": partial(_mailweir_upgraded, "kernel"),
    "mailweir upgrade, relay": partial(_mailweir_upgraded, "relay"),
    "mailweir restart, kernel": partial(_mailweir_restarted, "kernel"),
    "mailweir restart, relay": partial(_mailweir_restarted, "relay"),
    "haproxy reload": _haproxy_reloaded,
    "haproxy restart": _haproxy_restarted,
}
