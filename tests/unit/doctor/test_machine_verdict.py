"""What is found of this machine, by what the kernel says and what is configured."""

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest

from mailweir.config.address import parse_bind
from mailweir.config.load import parse
from mailweir.config.model import Config
from mailweir.doctor.findings import Diagnosis
from mailweir.doctor.machine_state import MachineFacts, PortOwner, Rights, Tracking
from mailweir.doctor.machine_verdict import machine_findings

ALL_RIGHTS = Rights(1 << 20, (1 << 41) - 1)
WELL = MachineFacts(
    rights=ALL_RIGHTS,
    own_descriptors=1 << 20,
    local_ports=28232,
    tracking=None,
    strict=frozenset(),
    networks=(),
    merging=(),
    promotes={"eth0": True},
    backlog=4096,
    free_ports_from=1024,
    bpf_files=True,
    synchronised=True,
    owners=(),
    unasked=False,
)
LAN = IPv4Network("192.0.2.0/24")
PID = 700


def config(more: str = "", server: str = "") -> Config:
    text = (
        'listeners: {mx: {bind: ["192.0.2.10:25"], pool: farm}}\n'
        f"pools: {{farm: {{servers: {{a: {{address: 10.0.0.1:25, proxy: off{server}}}}}}}}}\n{more}"
    )
    return parse(text, "test.yaml").config


def found(
    about: Config | None = None, why_not: str = "", built: bool = True, **changed: Any
) -> list[Diagnosis]:
    facts = replace(WELL, **changed)
    return [*machine_findings(about or config(), facts, PID, why_not, built=built)]


def test_nothing_is_wrong() -> None:
    assert found() == []
    assert found(config("max_sessions: 10000\n")) == []


def owner(at: str, pid: int | None = 25, name: str = "exim4") -> PortOwner:
    return PortOwner(parse_bind(at), pid, name)


@pytest.mark.parametrize(
    ("about", "changed", "ailment", "change"),
    [
        ("", {"synchronised": False}, "clock", "timedatectl set-ntp true"),
        ("", {"rights": Rights(1024, -1)}, "descriptors", "LimitNOFILE=1048576"),
        ("max_sessions: 500000\n", {"rights": Rights(65536, -1), "local_ports": 0}, "descriptors",
         "LimitNOFILE=1048576"),
        ("max_sessions: 100000\n", {}, "local_ports", "4 addresses in pools.farm.servers.a.source"),
        ("max_sessions: 30000\n", {}, "local_ports", "ip_local_port_range='32768 65535'; or 2"),
        ("forwarding: relay\nmax_sessions: 50000\n", {}, "local_ports", "'10240 65535'; or 2 add"),
        ("source_ports: 50000-65535\nmax_sessions: 30000\n", {}, "local_ports", "'10240 49999'"),
        ("", {"tracking": Tracking(60000, 65536)}, "connection_tracking",
         "nf_conntrack_max=131072"),
        ("max_sessions: 20000\n", {"tracking": Tracking(1, 32768)}, "connection_tracking",
         "nf_conntrack_max=80000"),
        ("", {"networks": (("eth0", LAN), ("eth1", LAN)), "strict": frozenset({"eth1"})},
         "reverse_path", "sysctl net.ipv4.conf.eth1.rp_filter=2"),
        ("", {"merging": ("eth0",)}, "receive_offload", "ethtool -K eth0 lro off"),
        ("", {"backlog": 128}, "backlog", "sysctl net.core.somaxconn=4096"),
        ("", {"rights": Rights(1 << 20, 1 << 12 | 1 << 38 | 1 << 39)}, "rights",
         "AmbientCapabilities=CAP_NET_BIND_SERVICE in"),
        ("", {"rights": Rights(1 << 20, 1 << 10)}, "rights",
         "AmbientCapabilities=CAP_NET_ADMIN CAP_PERFMON CAP_BPF in"),
        ("", {"bpf_files": False}, "bpf_files", "mount -t bpf bpf /sys/fs/bpf"),
        ("", {"owners": (owner("192.0.2.10:25"),)}, "port_taken", "systemctl status 25"),
        ("", {"owners": (owner("0.0.0.0:25"),)}, "port_taken", "systemctl status 25"),
        ("", {"owners": (owner("[::]:25"),)}, "port_taken", "listeners.mx"),
    ],
)  # fmt: skip
def test_each_by_itself(about: str, changed: dict[str, Any], ailment: str, change: str) -> None:
    [one] = found(config(about), **changed)
    assert one.ailment.value == ailment
    assert change in one.change


def test_what_is_no_fault() -> None:
    # One device in a network, or filters that are loose.
    assert found(networks=(("eth0", LAN),), strict=frozenset({"eth0"})) == []
    assert found(networks=(("eth0", LAN), ("eth1", LAN))) == []
    # Listening elsewhere, and ourselves, whose sockets systemd has as well.
    assert found(owners=(owner("127.0.0.1:25"), owner("192.0.2.10:587"))) == []
    ours = owner("192.0.2.10:25", PID, "mailweir")
    assert found(owners=(ours, replace(ours, pid=1, name="systemd"))) == []
    assert found(tracking=Tracking(1000, 65536)) == []
    # 0 is no limit.
    assert found(config("max_sessions: 20000\n"), tracking=Tracking(1000, 0)) == []
    # Who listens at IPv6 alone.
    assert found(owners=(replace(owner("[::]:25"), six_alone=True),)) == []
    # More addresses have more ports.
    more = config("max_sessions: 50000\n", ", source: [192.0.2.11, 192.0.2.12]")
    assert found(more) == []
    # Nobody runs, or nobody may look.
    assert found(rights=None) == []
    assert found(local_ports=0, backlog=None, synchronised=None) == []


def test_who_can_only_be_seen_by_root() -> None:
    unseen = (owner("192.0.2.10:25", None, ""),)
    [one] = machine_findings(config(), replace(WELL, owners=unseen), None, "", built=True)
    assert "ss -ltnp 'sport = 25' as root" in one.change
    # Where we run, it is ourselves that mustn't be seen; and we may run where we aren't told.
    assert found(owners=unseen) == []
    untold = replace(WELL, owners=unseen, unasked=True)
    assert [*machine_findings(config(), untold, None, "", built=True)] == []
    others = replace(untold, owners=(owner("192.0.2.10:25"),))
    assert [*machine_findings(config(), others, None, "", built=True)] != []


def test_a_range_that_is_as_wide_already_is_not_advised() -> None:
    [one] = found(config("max_sessions: 70000\n"), local_ports=64512)
    assert one.change == "2 addresses in pools.farm.servers.a.source"


def test_without_a_kernel_path() -> None:
    changed: dict[str, Any] = {"bpf_files": False, "merging": ("eth0",)}
    assert found(config("forwarding: relay\n"), **changed) == []
    assert found(built=False, **changed) == []
    [one] = found(why_not="no program can be loaded")
    assert "no program can be loaded" in one.wrong


def test_secondary_addresses_are_keepaliveds_affair() -> None:
    external = "ha: {mode: external, virtual: [{address: 192.0.2.10/24, dev: eth0}]}\n"
    [one] = found(config(external), promotes={"eth0": False})
    assert "net.ipv4.conf.eth0.promote_secondaries=1" in one.change
    assert found(config(external), promotes={}) == []
    assert found(config(), promotes={"eth0": False}) == []


def test_ports_that_need_no_right() -> None:
    few = Rights(1 << 20, 1 << 12 | 1 << 38 | 1 << 39)
    assert found(rights=few, free_ports_from=25) == []
