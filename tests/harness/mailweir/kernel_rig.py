"""mailweir on the kernel path: in the middle of three networks, clients and servers around it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.clients.dialogue import Address, Client
from harness.mailweir.run import Mailweir, Tree, configuration, mailweir
from harness.networks.row import LISTENER, SERVER, Row, bpf_files, row
from harness.servers.scripted import Handle, Stream, serving_in
from harness.waiting import LIMIT, until

PORT = 2525
GREETING = b"220 mx.server.test ESMTP\r\n"


@dataclass(frozen=True)
class Rig:
    """mailweir in its network."""

    networks: Row
    balancer: Mailweir

    def client(self) -> Client:
        """Connected to mailweir from the clients' network."""
        found = self.networks.inside("c", lambda: Client((LISTENER, PORT)))
        return found.result(LIMIT)

    def flows(self) -> int:
        """Sessions in the kernel now."""
        return int(self.balancer.metric("mailweir_kernel_path_flows"))

    def relayed(self, reason: str) -> int:
        """Sessions that took the relay for this reason."""
        name = "mailweir_kernel_path_refusals_total"
        return int(self.balancer.metric(name, reason=reason))

    def dialled_from(self) -> list[Address]:
        """The balancer's ends of the servers' connections."""
        said = self.networks.run("s", "ss", "--no-header", "-tn", f"sport = :{PORT}")
        peers = [line.split()[4].rpartition(":") for line in said.splitlines() if "ESTAB" in line]
        return [(host, int(port)) for host, _, port in peers]

    def track(self) -> None:
        """Have the balancer's host track connections from now on."""
        rule = "type filter hook input priority 0;\n ct state established accept"
        self.networks.run("l", "nft", f"table inet tracks {{\n chain x {{\n {rule}\n }}\n}}")

    def tracked(self) -> int:
        """Connections that it keeps track of now."""
        return int(self.networks.run("l", "cat", "/proc/sys/net/netfilter/nf_conntrack_count"))

    def sessions(self) -> list[Tree]:
        """What `mailweir sessions` says."""
        done = self.balancer.command("sessions", "--json")
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["sessions"])

    def record(self, number: int = 1) -> Tree:
        """The newest of so many lines in the session log."""
        until(lambda: len(self.balancer.session_log()) >= number, "the session's record")
        log = self.balancer.session_log()
        assert len(log) == number
        return log[-1]


def rig_configuration(directory: Path, **more: object) -> Tree:
    """One listener and one server, each in its network; the check is made once."""
    check = {"kind": "tcp", "every": "1h"}
    config = configuration(directory, {"a": f"{SERVER}:{PORT}"}, check=check)
    config["listeners"]["mx"]["bind"] = [f"{LISTENER}:{PORT}"]
    return config | {"forwarding": "kernel", **more}


@contextmanager
def kernel_rig(
    networks: Row, directory: Path, config: Tree, before: Sequence[str] = ()
) -> Iterator[Rig]:
    """mailweir once its server is up, ended with the test."""
    bpf_files()
    with mailweir(directory, config, [*networks.before("l"), *before]) as balancer:
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        yield Rig(networks, balancer)


def serving_there(networks: Row, handle: Handle) -> AbstractContextManager[None]:
    """A server in its network."""
    return serving_in(networks, "s", (SERVER, PORT), handle)


@contextmanager
def rig_before(directory: Path, handle: Handle, config: Tree | None = None) -> Iterator[Rig]:
    """mailweir before a server that does so with sessions, in networks of their own."""
    with (
        row() as networks,
        serving_there(networks, handle),
        kernel_rig(networks, directory, config or rig_configuration(directory)) as rig,
    ):
        yield rig


def polite(stream: Stream) -> None:
    """A server that takes every mail."""
    stream.send(GREETING)
    while line := stream.line():
        if line == b"DATA\r\n":
            stream.send(b"354 go\r\n")
            while line := stream.line():
                if line == b".\r\n":
                    break
            else:
                return
            stream.send(b"250 taken\r\n")
        elif line == b"QUIT\r\n":
            stream.send(b"221 bye\r\n")
            return
        else:
            stream.send(b"250 fine\r\n")
