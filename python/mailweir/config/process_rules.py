"""What concerns the process as a whole: its limits, how it drains, its ports, its path.

Called by `rules`. Pure.
"""

from collections.abc import Iterator

from mailweir.config.finding import Finding
from mailweir.config.listener_rules import why_relayed
from mailweir.config.machine import ThisMachine
from mailweir.config.model import Config, Drain
from mailweir.config.units import format_duration
from mailweir.config.words import Forwarding

# Seconds of silence before what can't be read along is cut (`state.desired`).
_QUIET_OPAQUE = 30.0


def process_findings(config: Config, machine: ThisMachine | None) -> Iterator[Finding]:
    """What is wrong or odd in what there is but one of."""
    yield from _limits(config)
    yield from _drain(config.drain)
    yield from _path(config)
    if machine is not None:
        yield from _ports(config, machine)
        yield from _built(config, machine)


def _limits(config: Config) -> Iterator[Finding]:
    """Limits above that of the whole."""
    most = config.max_sessions
    if most is None:
        return
    message = f"is never reached: the process takes {most} sessions in all (`max_sessions`)"
    for name, listener in config.listeners.items():
        path = ("listeners", name, "limits")
        if (listener.limits.sessions or 0) > most:
            yield Finding((*path, "sessions"), message, warning=True)
        if (listener.limits.per_source.sessions or 0) > most:
            yield Finding((*path, "per_source", "sessions"), message, warning=True)
    for name, pool in config.pools.items():
        for server, one in pool.servers.items():
            if (one.max_sessions or 0) > most:
                at = ("pools", name, "servers", server, "max_sessions")
                yield Finding(at, message, warning=True)


def _drain(drain: Drain) -> Iterator[Finding]:
    deadline = drain.deadline
    if not deadline:
        return  # at once: that is meant
    # At the key that was written; the other one is at its default.
    key = "quiet" if "quiet" in drain.model_fields_set else "deadline"
    if drain.quiet >= deadline:
        yield Finding(
            ("drain", key),
            f"`quiet` ({format_duration(drain.quiet)}) isn't shorter than `deadline`"
            f" ({format_duration(deadline)}): sessions that say nothing are cut then, at no better"
            " moment than all others",
            warning=True,
        )
    elif deadline <= _QUIET_OPAQUE:
        yield Finding(
            ("drain", "deadline"),
            "sessions inside TLS and in the kernel are cut then, whatever they do: the moment for"
            f" that comes after {format_duration(_QUIET_OPAQUE)} of silence, and mail that is cut"
            " may come twice",
            warning=True,
        )
    if "spread" in drain.model_fields_set and drain.spread > deadline:
        yield Finding(
            ("drain", "spread"),
            f"is longer than `deadline` ({format_duration(deadline)}): sessions whose turn hasn't"
            " come by then are cut all at once",
            warning=True,
        )


def _path(config: Config) -> Iterator[Finding]:
    """The kernel path is insisted on, and no session can take it."""
    if config.forwarding is not Forwarding.KERNEL:
        return
    why = ""
    for name, listener in config.listeners.items():
        found = why_relayed(listener, config.pools.get(listener.pool))
        if listener.forwarding is Forwarding.RELAY:
            found = "its own `forwarding` is relay"
        if found is None:
            return
        why = why or f"listener `{name}`: {found}"
    yield Finding(("forwarding",), f"`kernel` can't be at any listener; {why}")


def _built(config: Config, machine: ThisMachine) -> Iterator[Finding]:
    if machine.kernel_path:
        return
    message = "`kernel` can't be: this mailweir was built without it, for want of clang"
    if config.forwarding is Forwarding.KERNEL:
        yield Finding(("forwarding",), message)
    for name, listener in config.listeners.items():
        if listener.forwarding is Forwarding.KERNEL:
            yield Finding(("listeners", name, "forwarding"), message)


def _ports(config: Config, machine: ThisMachine) -> Iterator[Finding]:
    if all(
        (listener.forwarding or config.forwarding) is Forwarding.RELAY
        for listener in config.listeners.values()
    ):
        return
    both = [port for port in config.source_ports if port in machine.given_ports]
    if both:
        yield Finding(
            ("source_ports",),
            f"the system gives {len(both)} of these to connections by itself"
            " (net.ipv4.ip_local_port_range): a program that gets the port of a session in the"
            " kernel disturbs it; take others, or have them in net.ipv4.ip_local_reserved_ports",
            warning=True,
        )
