"""The kernel path's program by ordinary tools: built by cargo, loaded by bpftool, attached by tc.

Its tables are written as tables.h has them, and not by mailweir's own code.
"""

import json
import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.dialogue import Address
from harness.namespaces import LEGS, Row
from harness.needs import missing, program
from harness.process import run

SETUP, LIVE, CLOSING = 0, 2, 3
_ROOT = Path(__file__).resolve().parents[2]
_SIDE = struct.Struct("=12sIIIIIBBBxIIIIIIxxxxQQQ8s")
_HEAD = struct.Struct("=IIIIQQQxxxxxxxx")
_TSVAL = 13  # of the fields of a side


@dataclass(frozen=True)
class Side:
    """What a side says and what the other one is told; the rest of it is 0 at first."""

    told: bytes = bytes(12)
    leg: int = 0
    seq_add: int = 0
    ack_add: int = 0
    tsval_add: int = 0
    tsecr_add: int = 0
    left: int = 0
    right: int = 0
    scale: int = 0
    next: int = 0

    def pack(self) -> bytes:
        """As the table has it."""
        adds = (self.seq_add, self.ack_add, self.tsval_add, self.tsecr_add)
        wrapped = [value & 0xFFFFFFFF for value in adds]
        shifts = (self.left, self.right, self.scale)
        rest = (self.next, self.next, (self.next + 65535) & 0xFFFFFFFF, 0, 0, 0, 0, 0, 0, bytes(8))
        return _SIDE.pack(self.told, self.leg, *wrapped, *shifts, *rest)


def key(sender: Address, receiver: Address) -> bytes:
    """Of the segments from one to the other."""
    addresses = socket.inet_aton(sender[0]) + socket.inet_aton(receiver[0])
    return addresses + struct.pack("!HH", sender[1], receiver[1])


class FlowProgram:
    """The program while it is attached."""

    def __init__(self, pins: Path) -> None:
        self._pins = pins

    def install(self, number: int, keys: tuple[bytes, bytes]) -> None:
        """A flow whose segments go up to the stack."""
        self.update(number, SETUP, Side(), Side())
        for side, one in enumerate(keys):
            self._set("places", one, struct.pack("=II", number, side), "noexist")

    def update(
        self,
        number: int,
        state: int,
        client: Side,
        server: Side,
        *,
        greeting_end: int | None = None,
        our_tsval: int = 0,
    ) -> None:
        """Replace what is known of a flow."""
        greeting = (greeting_end is not None, (greeting_end or 0) & 0xFFFFFFFF)
        head = _HEAD.pack(state, *greeting, our_tsval & 0xFFFFFFFF, number, 0, 0)
        self._set("flows", struct.pack("=I", number), head + client.pack() + server.pack(), "any")

    def state(self, number: int) -> int:
        """Of a flow."""
        return int(_HEAD.unpack_from(self._flow(number))[0])

    def greeting_is_due(self, number: int) -> bool:
        """Whether the client hasn't acknowledged it yet."""
        return bool(_HEAD.unpack_from(self._flow(number))[1])

    def clock(self, number: int, side: int) -> int:
        """The time stamp that a side said last."""
        at = _HEAD.size + side * _SIDE.size
        return int(_SIDE.unpack_from(self._flow(number), at)[_TSVAL])

    def rewritten(self) -> int:
        """Segments, so far."""
        shown = self._bpftool("map", "lookup", "pinned", self._map("counters"), *_key(bytes(4)))
        values = [bytes(int(byte, 16) for byte in one["value"]) for one in shown["values"]]
        return sum(int.from_bytes(value, "little") for value in values)

    def set_leg(self, number: int, ifindex: int) -> None:
        """Which interface carries a leg."""
        self._set("legs", struct.pack("=I", number), struct.pack("=I", ifindex), "any")

    def _flow(self, number: int) -> bytes:
        shown = self._bpftool(
            "map", "lookup", "pinned", self._map("flows"), *_key(struct.pack("=I", number))
        )
        return bytes(int(byte, 16) for byte in shown["value"])

    def _set(self, table: str, at: bytes, value: bytes, flag: str) -> None:
        what = [*_key(at), "value", *_hex(value), flag]
        done = run([program("bpftool"), "map", "update", "pinned", self._map(table), *what])
        assert done.returncode == 0, done.stdout + done.stderr

    def _map(self, name: str) -> str:
        return str(self._pins / "maps" / name)

    def _bpftool(self, *arguments: str) -> Any:
        done = run([program("bpftool"), "--json", *arguments])
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)


def _key(at: bytes) -> list[str]:
    return ["key", *_hex(at)]


def _hex(value: bytes) -> list[str]:
    return ["hex", *(f"{byte:02x}" for byte in value)]


@contextmanager
def attached(networks: Row) -> Iterator[FlowProgram]:
    """The program on both legs of the balancer's network."""
    built = _build()
    with tempfile.TemporaryDirectory(prefix="mailweir-bpf-") as folder:
        mounted = run([program("mount"), "-t", "bpf", "bpf", folder])
        if mounted.returncode:
            missing(f"needs a BPF file system: {mounted.stderr}")
        try:
            pins = Path(folder) / str(os.getpid())
            (pins / "maps").mkdir(parents=True)
            load = ["prog", "loadall", str(built), str(pins / "programs"), "type", "classifier"]
            done = run([program("bpftool"), *load, "pinmaps", str(pins / "maps")])
            assert done.returncode == 0, done.stderr[-4000:]
            found = FlowProgram(pins)
            for number, leg in enumerate(LEGS):
                found.set_leg(number, networks.ifindex(leg))
                networks.run("l", "tc", "qdisc", "add", "dev", leg, "clsact")
                for way, name in (("ingress", "ingress"), ("egress", "guard")):
                    pinned = ["bpf", "direct-action", "pinned", str(pins / "programs" / name)]
                    networks.run("l", "tc", "filter", "add", "dev", leg, way, *pinned)
            yield found
        finally:
            run([program("umount"), "--lazy", folder])


def _build() -> Path:
    command = ["cargo", "build", "--quiet", "--message-format=json", "--package", "mailweir-flow"]
    done = run([*command, "--manifest-path", _ROOT / "Cargo.toml"], limit=300)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        message = json.loads(line)
        package = message.get("package_id", "")
        if message["reason"] == "build-script-executed" and "mailweir-flow" in package:
            built = Path(message["out_dir"]) / "flow.o"
            return built if built.stat().st_size else missing("needs clang, to build the program")
    raise AssertionError("cargo built no program")
