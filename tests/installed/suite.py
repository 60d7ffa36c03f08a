"""The Debian package on a bare Debian whose PID 1 is systemd: from its installation to its purge,
in this order, on one machine. `make installed` runs it.

MAILWEIR_BARE is an archive of the bare root, with what the package depends on; MAILWEIR_PACKAGES
are two packages, the second one newer.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.clients.dialogue import Client
from harness.clients.smtpload import Smtpload, Source, build
from harness.mailweir.run import Tree
from harness.networks.row import LISTENER, SERVER, Row, row
from harness.programs.systemd_node import SystemdNode, systemd_node
from harness.scale import count
from harness.waiting import LIMIT, until

_PORT = 25
_SERVERS = {"a": f"{SERVER}:2525", "b": f"{SERVER}:2526"}
_RATE = 300  # new sessions each second
_LONG = 200  # sessions that last
_RESTARTS = count(3, 10)
_INSTALLING = 300.0  # seconds
# Of the unit: NET_BIND_SERVICE, NET_ADMIN, NET_RAW, PERFMON, BPF (capability.h).
_CAPABILITIES = 1 << 10 | 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39
Counted = Callable[[str], None]

pytestmark = pytest.mark.timeout(600)


class Machine:
    """The bare machine, and what is around it."""

    def __init__(self, networks: Row, node: SystemdNode, root: Path, folder: Path) -> None:
        self.networks = networks
        self.node = node
        self.root = root
        self._clients = Smtpload(build(), folder, networks.before("c"))
        self._loads = 0

    def install(self, package: Path) -> str:
        """With apt, of what is there alone: it has no network but the test's."""
        there = self.root / "opt" / package.name
        there.write_bytes(package.read_bytes())
        return self.says("apt-get", "-qy", "install", f"/opt/{package.name}")

    def says(self, *command: str) -> str:
        """What a command says there, where that goes well."""
        done = self.node.run(*command, limit=_INSTALLING)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def status(self) -> Tree:
        """What `mailweir status` says."""
        found: Tree = json.loads(self.says("mailweir", "status", "--json"))
        return found

    def main_pid(self) -> int:
        """Of the unit, as the machine's own processes know it."""
        return int(self.node.shows("mailweir", "MainPID"))

    def process(self, pid: int) -> dict[str, str]:
        """Its /proc/PID/status."""
        lines = self.says("cat", f"/proc/{pid}/status").splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def lives(self, pid: int) -> bool:
        """Whether there is a process of that number."""
        return self.node.run("test", "-e", f"/proc/{pid}").returncode == 0

    def client(self) -> Client:
        """Connected from the clients' network."""
        return self.networks.inside("c", lambda: Client((LISTENER, _PORT))).result(LIMIT)

    def load(self, exits: ExitStack, *options: str) -> Source:
        """Clients that come until they are stopped."""
        self._loads += 1
        name, where = f"load-{self._loads}", (LISTENER, _PORT)
        return exits.enter_context(self._clients.source(name, where, *options, "--duration=1000m"))

    def journal(self) -> str:
        """What the unit has said."""
        return self.says("journalctl", "--no-pager", "-u", "mailweir", "-o", "cat")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("installed")
    root = folder / "root"
    root.mkdir()
    archive = os.environ["MAILWEIR_BARE"]
    subprocess.run(["tar", "--extract", "--file", archive, "--directory", root], check=True)
    with row("installed") as networks, ExitStack() as exits:
        servers = Smtpload(build(), folder, networks.before("s"))
        exits.enter_context(servers.sink("servers", listen=tuple(_SERVERS.values())))
        node = exits.enter_context(systemd_node(networks, "l", folder, bare=root))
        yield Machine(networks, node, root, folder)


@pytest.fixture(scope="module")
def packages() -> list[Path]:
    """The older one first."""
    return [Path(one) for one in os.environ["MAILWEIR_PACKAGES"].split(os.pathsep)]


def test_it_waits_to_be_edited(machine: Machine, packages: list[Path], counted: Counted) -> None:
    began = time.monotonic()
    said = machine.install(packages[0])
    counted(f"installed in {time.monotonic() - began:.1f} s")
    assert "edit /etc/mailweir/mailweir.yaml, then: systemctl enable --now mailweir" in said
    assert machine.node.run("systemctl", "is-active", "mailweir").stdout == "inactive\n"
    assert machine.node.run("systemctl", "is-enabled", "mailweir").stdout == "disabled\n"
    done = machine.node.run("mailweir", "check", "-c", "/etc/mailweir/mailweir.yaml")
    assert (done.returncode, "it needs" in done.stderr or "least" in done.stderr) == (78, True)
    # Neither a compiler nor a network was there.
    assert machine.node.run("which", "gcc", "clang", "cargo", "pip").stdout == ""
    for page in ("mailweir.8", "mailweir.yaml.5"):
        assert list(machine.root.glob(f"usr/share/man/man?/{page}.gz"))
    assert "mailweir" in machine.says("mailweir", "--version")


def test_it_serves_after_one_edit(machine: Machine, counted: Counted) -> None:
    began = time.monotonic()
    file = machine.root / "etc" / "mailweir" / "mailweir.yaml"
    rows = (f"      {name}: {{address: '{at}', proxy: off}}\n" for name, at in _SERVERS.items())
    file.write_text(f"""\
listeners:
  mx: {{bind: ["0.0.0.0:25"], pool: farm}}
pools:
  farm:
    servers:
{"".join(rows)}log: {{sessions: /var/log/mailweir/sessions.log}}
""")
    machine.says("systemctl", "enable", "--now", "mailweir")
    with machine.client() as client:
        client.expect("220")
        counted(f"from the edit to a greeting: {time.monotonic() - began:.1f} s")
        client.expect("221", "QUIT")
    with ExitStack() as exits:
        load = machine.load(exits, f"--rate={_RATE}", "--concurrency=50")
        until(lambda: machine.status()["kernel_path"]["handed_over"] > _RATE, "flows")
        load.stop()
        assert load.sent().failures == {}
    took = {one["name"]: one["sessions"] for one in _servers(machine)}
    assert min(took.values()) > 0
    assert machine.status()["kernel_path"]["ends_with_process"] is None
    carried = machine.status()["kernel_path"]["handed_over"]
    counted(f"sessions by server: {took}; in the kernel {carried}")


def _servers(machine: Machine) -> list[Tree]:
    found: list[Tree] = json.loads(machine.says("mailweir", "servers", "--json"))["servers"]
    return found


def test_it_has_the_rights_of_its_unit_and_no_others(machine: Machine) -> None:
    process = machine.process(machine.main_pid())
    user = machine.says("id", "-u", "mailweir").strip()
    assert set(process["Uid"].split()) == {user} != {"0"}
    sets = {process[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")}
    assert sets == {f"{_CAPABILITIES:016x}"}
    assert (process["NoNewPrivs"], process["Seccomp"]) == ("1", "2")
    limits = machine.says("cat", f"/proc/{machine.main_pid()}/limits")
    assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
    modes = machine.says(
        "stat", "-c", "%n %A %U:%G", "/etc/mailweir", "/run/mailweir/admin.sock",
        "/var/log/mailweir/sessions.log", "/sys/fs/bpf/mailweir",
    )  # fmt: skip
    assert modes.splitlines() == [
        "/etc/mailweir drwxr-x--- root:mailweir",
        "/run/mailweir/admin.sock srw-rw---- mailweir:mailweir",
        "/var/log/mailweir/sessions.log -rw-r----- mailweir:mailweir",
        "/sys/fs/bpf/mailweir drwx------ mailweir:mailweir",
    ]
    done = machine.node.run("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                            "mailweir", "status")  # fmt: skip
    assert (done.returncode, "permission denied" in done.stderr) == (1, True)
    done = machine.node.run("setpriv", "--reuid=nobody", "--regid=mailweir", "--clear-groups",
                            "mailweir", "status")  # fmt: skip
    assert done.returncode == 0


def test_a_restart_refuses_nobody(machine: Machine, counted: Counted) -> None:
    """With the default `drain.deadline` of half an hour."""
    waits = []
    with ExitStack() as exits:
        lasting = exits.enter_context(machine.client())
        lasting.expect("220")
        until(lambda: machine.status()["kernel_path"]["flows"], "it to be in the kernel")
        load = machine.load(exits, f"--rate={_RATE}", "--concurrency=400")
        until(
            lambda: machine.status()["sessions"] or machine.status()["kernel_path"]["flows"], "load"
        )
        for _ in range(_RESTARTS):
            before = machine.main_pid()
            began = time.monotonic()
            machine.says("systemctl", "restart", "mailweir")
            waits.append(time.monotonic() - began)
            assert machine.main_pid() != before
            lasting.expect("250", "NOOP")
        load.stop()
        sent = load.sent()
    counted(
        f"{_RESTARTS} restarts: {sent.ok} sessions fine, failed {sent.failures or 0};"
        f" a restart took {max(waits):.2f} s at most"
    )
    assert "connect" not in sent.failures
    assert machine.status()["kernel_path"]["adopted"] >= 1


def test_the_packages_upgrade_refuses_and_cuts_nobody(
    machine: Machine, packages: list[Path], counted: Counted
) -> None:
    machine.says("mailweir", "weight", "farm/b", "50")
    old = machine.main_pid()
    with ExitStack() as exits:
        lasting = machine.load(
            exits, f"--rate={_LONG}", f"--concurrency={_LONG}", "--messages=20", "--think=500ms"
        )
        load = machine.load(exits, f"--rate={_RATE}", "--concurrency=200")
        with machine.client() as idle:
            idle.expect("220")
            began = time.monotonic()
            machine.install(packages[1])
            took = time.monotonic() - began
            new = machine.main_pid()
            idle.expect("250", "NOOP")
            assert new != old
            assert machine.node.shows("mailweir", "ActiveState") == "active"
            assert machine.node.shows("mailweir", "NRestarts") == "0"
            idle.expect("221", "QUIT")
        load.stop()
        lasting.stop()
        sent, long_sent = load.sent(), lasting.sent(4 * LIMIT)
    until(lambda: not machine.lives(old), "the old process to end")
    assert "took over" in machine.journal()
    words = [word["what"] for word in machine.status()["operator"]["words"]]
    counted(
        f"apt-get install of a newer package took {took:.1f} s: {sent.ok} sessions fine, failed"
        f" {sent.failures or 0}; {long_sent.ok} long ones, failed {long_sent.failures or 0}"
    )
    assert (sent.failures, long_sent.failures) == ({}, {})
    assert words == ["weight farm/b 50"]
    homes = sorted(one.name for one in (machine.root / "usr/lib/mailweir").iterdir())
    assert packages[1].name.split("_")[1] in homes


def test_a_new_main_that_dies_takes_no_old_session_along(machine: Machine) -> None:
    relayed = "forwarding: relay\n"
    file = machine.root / "etc" / "mailweir" / "mailweir.yaml"
    file.write_text(relayed + file.read_text())
    machine.says("systemctl", "reload", "mailweir")
    with machine.client() as old:
        old.expect("220")
        machine.says("mailweir", "upgrade")
        main = machine.main_pid()
        machine.says("systemctl", "kill", "--signal=KILL", "--kill-who=main", "mailweir")
        until(lambda: machine.main_pid() not in (0, main), "systemd to begin it again")
        until(lambda: machine.node.shows("mailweir", "ActiveState") == "active", "it to be up")
        with machine.client() as new:
            new.expect("220")
        old.expect("250", "NOOP")
        old.expect("221", "QUIT")
    assert machine.node.shows("mailweir", "NRestarts") == "1"


def test_a_purge_leaves_nothing(machine: Machine) -> None:
    main = machine.main_pid()
    machine.says("apt-get", "-qy", "purge", "mailweir")
    assert not machine.lives(main)
    for path in ("etc/mailweir", "usr/lib/mailweir", "usr/bin/mailweir", "var/lib/mailweir",
                 "var/log/mailweir", "run/mailweir"):  # fmt: skip
        assert machine.node.run("test", "-e", f"/{path}").returncode == 1, path
    assert machine.says("find", "/sys/fs/bpf", "-mindepth", "1", "-name", "mailweir*") == ""
    left = machine.says("find", "/etc", "/usr", "/var", "/run", "-xdev", "-name", "*mailweir*")
    ours = [
        one
        for one in left.splitlines()
        if not one.startswith(("/var/lib/dpkg/", "/var/log/", "/var/lib/systemd/", "/run/systemd/"))
    ]
    assert ours == []
    assert "LISTEN" not in machine.says("ss", "-Hltnp")
    found = machine.node.run("systemctl", "list-unit-files", "mailweir*", "--no-legend")
    assert found.stdout == ""
    # As Debian has it, the user stays.
    assert machine.node.run("id", "mailweir").returncode == 0
