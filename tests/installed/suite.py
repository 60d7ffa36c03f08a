"""The Debian package on a bare Debian whose PID 1 is systemd: from its installation to its purge,
in this order, on one machine. `make installed` runs it.

MAILWEIR_BARE is an archive of the bare root, with what the package depends on; MAILWEIR_PACKAGES
are two packages, the second one of `later_version`; MAILWEIR_WHEELS is a folder with all wheels.
What docs/install.md says is typed as it stands there.
"""

import json
import os
import re
import shutil
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
_REPOSITORY = Path(__file__).parents[2]
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
        return self.says("apt-get", "-qy", "--allow-downgrades", "install", f"/opt/{package.name}")

    def says(self, *command: str) -> str:
        """What a command says there, where that goes well."""
        done = self.node.run(*command, limit=_INSTALLING)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def types(self, command: str, at: str = "/") -> str:
        """The same of a line that somebody types there, in a folder."""
        return self.says("bash", "-euc", f"cd {at}; {command}")

    def writes(self) -> None:
        """The configuration: two servers, behind a listener on port 25."""
        file = self.root / "etc" / "mailweir" / "mailweir.yaml"
        rows = (f"      {name}: {{address: '{at}', proxy: off}}\n" for name, at in _SERVERS.items())
        file.write_text(f"""\
listeners:
  mx: {{bind: ["0.0.0.0:25"], pool: farm}}
pools:
  farm:
    servers:
{"".join(rows)}log: {{sessions: /var/log/mailweir/sessions.log}}
""")

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


def commands(section: str) -> list[str]:
    """What docs/install.md has people type, in one of its sections."""
    page = (_REPOSITORY / "docs" / "install.md").read_text()
    text = page.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"(?m)^    (\S.*)$", text)


def test_it_waits_to_be_edited(machine: Machine, packages: list[Path], counted: Counted) -> None:
    made, installed, *_ = commands("The Debian package")
    assert made.startswith("make deb")
    assert made.endswith(f"target/package/{packages[0].name}")
    shutil.copy(packages[0], machine.root / "opt")
    began = time.monotonic()
    said = machine.types(installed, at="/opt")
    counted(f"{installed}: {time.monotonic() - began:.1f} s")
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
    machine.writes()
    check, start, status = commands("The Debian package")[2:]
    machine.types(check)
    machine.types(start)
    assert re.search(r"^farm +least_conn +2 +2 ", machine.types(status), re.MULTILINE)
    for _ in _SERVERS:
        _sends_a_mail(machine)
    counted(
        f"from the edit to a mail through each of two servers: {time.monotonic() - began:.1f} s"
    )
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


def _sends_a_mail(machine: Machine) -> None:
    with machine.client() as client:
        client.expect("220")
        client.expect("250", "EHLO client.test")
        client.mail()


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


@pytest.mark.parametrize("number", [1, 0], ids=["later", "and-back"])
def test_another_package_refuses_and_cuts_nobody(
    machine: Machine, packages: list[Path], counted: Counted, number: int
) -> None:
    """Of another version: it passes over the fields that it doesn't know, and lets sessions in
    tables that it can't read go on.
    """
    package, old = packages[number], machine.main_pid()
    if number == 1:
        machine.says("mailweir", "weight", "farm/b", "50")
    with ExitStack() as exits:
        lasting = machine.load(
            exits, f"--rate={_LONG}", f"--concurrency={_LONG}", "--messages=20", "--think=500ms"
        )
        load = machine.load(exits, f"--rate={_RATE}", "--concurrency=200")
        with machine.client() as idle:
            idle.expect("220")
            until(lambda: machine.status()["kernel_path"]["flows"] > _LONG, "long sessions")
            began = time.monotonic()
            machine.install(package)
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
    assert machine.journal().count("took over") == 2 - number
    status = machine.status()
    counted(
        f"apt-get install of {status['version']} took {took:.1f} s: {sent.ok} sessions fine, failed"
        f" {sent.failures or 0}; {long_sent.ok} long ones, failed {long_sent.failures or 0}"
    )
    assert (sent.failures, long_sent.failures) == ({}, {})
    assert [word["what"] for word in status["operator"]["words"]] == ["weight farm/b 50"]
    version = package.name.split("_")[1]
    assert status["version"] == version.partition("-")[0]
    assert version in {one.name for one in (machine.root / "usr/lib/mailweir").iterdir()}


def test_a_package_that_can_not_take_over_leaves_the_old_process(
    machine: Machine, packages: list[Path]
) -> None:
    file = machine.root / "etc" / "mailweir" / "mailweir.yaml"
    good, before = file.read_text(), machine.main_pid()
    file.write_text(f"{good}nonsense: 1\n")
    assert "the old version goes on" in machine.install(packages[1])
    assert machine.main_pid() == before
    assert machine.node.shows("mailweir", "ActiveState") == "active"
    with machine.client() as client:
        client.expect("220")
    file.write_text(good)
    machine.says("mailweir", "upgrade")
    assert machine.main_pid() != before


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


def test_the_wheel_serves_as_the_page_says(machine: Machine, counted: Counted) -> None:
    """On the same machine, from what an index would give: it has none here."""
    wheels, there = Path(os.environ["MAILWEIR_WHEELS"]), machine.root / "opt" / "wheels"
    shutil.copytree(wheels, there)
    (machine.root / "etc/pip.conf").write_text(
        "[install]\nno-index = true\nfind-links = /opt/wheels\n"
    )
    checkout = machine.root / "opt" / "checkout"
    shutil.copytree(_REPOSITORY / "config", checkout / "config")
    shutil.copytree(_REPOSITORY / "packaging", checkout / "packaging")
    venv = ("apt-get", "-qy", "install", "--no-download", "--no-install-recommends", "python3-venv")
    machine.says(*venv)
    made, *typed, start = commands("The wheel")
    (wheel,) = there.glob("mailweir-*.whl")
    assert made.startswith("make wheel")
    assert made.endswith(f"target/package/{wheel.name}")
    began = time.monotonic()
    for command in typed:
        machine.types(
            command.replace("/PATH/OF/THE/WHEEL", f"/opt/wheels/{wheel.name}"), "/opt/checkout"
        )
    machine.writes()
    machine.types(start)
    _sends_a_mail(machine)
    counted(f"by the wheel, from nothing to a mail: {time.monotonic() - began:.1f} s")
    program = machine.says("readlink", "-f", "/usr/bin/mailweir")
    assert program == "/opt/mailweir/bin/mailweir\n"
    machine.says("systemctl", "disable", "--now", "mailweir")
