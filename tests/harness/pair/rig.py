"""A pair of nodes, each with `mailweir run` and `mailweir ha run`, in networks of their own, with a
mail server and clients around them."""

import http.client
import json
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path

from harness.mailweir.kernel_rig import polite
from harness.mailweir.run import COMMAND, Mailweir, Tree, write
from harness.networks.pair import NODES, SERVER, VIRTUAL, Node, Pair, pair_networks
from harness.pair.configuration import new_key, pair_configuration
from harness.pair.holders import Holders, holders
from harness.pair.outage import Outage, outage_clients_of
from harness.process import Running, run, running
from harness.servers.scripted import serving_in
from harness.waiting import LIMIT, until
from mailweir.admin.client import ask
from mailweir.errors import MailweirError

PORT = 25
_SETTLED_LIMIT = 30.0  # seconds


class Machine:
    """One node: its file and its two processes, which can be ended and started again."""

    def __init__(
        self, name: Node, pair: Pair, folder: Path, exits: ExitStack, network: str = ""
    ) -> None:
        """It is in the network of its name, or in another one."""
        self.name = name
        self.folder = folder
        self.file = folder / "mailweir.yaml"
        self._before = pair.before(network or name)
        self._exits = exits
        self._starts = 0
        # While they run.
        self.balancer: Mailweir
        self.ha: Running

    def start_balancer(self, *before: str) -> None:
        """`mailweir run`; `before` begins its command."""
        process = self._start("run", [*before, *COMMAND, "run", "-c", self.file])
        self.balancer = Mailweir(process, self.file, self.folder / "admin.sock")

    def start_ha(self, *before: str) -> None:
        """`mailweir ha run`; `before` begins its command."""
        self.ha = self._start("ha", [*before, *COMMAND, "ha", "run", "-c", self.file])

    def pids(self) -> list[int]:
        """Of both processes."""
        return [self.balancer.process.pid, self.ha.pid]

    def status(self) -> Tree:
        """What `mailweir ha status --json` says; nothing where nobody answers."""
        return self._ask("/api/v1/status")

    def explain(self) -> str:
        """What `mailweir ha explain` says first."""
        return str(self.explanation().get("sentence", ""))

    def explanation(self) -> Tree:
        """What `mailweir ha explain --json` says."""
        return self._ask("/api/v1/explain")

    def state(self) -> str:
        """`active`, say; nothing where nobody answers."""
        return str(self.status().get("state", ""))

    def alarms(self) -> list[str]:
        """What `mailweir ha status` warns of."""
        return list(self.status().get("alarms", []))

    def events(self) -> list[Tree]:
        """What happened at `mailweir ha run`, the oldest first."""
        return list(self._ask("/api/v1/events").get("events", []))

    def metrics(self) -> str:
        """What `mailweir ha run` tells Prometheus."""
        connection = http.client.HTTPConnection("localhost", timeout=LIMIT)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(str(self.folder / "ha.sock"))
        with closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    def command(self, *words: str) -> tuple[int, str]:
        """Exit code and words of `mailweir ha ...`."""
        done = run([*COMMAND, "ha", *words, "--socket", self.folder / "ha.sock"])
        return done.returncode, done.stdout + done.stderr

    def change(self, edit: Callable[[Tree], object]) -> None:
        """Edit the part `ha` of its file, and have `mailweir ha run` read it again."""
        config = json.loads(self.file.read_text())
        edit(config["ha"])
        write(self.file, json.dumps(config))
        self.ha.send(signal.SIGHUP)

    def _ask(self, route: str) -> Tree:
        try:
            return ask(str(self.folder / "ha.sock"), "GET", route)
        except MailweirError:
            return {}

    def _start(self, name: str, argv: Sequence[str | Path]) -> Running:
        self._starts += 1
        command = [*self._before, *argv]
        name = f"{name}-{self._starts}"
        return self._exits.enter_context(running(command, self.folder, name))


class Rig:
    """Both, and what is around them."""

    def __init__(
        self, networks: Pair, held: Holders, machines: dict[Node, Machine], folder: Path
    ) -> None:
        self.networks = networks
        self.holders = held
        self.machines = machines
        self._folder = folder
        self._twins = 0

    def active(self) -> Node:
        """The node that has the address, once exactly one has and the other stands by."""
        until(self._is_settled, "the pair to be settled", limit=_SETTLED_LIMIT)
        assert self.holders.only is not None
        return next(node for node in NODES if node == self.holders.only)

    @contextmanager
    def clients(self, rate: float = 20) -> Iterator[Outage]:
        """They connect to the virtual address, so many times a second."""
        before = self.networks.before("cl")
        with outage_clients_of(self._folder, (VIRTUAL, PORT), before, rate=rate) as outage:
            outage.until_steady()
            yield outage

    @contextmanager
    def twin(self, node: Node, *, heard: bool) -> Iterator[Machine]:
        """One more machine that takes itself for a node, with all that is said in its file."""
        self._twins += 1
        network = f"{node}{self._twins}"
        folder = self._folder / network
        folder.mkdir()
        with self.networks.twin(network, node, heard=heard), ExitStack() as exits:
            machine = Machine(node, self.networks, folder, exits, network)
            config = self.machines[node].file.read_text()
            write(machine.file, config.replace(str(self.machines[node].folder), str(folder)))
            machine.start_balancer()
            machine.start_ha()
            yield machine

    def _is_settled(self) -> bool:
        states = sorted(machine.state() for machine in self.machines.values())
        return states == ["active", "backup"] and self.holders.only is not None


def other(node: Node) -> Node:
    """The peer."""
    return "b" if node == "a" else "a"


@contextmanager
def pair_rig(
    folder: Path,
    *,
    witness: bool = False,
    networks: Pair | None = None,
    edit: Callable[[Node, Tree], None] = lambda _node, _config: None,
    **ha: object,
) -> Iterator[Rig]:
    """Both nodes run and are settled. `ha` are keys of that part, `edit` changes a node's file;
    `networks` are there already, if something is to be in them first.
    """
    around = nullcontext(networks) if networks else pair_networks(witness=witness)
    with (
        around as networks,
        serving_in(networks, "srv", (SERVER, PORT), polite),
        holders(networks, VIRTUAL) as held,
        ExitStack() as exits,
    ):
        key = new_key(folder / "ha.key")
        machines: dict[Node, Machine] = {}
        for node in NODES:
            own = folder / node
            own.mkdir()
            config = pair_configuration(own, node, key, (SERVER, PORT), PORT, **ha)
            config["forwarding"] = "relay"
            # A session ends late whose client has the address at the other node by now.
            config["drain"] = {"deadline": "1s"}
            edit(node, config)
            machines[node] = Machine(node, networks, own, exits)
            write(machines[node].file, json.dumps(config))
            machines[node].start_balancer()
            machines[node].start_ha()
        rig = Rig(networks, held, machines, folder)
        rig.active()
        yield rig
