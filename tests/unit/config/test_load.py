"""From text to the model: defaults, every kind of problem with its place, hostile files."""

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mailweir.config.listener import PerSource
from mailweir.config.load import MAX_PROBLEMS, load, parse
from mailweir.config.machine import ThisMachine
from mailweir.config.pool import Queue, Sticky
from mailweir.config.reading import MAX_BYTES
from mailweir.config.words import CheckKind, Protocol
from mailweir.config.written import plain
from mailweir.errors import ConfigError
from unit.config.bad_configs import BAD
from unit.fakes import MINIMAL, STRANGERS, config


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_the_smallest_file_has_defaults_for_the_rest() -> None:
    read = config()
    assert read.workers is None
    assert str(read.admin.socket) == "/run/mailweir/admin.sock"
    assert str(read.admin.http) == "127.0.0.1:8025"
    assert read.listeners["mx"].protocol is Protocol.SMTP
    assert read.listeners["mx"].timeouts.idle_server == 660.0
    assert read.pools["farm"].servers["b"].weight == 100
    assert read.check_kind("farm") is CheckKind.EHLO
    limits, pool = read.listeners["mx"].limits, read.pools["farm"]
    assert (limits.sessions, limits.per_source, limits.dry_run) == (None, PerSource(), False)
    assert (pool.sticky, pool.slow_start, pool.panic, pool.queue) == (None, 60.0, 0.5, None)


def test_the_shipped_minimal_file_is_good() -> None:
    path = Path(__file__).parents[3] / "config" / "minimal.yaml"
    assert [str(one) for one in load(path).warnings] == [
        f"{path}:13:7: pools.farm.servers: a, b {STRANGERS}"
    ]


def test_everything_that_can_be_written() -> None:
    read = config("""
workers: 4
admin: {socket: /tmp/a.sock, http: off}
state_dir: /tmp/s
drain: {deadline: 0s}
listeners:
  mx: {bind: ["192.0.2.1:25", "[2001:db8::1]:25"], pool: in, protocol: smtp,
       timeouts: {connect: 500ms, greeting: 20s, accept_total: 1m, idle_client: 6m,
                  idle_server: 12m, half_closed: 90s}}
  old: {bind: [192.0.2.1:26], pool: in, timeouts: {idle_server: 30s, i_accept_duplicates: true},
        allow: [10.0.0.0/8, "2001:db8::/32"], deny: [10.1.2.3], refuse: drop,
        limits: {sessions: none, dry_run: [access],
                 per_source: {sessions: 20, rate: 100/min, burst: 10, prefix4: 24, prefix6: 48,
                              exempt: [10.0.0.0/24]}}}
pools:
  in:
    balance: maglev
    hash_key: {prefix4: 24, prefix6: 56, seed: ours}
    sticky: {by: source, prefix4: 32, prefix6: 128, ttl: 30d}
    slow_start: 0s
    panic: 0%
    queue: {length: 5, wait: 100ms}
    check: {kind: tcp, every: 5s, fast: 1s, rise: 1, fall: 1, timeout: 3s}
    servers: {"1": 10.0.0.1:25, null: {address: "10.0.0.2:25", weight: 0, backup: true}}
""")
    assert read.workers == 4
    assert read.admin.http is None
    assert read.listeners["mx"].timeouts.connect == 0.5
    assert list(read.pools["in"].servers) == ["1", "null"]
    assert read.listeners["old"].deny.every == ("10.1.2.3/32",)
    assert str(read.listeners["old"].limits.per_source.rate) == "100/min"
    assert read.pools["in"].sticky == Sticky.model_validate(
        {"prefix4": 32, "prefix6": 128, "ttl": "30d"}
    )
    assert read.pools["in"].queue == Queue.model_validate({"length": 5, "wait": "100ms"})
    assert read.check_kind("in") is CheckKind.TCP


def test_a_pool_that_smtps_uses_is_checked_by_tcp() -> None:
    text = MINIMAL.replace("pool: farm\n", "pool: farm\n    protocol: smtps\n", 1)
    assert config(text).check_kind("farm") is CheckKind.TCP


@pytest.mark.parametrize(("text", "lines"), BAD, ids=[f"{text[-40:]!r}" for text, _ in BAD])
def test_problem(text: str, lines: list[str]) -> None:
    assert problems(text) == lines


def test_all_problems_come_at_once_in_the_files_order() -> None:
    found = problems("""\
listeners:
  mx:
    bnd: ["0.0.0.0:25"]
    pool: fram
    timeouts: {connect: 30}
  ok: {bind: ["127.0.0.1:25"], pool: farm, timeouts: {idle_client: 10s}}
  ok: {}
pools:
  farm: {servers: {a: 127.0.0.1:25, b: nohost:25}}
workers: none
""")
    assert [line.split(":")[1] for line in found] == ["2", "3", "4", "5", "6", "7", "9", "10"]
    assert "did you mean `farm`" in found[2]


def warnings(text: str) -> list[str]:
    return [str(one) for one in parse(text, "f.yaml").warnings]


def test_a_pool_that_others_overflow_into_is_used() -> None:
    """By the listeners of those; what they speak is what its servers do."""
    spare = "  spare:\n    servers: {x: {address: 10.0.0.9:25, proxy: off}}\n"
    text = MINIMAL.replace("  farm:\n", "  farm:\n    overflow: [spare]\n") + spare
    assert not [one for one in warnings(text) if "spare" in one]
    found = config(text)
    assert [name for name, _ in found.users("spare")] == ["mx"]
    assert found.check_kind("spare") is CheckKind.EHLO


def test_warnings_do_not_refuse_the_file() -> None:
    assert warnings(f"{MINIMAL}  spare:\n    servers: {{x: 10.0.0.9:25}}\n") == [
        f"f.yaml:8:7: pools.farm.servers: a, b {STRANGERS}",
        "f.yaml:11:5: pools.spare: no listener uses this pool",
    ]


def test_who_says_that_servers_need_not_know_the_client_is_not_warned() -> None:
    servers = {"a": "{address: 10.0.0.1:25, proxy: off}", "b": "{address: 10.0.0.2:25, proxy: v2}"}
    head = "listeners: {mx: {bind: [192.0.2.1:25], pool: farm}}\npools: {farm: {servers: {"
    written = ", ".join(f"{name}: {server}" for name, server in servers.items())
    assert warnings(f"{head}{written}}}}}}}\n") == []
    assert warnings(f"{head}{written}, c: 10.0.0.3:25}}}}}}\n") == [
        f"f.yaml:2:25: pools.farm.servers: c {STRANGERS}"
    ]
    many = ", ".join(f"s{number}: 10.0.0.{number}:25" for number in range(1, 6))
    assert warnings(f"{head}{many}}}}}}}\n") == [
        f"f.yaml:2:25: pools.farm.servers: s1, s2, s3 and 2 more {STRANGERS}"
    ]


PROXIED = "servers: {a: {address: 10.0.0.1:25, proxy: v2}}"


@pytest.mark.parametrize(
    ("listener", "pool", "lines"),
    [
        (
            "",
            "queue: {}",
            ["queue: nobody will ever wait: no server of the pool has `max_sessions`"],
        ),
        (
            "",
            "hash_key: {prefix4: 24}",
            ["hash_key: nothing uses it: with `balance: least_conn` nothing is hashed"],
        ),
        ("", "balance: maglev, hash_key: {prefix4: 24}", []),
        ("", "balance: source_hash, hash_key: {seed: x}", []),
        (
            "",
            "balance: maglev, sticky: {}",
            ["sticky: `balance: maglev` brings a source back to its server already"],
        ),
        ("", "balance: maglev, hash_key: {prefix6: 0}", ["prefix6: all of IPv6 is one source"]),
        ("", "sticky: {prefix4: 0}", ["prefix4: all of IPv4 is one source"]),
        ("", "sticky: {ttl: 30d}, slow_start: 0s, panic: 0%", []),
        (
            "limits: {per_source: {exempt: [10.0.0.0/8]}}",
            "",
            ["per_source: limits nothing: there is neither `sessions` nor `rate`"],
        ),
        (
            "limits: {per_source: {sessions: 5, prefix4: 0}}",
            "",
            ["prefix4: all of IPv4 is one source"],
        ),
        ("limits: {per_source: {rate: 5/s, burst: 9}, dry_run: [source_rate]}", "", []),
        ("deny: [10.0.0.0/8], allow: [10.0.0.0/9], refuse: drop", "", []),
    ],
)
def test_what_does_nothing_is_odd(listener: str, pool: str, lines: list[str]) -> None:
    of_listener = ", ".join(filter(None, ("bind: [192.0.2.1:25], pool: p", listener)))
    of_pool = ", ".join(filter(None, (pool, PROXIED)))
    text = f"listeners: {{mx: {{{of_listener}}}}}\npools: {{p: {{{of_pool}}}}}"
    assert [line.partition(": ")[2].rpartition(".")[2] for line in warnings(text)] == lines


def test_nothing_is_odd_about_the_defaults_when_they_are_written() -> None:
    text = f"listeners: {{mx: {{bind: [192.0.2.1:25], pool: p}}}}\npools: {{p: {{{PROXIED}}}}}"
    assert warnings(yaml.safe_dump(plain(config(text)))) == []


def test_a_chain_of_listeners_that_ends_at_servers_is_odd_at_most() -> None:
    assert warnings(
        "listeners: {a: {bind: ['127.0.0.1:25'], pool: p}, b: {bind: ['0.0.0.0:26'], pool: q}}\n"
        "pools: {p: {servers: {x: {address: 127.0.0.1:26, proxy: off}}},\n"
        "        q: {servers: {y: {address: 10.0.0.1:26, proxy: off}}}}\n"
    ) == [
        "f.yaml:2:36: pools.p.servers.x.address: 127.0.0.1:26 is this process itself: listener"
        " `b` binds 0.0.0.0:26; its sessions are there twice"
    ]


def test_aliases_may_repeat_a_block() -> None:
    read = config(
        "listeners: {a: {bind: [192.0.2.1:25], pool: p, timeouts: &t {connect: 1s}},"
        " b: {bind: [192.0.2.2:25], pool: p, timeouts: *t}}\n"
        "pools: {p: {servers: {x: 10.0.0.1:25}}}\n"
    )
    assert read.listeners["b"].timeouts.connect == 1.0


def test_billion_laughs_are_refused_at_once() -> None:
    rows = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
    started = time.process_time()
    found = problems("\n".join(rows))
    assert time.process_time() - started < 0.1
    assert found == ["f.yaml:6:10: too many YAML aliases: they stand for too much"]


def test_a_flood_of_problems_is_cut() -> None:
    found = problems("".join(f"k{i}: 1\n" for i in range(500)))
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1].endswith("... and more; mend these first")


def test_ten_thousand_servers_are_read_in_time() -> None:
    rows = ["listeners: {mx: {bind: [192.0.2.1:25], pool: p0}}", "pools:"]
    for pool in range(100):
        rows.append(f"  p{pool}:\n    servers:")
        rows += [f"      s{i}: {{address: '10.{pool}.{i}.1:25', weight: 50}}" for i in range(100)]
    started = time.process_time()
    assert len(config("\n".join(rows)).pools) == 100
    # The bar of the design is 1 s for the whole command; a slow machine gets some slack, and what
    # others take of it isn't counted.
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: 1\nb: \xff\n", "{file}:2:4: isn't UTF-8 text"),
        (b"x" * (MAX_BYTES + 1), "{file}: the configuration is larger than 4 MiB"),
    ],
)
def test_a_file_that_is_no_text(tmp_path: Path, content: bytes, line: str) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == line.format(file=file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't be read: No such file or directory"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=r"can't be read: Is a directory"):
        load(tmp_path)
    with pytest.raises(ConfigError, match=r"can't be read: embedded null byte"):
        load(Path("a\0b"))


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load(file).config.listeners


WORDS = st.sampled_from(
    "listeners pools servers bind pool mx farm a 10.0.0.1:25 auto no 30 30s smtp check timeouts"
    " idle_server address weight ~ 22:30".split()
)
SCALARS = st.one_of(WORDS, st.text(max_size=8), st.integers(), st.booleans(), st.none())
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=5)),
    max_leaves=30,
)


def every_problem_has_a_place(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml")
    rows = 2 + sum(text.count(end) for end in "\n\r\x85\u2028\u2029")
    assert caught.value.problems
    for problem in caught.value.problems:
        assert 1 <= problem.line <= rows
        assert problem.column >= 1
        assert problem.message


@given(st.text())
def test_any_text_is_refused_with_places(text: str) -> None:
    every_problem_has_a_place(text)


@given(TREES)
def test_any_tree_is_refused_with_places(tree: object) -> None:
    every_problem_has_a_place(yaml.safe_dump(tree, allow_unicode=True))


@given(st.lists(st.sampled_from("a: [] {} , \n & * ! | > ' \" # - ? % @ \t é 0 ~".split(" "))))
def test_any_punctuation_is_refused_with_places(pieces: list[str]) -> None:
    every_problem_has_a_place("".join(pieces))


def test_a_server_at_an_address_of_the_machine_is_a_loop() -> None:
    """Which addresses those are isn't for the file to say."""
    content = (
        "pools: {farm: {servers: {a: 192.0.2.7:25}}}\n"
        "listeners: {mx: {bind: [0.0.0.0:25], pool: farm}}\n"
    )
    assert parse(content, "f.yaml").config
    with pytest.raises(ConfigError) as caught:
        parse(content, "f.yaml", machine=ThisMachine(lambda address: str(address) == "192.0.2.7"))
    assert [str(one) for one in caught.value.problems] == [
        "f.yaml:1:29: pools.farm.servers.a.address: 192.0.2.7:25 is this process itself: listener"
        " `mx` binds 0.0.0.0:25 and sends its sessions to this pool (a loop)"
    ]
