"""A minute of many sessions a second: none may want for a place or a port."""

from dataclasses import dataclass

from benches.flows.measure import tables_memory
from benches.flows.site import around
from benches.peers.measure import machine_cpu_ns, tree_cpu_ns

from harness.machine.proc import own_memory
from harness.mailweir.run import Tree
from harness.servers.packets import Flood

# The default: flows that live are few at a time.
_MOST_FLOWS = 65_536
_CLIENTS = 1000


@dataclass(frozen=True)
class Steady:
    """What became of them."""

    rate: int
    report: Tree
    refusals: Tree
    handed_over: int
    lingering: int
    process_mb: float
    tables_mb: float
    process_cores: float
    machine_cores: float


def measured(rate: int, seconds: int) -> Steady:
    """From 1 000 client addresses to three servers over four source addresses."""
    flood = Flood(f"10.9.0.1/{_CLIENTS}", rate * seconds, rate)
    with around(_MOST_FLOWS) as place, place.balancer() as site:
        memory, tables = own_memory(site.pid), tables_memory(site.pid)
        spent = tree_cpu_ns(site.pid), machine_cpu_ns()
        with place.packets.clients(flood) as clients:
            report = clients.report()
        site.until_flows(0, limit=20)
        took = report["took_s"] * 1e9
        process, machine = tree_cpu_ns(site.pid) - spent[0], machine_cpu_ns() - spent[1]
        status = site.kernel_path()
        return Steady(
            rate,
            report,
            status["refusals"],
            status["handed_over"],
            status["lingering"],
            (own_memory(site.pid) - memory) / 1e6,
            (tables_memory(site.pid) - tables) / 1e6,
            process / took,
            machine / took,
        )


def table(steady: Steady) -> str:
    """As a list."""
    report = steady.report
    begun = report["done"] + sum(report["failed"].values())
    times = report["session_us"]
    return "\n".join(
        [
            f"- {begun} sessions at {steady.rate} a second: {report['done']} done, failed"
            f" {report['failed']}, said again {report['said_again']},"
            f" took {report['took_s']:.1f} s",
            f"- on the kernel path: {steady.handed_over}; relayed, by reason: {steady.refusals}",
            f"- session ms: p50 {times['p50'] / 1000:.1f}, p99 {times['p99'] / 1000:.1f}",
            f"- keys that linger at the end: {steady.lingering}; the process's own memory"
            f" {steady.process_mb:+.1f} MB, tables {steady.tables_mb:+.1f} MB",
            f"- cores: the balancer's process {steady.process_cores:.2f}, all of the machine"
            f" {steady.machine_cores:.2f}",
        ]
    )
