"""Hundreds of thousands of idle flows: what each takes, and how the next process has them."""

import time
from dataclasses import dataclass

from benches.flows.measure import SWEEPER, tables_memory, thread_cpu_ns
from benches.flows.site import Around, Site, around, resting

from harness.machine.proc import own_memory
from harness.mailweir.run import Tree
from harness.servers.packets import Clients
from harness.waiting import until

_SETTLE = 3.0
_LOOKS = 50  # of the sweeper in a second
_LIMIT = 60.0


@dataclass(frozen=True)
class Memory:
    """In bytes: of the process's own, of its tables in the kernel."""

    process: int
    tables: int

    @classmethod
    def of(cls, site: Site) -> "Memory":
        """As it is now."""
        return cls(own_memory(site.pid), tables_memory(site.pid))

    def each_since(self, before: "Memory", flows: int) -> str:
        """In words."""
        process = (self.process - before.process) / flows
        tables = (self.tables - before.tables) / flows
        return f"{process:.0f} bytes of the process each, {tables:.0f} in the tables"


@dataclass(frozen=True)
class Adoption:
    """Seconds until the next process was up and had all flows; what became of these."""

    up_s: float
    all_s: float
    sweeper_s: float
    memory: Memory
    adopted: int
    report: Tree
    lines: int


@dataclass(frozen=True)
class Many:
    """Before, with all flows, and with the next process."""

    flows: int
    fixed: int
    bare: Memory
    idle: Memory
    look_us: float
    adoption: Adoption


def measured(flows: int, seconds: float) -> Many:
    """In one run: up, idle, killed, adopted, over."""
    with around(flows + flows // 8) as place:
        with place.balancer() as site:
            fixed, bare = site.kernel_path()["tables_bytes"], Memory.of(site)
            with place.packets.clients(resting(flows, 0), "--rest") as crowd:
                crowd.rest()
                site.until_flows(flows, _LIMIT)
                time.sleep(_SETTLE)
                idle, look = Memory.of(site), _look(site, seconds)
                site.rig.balancer.process.kill()
                return Many(flows, fixed, bare, idle, look, _adopted(place, crowd, flows))


def _look(site: Site, seconds: float) -> float:
    """Microseconds that a look takes where nothing moves, what is done each second included."""
    before, began = thread_cpu_ns(site.pid, SWEEPER), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return (thread_cpu_ns(site.pid, SWEEPER) - before) / 1000 / took / _LOOKS


def _adopted(place: Around, crowd: Clients, flows: int) -> Adoption:
    """The next process goes on with them, and they end."""
    began = time.monotonic()
    with place.balancer() as site:
        up = time.monotonic() - began
        site.until_flows(flows, _LIMIT)
        has_all = time.monotonic() - began
        time.sleep(_SETTLE)
        spent, memory = thread_cpu_ns(site.pid, SWEEPER) / 1e9, Memory.of(site)
        adopted = site.kernel_path()["adopted"]
        crowd.go_on()
        report = crowd.report()
        site.until_flows(0, _LIMIT)
        until(lambda: place.lines() >= flows, "all in the log", limit=_LIMIT)
        return Adoption(up, has_all, spent, memory, adopted, report, place.lines())


def table(many: Many) -> str:
    """As a list."""
    then = many.adoption
    report = then.report
    return "\n".join(
        [
            f"- {many.flows} idle flows: {many.idle.each_since(many.bare, many.flows)};"
            f" besides {many.fixed / 1e6:.1f} MB of tables from the start",
            f"- a look of the sweeper where nothing moves: {many.look_us:.0f} us",
            f"- after kill -9 the next process and its servers are up after {then.up_s:.1f} s,"
            f" and has all flows after {then.all_s:.1f} s ({then.adopted} adopted,"
            f" {then.sweeper_s:.2f} s of the sweeper's CPU);"
            f" {(then.memory.process - many.bare.process) / many.flows:.0f} bytes of its own each",
            f"- then each sends a mail and ends: {report['done']} done, failed {report['failed']},"
            f" said again {report['said_again']}; {then.lines} lines in the session log",
        ]
    )
