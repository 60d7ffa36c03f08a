"""What is wrong with this machine, for a configuration. Pure."""

from collections import defaultdict
from collections.abc import Iterator
from math import ceil

from mailweir import descriptors
from mailweir.config.address import Address
from mailweir.config.ha import Floating
from mailweir.config.model import Config
from mailweir.config.words import Forwarding, HaMode
from mailweir.doctor.findings import Ailment, Diagnosis
from mailweir.doctor.machine_state import MachineFacts, PortOwner

_HERE = "this machine"
# linux/capability.h
_NET_BIND_SERVICE, _NET_ADMIN, _PERFMON, _BPF = 10, 12, 38, 39
_NAMES = {
    _NET_BIND_SERVICE: "CAP_NET_BIND_SERVICE",
    _NET_ADMIN: "CAP_NET_ADMIN",
    _PERFMON: "CAP_PERFMON",
    _BPF: "CAP_BPF",
}
# Sessions that any farm wants at a time, where the configuration doesn't say.
_FEW = 1000
# What the data plane asks for (rust/core/src/listener/mod.rs).
_BACKLOG = 4096
# A session on the relay is two connections.
_CONNECTIONS = 2
# Where ports begin that hardly any service has for its own, and one beyond the last.
_OTHERS, _PORTS = 10240, 65536
# Percent of the kernel's table; a busy hour takes the rest.
_NEARLY_FULL = 80


def machine_findings(
    config: Config, facts: MachineFacts, pid: int | None, why_no_kernel_path: str, *, built: bool
) -> Iterator[Diagnosis]:
    """All of them. `pid` is of the running mailweir, and `why_no_kernel_path` what it says of that;
    `built`: whether mailweir has a kernel path at all.
    """
    kernel = built and _wants_kernel_path(config)
    yield from _clock(facts)
    yield from _descriptors(config, facts)
    yield from _local_ports(config, facts)
    yield from _tracking(config, facts)
    yield from _reverse_path(facts)
    yield from _secondaries(config, facts)
    yield from _backlog(facts)
    yield from _rights(config, facts, kernel=kernel)
    if kernel:
        yield from _kernel_path(facts, why_no_kernel_path)
    yield from _taken(config, facts, pid)


def _found(ailment: Ailment, wrong: str, change: str, where: str = _HERE) -> Diagnosis:
    return Diagnosis(where, ailment, wrong, change)


def _wants_kernel_path(config: Config) -> bool:
    paths = (listener.forwarding or config.forwarding for listener in config.listeners.values())
    return any(path is not Forwarding.RELAY for path in paths)


def _clock(facts: MachineFacts) -> Iterator[Diagnosis]:
    if facts.synchronised is False:
        yield _found(
            Ailment.CLOCK,
            "nobody sets the clock: times in logs and ends of certificates can't be relied on",
            "timedatectl set-ntp true (systemd-timesyncd), or install chrony",
        )


def _descriptors(config: Config, facts: MachineFacts) -> Iterator[Diagnosis]:
    limit = facts.rights.descriptors if facts.rights else facts.own_descriptors
    room = descriptors.sessions(limit)
    limits = (listener.limits.sessions or 0 for listener in config.listeners.values())
    wanted = config.max_sessions or sum(limits) or _FEW
    if room < wanted:
        yield _found(
            Ailment.DESCRIPTORS,
            f"{limit} descriptors are enough for {room} sessions, and {wanted} may come",
            "LimitNOFILE=1048576 in mailweir.service, or ulimit -Hn 1048576 before the start",
        )


def _local_ports(config: Config, facts: MachineFacts) -> Iterator[Diagnosis]:
    if not facts.local_ports:  # can't be read
        return
    wider = _widest(config)
    for name, pool in config.pools.items():
        for server, part in pool.servers.items():
            sources = max(1, len(part.source))
            ports = facts.local_ports * sources
            wanted = part.max_sessions or config.max_sessions or 0
            if ports < wanted:
                change = (
                    f"{ceil(wanted / facts.local_ports)} addresses in"
                    f" pools.{name}.servers.{server}.source"
                )
                if len(wider) * sources >= wanted:
                    ends = f"{wider[0]} {wider[-1]}"
                    change = f"sysctl net.ipv4.ip_local_port_range='{ends}'; or {change}"
                yield _found(
                    Ailment.LOCAL_PORTS,
                    f"{ports} local ports for {wanted} sessions on a server",
                    change,
                    f"{name}/{server} ({part.address})",
                )


def _widest(config: Config) -> range:
    """What the system could give out: not what other programs mostly listen at, nor what the kernel
    path has for itself.
    """
    if not _wants_kernel_path(config):
        return range(_OTHERS, _PORTS)
    own = config.source_ports
    return max(range(_OTHERS, own[0]), range(own[-1] + 1, _PORTS), key=len)


def _tracking(config: Config, facts: MachineFacts) -> Iterator[Diagnosis]:
    table = facts.tracking
    # The kernel takes 0 for no limit.
    if table is None or not table.most:
        return
    wanted = (config.max_sessions or 0) * _CONNECTIONS
    full = table.count * 100 >= table.most * _NEARLY_FULL
    if full or wanted > table.most:
        wrong = f"the kernel's table of connections has {table.count} of {table.most}"
        if wanted > table.most:
            wrong += f", and max_sessions are {wanted} of them"
        yield _found(
            Ailment.CONNECTION_TRACKING,
            f"{wrong}; when it is full, new ones are dropped without a word",
            f"sysctl net.netfilter.nf_conntrack_max={max(wanted, table.most) * 2}, or no tracking"
            " of these ports (nft: notrack)",
        )


def _reverse_path(facts: MachineFacts) -> Iterator[Diagnosis]:
    """Two devices in one network answer by one of them: the other one's packets are dropped."""
    devices = defaultdict(list)
    for device, network in facts.networks:
        devices[network].append(device)
    for network, names in devices.items():
        strict = sorted(set(names) & facts.strict)
        if len(set(names)) > 1 and strict:
            yield _found(
                Ailment.REVERSE_PATH,
                f"{' and '.join(sorted(set(names)))} are in {network}, and rp_filter=1 drops what"
                " comes by the one and would be answered by the other",
                " ".join(["sysctl", *(f"net.ipv4.conf.{name}.rp_filter=2" for name in strict)]),
            )


def _secondaries(config: Config, facts: MachineFacts) -> Iterator[Diagnosis]:
    """keepalived's addresses go with their network's first one; ours have a length of their own."""
    ha = config.ha
    if ha is None or ha.mode is not HaMode.EXTERNAL:
        return
    floating: list[Floating] = [*ha.virtual, *ha.source]
    for device in dict.fromkeys(one.dev for one in floating):
        if facts.promotes.get(device) is False:
            yield _found(
                Ailment.SECONDARY_ADDRESSES,
                f"when the first address of a network leaves {device}, its others go as well",
                f"sysctl net.ipv4.conf.{device}.promote_secondaries=1",
            )


def _backlog(facts: MachineFacts) -> Iterator[Diagnosis]:
    if facts.backlog is not None and facts.backlog < _BACKLOG:
        yield _found(
            Ailment.BACKLOG,
            f"{facts.backlog} clients may wait to be accepted: more of a crowd are dropped",
            f"sysctl net.core.somaxconn={_BACKLOG}",
        )


def _rights(config: Config, facts: MachineFacts, *, kernel: bool) -> Iterator[Diagnosis]:
    if facts.rights is None:
        return
    needed = [_NET_ADMIN, _PERFMON, _BPF] if kernel else []
    ports = (bind.port for listener in config.listeners.values() for bind in listener.bind)
    if any(0 < port < facts.free_ports_from for port in ports):
        needed.insert(0, _NET_BIND_SERVICE)
    lacking = [_NAMES[one] for one in needed if not facts.rights.capabilities >> one & 1]
    if lacking:
        what = " and the kernel path" if kernel else ""
        yield _found(
            Ailment.RIGHTS,
            f"the running process lacks {', '.join(lacking)}, for its ports{what}",
            f"AmbientCapabilities={' '.join(lacking)} in mailweir.service, and the same in"
            " CapabilityBoundingSet",
        )


def _kernel_path(facts: MachineFacts, why_not: str) -> Iterator[Diagnosis]:
    for device in facts.merging:
        yield _found(
            Ailment.RECEIVE_OFFLOAD,
            f"{device} merges segments before they are passed on (large receive offload)",
            f"ethtool -K {device} lro off",
        )
    if not facts.bpf_files:
        yield _found(
            Ailment.BPF_FILES,
            "no BPF file system: sessions in the kernel end with the process",
            "mount -t bpf bpf /sys/fs/bpf, and in /etc/fstab: bpf /sys/fs/bpf bpf defaults 0 0",
        )
    elif why_not:
        yield _found(
            Ailment.KERNEL_PATH,
            f"the running process has no kernel path: {why_not}",
            "what it names; or here forwarding: relay, where that is meant",
        )


def _taken(config: Config, facts: MachineFacts, pid: int | None) -> Iterator[Diagnosis]:
    """Other processes at our addresses."""
    wanted = [(f"listeners.{n}", b) for n, li in config.listeners.items() for b in li.bind]
    if config.admin.http is not None:
        wanted.append(("admin.http", config.admin.http))
    # Where we run, whoever can't be seen there will be ourselves; or may be, where we aren't told.
    us = (pid, None) if pid is not None or facts.unasked else ()
    ours = {one.address for one in facts.owners if one.pid in us}
    for key, bind in wanted:
        for owner in facts.owners:
            if owner.address not in ours and _meets(bind, owner):
                yield _found(
                    Ailment.PORT_TAKEN,
                    f"{bind} is taken: {_who(owner)} listens at {owner.address}",
                    f"{_stop(owner)}; or another port in {key}",
                    key,
                )
                break


def _meets(bind: Address, owner: PortOwner) -> bool:
    """Whether it is in the way. Who listens at all of IPv6 mostly has IPv4 with it."""
    at = owner.address
    if bind.port and at.port == bind.port and at.ip.version == 6 and at.ip.is_unspecified:
        return bind.ip.version == 6 or not owner.six_alone
    return at.overlaps(bind)


def _who(owner: PortOwner) -> str:
    if owner.pid is None:
        return "a process that only root can see"
    return f"{owner.name or 'a process'} (pid {owner.pid})"


def _stop(owner: PortOwner) -> str:
    if owner.pid is None:
        return f"ss -ltnp 'sport = {owner.address.port}' as root shows it: stop it"
    return f"stop it (systemctl status {owner.pid} says which service it is)"
