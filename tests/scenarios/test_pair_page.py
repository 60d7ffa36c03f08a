"""`docs/pair.md` is true: its commands are typed as they stand there, on two machines that have
nothing of mailweir but the command, and a systemd."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import polite
from harness.networks.pair import NODES, SERVER, VIRTUAL, WITNESS, Node, Pair, pair_networks
from harness.pair.holders import Holders, holders
from harness.programs.systemd_node import SystemdNode, prepared, systemd_node, with_ssh
from harness.servers.scripted import Stream, serving_in
from harness.waiting import until

_PAGE = (Path(__file__).parents[2] / "docs" / "pair.md").read_text()
_FARM = ("10.0.0.1", "10.0.0.2")
_BLOCK = re.compile(r"(?ms)^( *)```(\w+)\n(.*?)^ *```$")
_ENDS = (  # what isn't the same in each run
    (r"\b[\d.]+s\b", "T"),
    (r"\b[0-9a-f]{16}\b", "DIGEST"),
    (r"(?m)^(a     active  +100   2        2  +)\d+", r"\1N"),
    # By how long the commands took.
    (r"because (?:b was silent on all links|neither node was active)", "because WHY"),
    (r" +", " "),
)

_IN_IPV6 = {
    "lan: 192.0.2.1:5405": 'lan: "[2001:db8::1]:5405"',
    "{address: 192.0.2.10/24, dev: eth0}": '{address: "2001:db8::10/64", dev: eth0}',
    '"192.0.2.10:25"': '"[2001:db8::10]:25"',
}

pytestmark = [pytest.mark.timeout(180), pytest.mark.needs("iproute2", "nftables", "systemd")]


def blocks() -> Iterator[tuple[str, str]]:
    """What stands in the page's blocks, each with its language."""
    for indent, language, text in _BLOCK.findall(_PAGE):
        yield language, "".join(line.removeprefix(indent) for line in text.splitlines(True))


def neutral(text: str) -> str:
    """Without what differs from run to run."""
    for pattern, word in _ENDS:
        text = re.sub(pattern, word, text)
    return text


class Typist:
    """Somebody on `a` who has the page before him."""

    def __init__(
        self, nodes: dict[Node, SystemdNode], third: SystemdNode, held: Holders, networks: Pair
    ) -> None:
        self.nodes = nodes
        self.third = third
        self.networks = networks
        self.held = held
        self.typed: list[str] = []

    def types(self, command: str, *, at: Node = "a", code: int = 0) -> str:
        """What it says."""
        done = self.nodes[at].run("bash", "-euc", command)
        assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
        self.typed.append(f"{at}$ {command.strip()}: {done.returncode}")
        return done.stdout + done.stderr

    def writes(self, text: str, *, at: Node = "a") -> None:
        """The configuration."""
        (self.nodes[at].folder / "etc" / "mailweir" / "mailweir.yaml").write_text(text)

    def sees(self, node: Node, *, at: Node = "a") -> None:
        """In the end, that it has the address, and is known to: it tells the network first."""
        until(lambda: self.held.only == node, f"{node} to have the address")
        until(partial(self._is_active, node, at), f"{node} to be active")

    def _is_active(self, node: Node, at: Node) -> bool:
        told = json.loads(self.types("mailweir ha status --json", at=at))
        return [one["name"] for one in told["nodes"] if one["state"] == "active"] == [node]


@pytest.fixture(scope="module")
def typist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Typist]:
    folder = tmp_path_factory.mktemp("page")
    with (
        pair_networks("page", witness=True) as networks,
        holders(networks, VIRTUAL) as held,
        ExitStack() as exits,
    ):
        _build_farm(networks, exits)
        nodes: dict[Node, SystemdNode] = {}
        for node in NODES:
            own = prepared(node, folder)
            with_ssh(own)
            nodes[node] = exits.enter_context(systemd_node(networks, node, own))
        exits.enter_context(nodes["b"].remotely())
        third = exits.enter_context(systemd_node(networks, "w", prepared("w", folder)))
        yield Typist(nodes, third, held, networks)


def _build_farm(networks: Pair, exits: ExitStack) -> None:
    for address in _FARM:
        networks.run("srv", "ip", "address", "add", f"{address}/32", "dev", "eth0")
        exits.enter_context(serving_in(networks, "srv", (address, 25), _behind_proxy))
    for node in NODES:
        networks.run(node, "ip", "route", "add", "10.0.0.0/24", "via", SERVER)


def _behind_proxy(stream: Stream) -> None:
    """A server that is told who comes, by PROXY v2."""
    head = stream.exactly(16)
    stream.exactly(int.from_bytes(head[14:16]))
    polite(stream)


def test_the_page(typist: Typist, counted: Callable[[str], None]) -> None:
    languages = [language for language, _ in blocks()]
    assert languages == ["sh", "yaml", "sh", "console", "console"]
    (_, key), (_, yaml), (_, start), (_, status), (_, words) = blocks()

    # 1 to 5, in a quarter of an hour.
    typist.types(key)
    assert typist.types("stat -c '%a %s' /etc/mailweir/ha.key", at="b") == "400 32\n"
    typist.writes(yaml)
    typist.types(start)
    began = time.monotonic()
    typist.sees("a")
    until(lambda: "b     backup" in typist.types("mailweir ha status"), "both to be there")
    counted(f"both are there {time.monotonic() - began:.1f} s after the last command")
    command, *lines = status.splitlines(True)
    said = typist.types(command.removeprefix("$ "))
    assert neutral(said) == neutral("".join(lines))

    # 6.
    switches: tuple[Node, Node] = ("b", "a")
    for there in switches:
        typist.types("mailweir ha switch")
        typist.sees(there)
    _names_of_the_text(typist)
    _day_by_day(typist)
    _with_a_witness(typist)
    _words_differ(typist, words)
    counted(f"{len(typist.typed)} commands ended as the page says")


def _names_of_the_text(typist: Typist) -> None:
    """Commands that only ask."""
    for command in ("mailweir ha explain", "mailweir events --socket /run/mailweir/ha.sock"):
        assert f"`{command}`" in _PAGE
        for node in NODES:
            assert typist.types(f"timeout 5 {command}", at=node)
    for command in ("mailweir status", "mailweir healthcheck"):
        assert f"`{command}`" in _PAGE
        typist.types(command)
    # The same with IPv6, as it is written there.
    file, six = "/etc/mailweir/mailweir.yaml", "/etc/mailweir/six.yaml"
    other = _IN_IPV6["lan: 192.0.2.1:5405"].replace("::1", "::2")
    typist.types(f"sed 's#lan: 192.0.2.2:5405#{other}#' {file} >{six}")
    for four, written in _IN_IPV6.items():
        assert written in _PAGE
        typist.types(f"sed -i 's#{four}#{written}#' {six}")
    typist.types(f"mailweir check -c {six}")


def _day_by_day(typist: Typist) -> None:
    typist.types("mailweir ha maint", at="b")
    typist.types("systemctl restart mailweir-ha", at="b")
    until(lambda: "maintenance" in typist.types("mailweir ha explain", at="b"), "it to be kept")
    typist.types("mailweir ha switch", code=1)
    typist.types("mailweir ha ready", at="b")
    until(lambda: "could take over" in typist.types("mailweir ha explain", at="b"), "it to be over")
    # A new key, and the old one taken away.
    typist.types("umask 377; head -c32 /dev/urandom >/etc/mailweir/second.key")
    typist.types("scp -p /etc/mailweir/second.key b:/etc/mailweir/")
    for node in NODES:
        typist.types("chown mailweir /etc/mailweir/second.key", at=node)
    file, one = "/etc/mailweir/mailweir.yaml", "keys: {1: /etc/mailweir/ha.key"
    two = f"{one}, 2: /etc/mailweir/second.key"
    for before, after in ((one, two), (two, "keys: {2: /etc/mailweir/second.key")):
        for node in NODES:
            typist.types(f"sed -i 's#{before}#{after}#' {file}", at=node)
            typist.types("systemctl reload mailweir-ha", at=node)
    for node in NODES:
        until(partial(_has_reloaded, typist.nodes[node]), "both reloads")
        assert "ALARM" not in typist.types("mailweir ha status", at=node)


def _with_a_witness(typist: Typist) -> None:
    """A third machine with the same file and keys. Nobody may be active without it or the peer."""
    assert "witness: {address: ..., strict: true}" in _PAGE
    file, key = "/etc/mailweir/mailweir.yaml", "/etc/mailweir/second.key"
    written = f"witness: {{address: {WITNESS}:5406, strict: true}}"
    for node in NODES:
        typist.types(f"sed -i 's#^  gateway#  {written}\\n  gateway#' {file}", at=node)
    third, first = typist.third, typist.nodes["a"]
    user = "mkdir /etc/sysusers.d; cp config/sysusers.d/mailweir.conf /etc/sysusers.d/"
    assert third.run("sh", "-euc", f"{user}; systemd-sysusers").returncode == 0
    for name in (file, key):
        at = Path(name).relative_to("/")
        (third.folder / at).write_bytes((first.folder / at).read_bytes())
        (third.folder / at).chmod(0o400)
        assert third.run("chown", "mailweir", name).returncode == 0
    third.run("cp", "config/mailweir-witness.service", "/etc/systemd/system/")
    third.systemctl("enable", "--now", "mailweir-witness")
    # It can't change while it runs: the node that stands by first, as the refusal says.
    active = typist.held.only
    for node in sorted(NODES, key=lambda node: node == active):
        typist.types("systemctl restart mailweir-ha", at=node)
        until(partial(_is_well, typist, node), "it to hear the others", limit=40)
    # Either: the active one may be back before its peer is sure that it was gone.
    only = until(lambda: typist.held.only, "a node to have the address")
    has_it, other = NODES if only == "a" else reversed(NODES)
    typist.sees(has_it)
    third.systemctl("reload", "mailweir-witness")
    assert third.shows("mailweir-witness", "ActiveState") == "active"
    typist.types("mailweir ha switch")
    typist.sees(other)


def _is_well(typist: Typist, node: Node) -> bool:
    told = json.loads(typist.types("mailweir ha status --json", at=node))
    heard = told["witness"] is not None and told["witness"]["heard_seconds"] is not None
    return heard and told["state"] in ("active", "backup")


def _has_reloaded(node: SystemdNode) -> bool:
    return node.log("mailweir-ha").count("event=reloaded") == 2


def _words_differ(typist: Typist, block: str) -> None:
    """What operators say on one node; and that node dies."""
    command, first, rest = block.split("\n", 2)
    _, *rows = rest.splitlines()
    if typist.held.only != "a":
        typist.types("mailweir ha switch")
        typist.sees("a")
    for row in rows[1:]:
        typist.types(row.removeprefix("a").strip())
    command = command.removeprefix("$ ")
    until(lambda: rows[-1] in typist.types(command, at="b"), "the words")
    typist.networks.kill("a", [])
    typist.nodes["a"].switch_off()
    typist.sees("b", at="b")
    said = typist.types(command, at="b").splitlines()
    assert neutral(said[0]) == neutral(first)
    assert said[-len(rows) :] == rows
    assert "operators' words are missing" in typist.nodes["b"].log("mailweir-ha")
