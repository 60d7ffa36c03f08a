"""Configurations that are nearly good: what a slip of the hand, a bad template or malice makes.

The same seed makes the same file. Used by the tests of `config.load` and, against a running
mailweir, by the scenario of hostile configurations.
"""

from collections.abc import Callable
from random import Random

# One key a line, every kind of value, parts that name each other.
RICH = """\
admin:
  socket: {directory}/admin.sock
  http: "off"
state_dir: {directory}/state
workers: 2
max_sessions: 5000
forwarding: relay
log:
  sessions: {directory}/sessions.log
  format: json
drain:
  deadline: 30m
  quiet: 5s
  spread: 60s
listeners:
  mx:
    bind:
      - 127.0.0.1:0
    pool: farm
    limits:
      sessions: 400
      per_source:
        rate: 1000/min
        burst: 500
        exempt: [127.0.0.0/8, "::1"]
      dry_run: [source_rate]
    deny:
      - 192.0.2.0/24
      - 2001:db8::/32
    refuse: reset
    timeouts: &timeouts
      connect: 2s
      greeting: 10s
      accept_total: 30s
  submission:
    bind: ["127.0.0.1:0", "127.0.0.3:0"]
    pool: farm
    max_age: 4h
    timeouts: *timeouts
  smtps:
    bind: ["127.0.0.1:0"]
    pool: tls
    protocol: smtps
pools:
  farm:
    balance: round_robin
    slow_start: 10s
    panic: 30%
    sticky:
      ttl: 1h
    queue:
      length: 50
      wait: 2s
    check:
      every: 10s
      rise: 2
      timeout: 3s
    servers:
      a: {{address: "{server}", proxy: "off", weight: 50, max_sessions: 200}}
      b:
        address: 127.0.0.1:1
        proxy: "off"
        weight: 100
        backup: false
  tls:
    check:
      kind: tcp
    servers:
      c: {{address: "{server}", proxy: "off"}}
ha:
  node: one
  nodes:
    one:
      links:
        lan: 192.0.2.1:5405
        cross: "[2001:db8:1::1]:5405"
      priority: 110
    two:
      links: {{lan: "192.0.2.2:5405", cross: "[2001:db8:1::2]:5405"}}
  virtual:
    - {{address: 192.0.2.10/24, dev: eth0}}
  keys:
    1: {directory}/ha.key
  timers: {{interval: 100ms, dead: 1s, lease: 3s}}
  gateway: [192.0.2.254]
  witness:
    address: 203.0.113.9:5405
    strict: true
  fence: [/bin/true]
  http: "off"
"""

_TRAPS = (
    *("no", "yes", "on", "22:30", "0777", "0x1f", "1e9", "~", "null", "{}", "[]", "''", "-1", "0"),
    *("9" * 400, "1.5", ".inf", "2026-11-27", "!!python/object:os.system ls", "!!binary aGk="),
    *("[a, b", "{a: 1", '"open', "- a", "a: b", "&x", "*x", "| ", "> text", "%", "@", "`", "?"),
    *("\u202e", "\u00e9" * 70, "x" * 500, "x" * 5000, "127.0.0.1:99999", "[::1]", "10.0.0.1"),
)
# Aliases of aliases: a few hundred bytes that stand for 10^20 values.
BOMB = "\n".join(
    ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
)
_BYTES = (b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x1b[2J", b"\xef\xbb\xbf", b"\x7f", b"\r")
_EXTRA = (
    BOMB,
    "extra: 1",
    "include: [nowhere.yaml]",
    "include: {a: b}",
    "defaults: &pool {servers: {a: 127.0.0.1:9}}",
    "deny: [/dev/zero, /etc/passwd, 10.0.0.1/8]",
    "loop: &loop [*loop]",
    "<<: *timeouts",
    "--- ",
    "...",
    "%YAML 1.2",
    "? [complex]\n: key",
    "deep: " + "[" * 100,
    "deep: " + "{a: " * 5000,
    "number: " + "8" * 100_000,
    "keys: {" + ", ".join(f"k{number}: {number}" for number in range(2000)) + "}",
)


def mutated(seed: int, good: str) -> bytes:
    """A good configuration with one to three things wrong, most of the time."""
    random = Random(seed)  # noqa: S311 - repeatable, keeps no secret
    lines = good.splitlines()
    for _ in range(random.randint(1, 3)):
        random.choice(_OF_LINES)(random, lines)
    data = "\n".join(lines).encode() + b"\n"
    if random.random() < 0.2:
        data = random.choice(_OF_BYTES)(random, data)
    return data


def _delete(random: Random, lines: list[str]) -> None:
    del lines[random.randrange(len(lines))]


def _duplicate(random: Random, lines: list[str]) -> None:
    lines.insert(random.randrange(len(lines)), random.choice(lines))


def _swap(random: Random, lines: list[str]) -> None:
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]


def _indent(random: Random, lines: list[str]) -> None:
    at = random.randrange(len(lines))
    lines[at] = random.choice((" ", "   ", "\t", "        ")) + lines[at]


def _outdent(random: Random, lines: list[str]) -> None:
    at = random.randrange(len(lines))
    lines[at] = lines[at].removeprefix(random.choice((" ", "  ", "    ")))


def _trap(random: Random, lines: list[str]) -> None:
    at = random.choice(_with_values(lines))
    lines[at] = lines[at].partition(": ")[0] + ": " + random.choice(_TRAPS)


def _misspell(random: Random, lines: list[str]) -> None:
    # A key: an address that is misspelled may be somebody's.
    at = random.choice(_with_values(lines))
    key, colon, value = lines[at].partition(": ")
    place = random.randrange(len(key) + 1)
    key = key[:place] + random.choice("aeiost_-:.0 ") + key[place + random.randint(0, 1) :]
    lines[at] = key + colon + value


def _dangle(random: Random, lines: list[str]) -> None:
    at = random.choice([n for n, line in enumerate(lines) if "pool: " in line] or [0])
    lines[at] = lines[at].partition(": ")[0] + ": " + random.choice(("fram", "tsl", "", "FARM"))


def _add(random: Random, lines: list[str]) -> None:
    margin = " " * random.choice((0, 0, 2, 4))
    lines.insert(random.randrange(len(lines) + 1), margin + random.choice(_EXTRA))


def _with_values(lines: list[str]) -> list[int]:
    return [number for number, line in enumerate(lines) if ": " in line] or [0]


def _spoil(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + random.choice(_BYTES) + data[at:]


def _cut(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data))]


def _end_lines_otherwise(random: Random, data: bytes) -> bytes:
    return data.replace(b"\n", random.choice((b"\r\n", b"\r", b"\xc2\x85")))


def _encode_otherwise(random: Random, data: bytes) -> bytes:
    return data.decode(errors="replace").encode(random.choice(("utf-16", "utf-8-sig")))


_OF_LINES: tuple[Callable[[Random, list[str]], None], ...] = (
    *(_delete, _duplicate, _swap, _indent, _outdent),
    *(_trap, _trap, _trap, _trap, _misspell, _misspell, _dangle, _dangle, _add),
)
_OF_BYTES: tuple[Callable[[Random, bytes], bytes], ...] = (
    *(_spoil, _spoil, _spoil, _cut, _end_lines_otherwise, _encode_otherwise),
)
