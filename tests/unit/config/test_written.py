"""What is printed of the configuration: the sample, the schema, the way back to a file."""

import json
import re

import pytest
import yaml

from mailweir.config.ha import Ha
from mailweir.config.load import parse
from mailweir.config.model import Config
from mailweir.config.sample import sample
from mailweir.config.schema import schema
from mailweir.config.written import given, names, plain
from unit.fakes import MINIMAL, STRANGERS, config

_RICH = """\
workers: 3
max_sessions: 5000
admin: {http: off, socket: /tmp/a.sock, operators: [root, "@root"], readers: []}
listeners:
  mx: {bind: ["[::]:25"], pool: farm, forwarding: relay, limits: {sessions: 7}, max_age: 4h,
       allow: [10.0.0.0/8, "2001:DB8::1"], deny: ["10.1.0.0/16"], refuse: reset}
  tls: {bind: ["0.0.0.0:465"], protocol: smtps, pool: tls, timeouts: {connect: 1500ms},
        limits: {per_source: {sessions: 9, rate: 7/h, burst: 3, exempt: [10.0.0.1]}, dry_run: true}}
pools:
  farm: {servers: {a: {address: 10.0.0.1:25, proxy: v2, source: [10.0.0.9], max_sessions: 3}}}
  tls: {check: {kind: tcp, rise: 1}, balance: maglev, hash_key: {seed: "a: b"}, panic: 7%,
        sticky: {ttl: 1h}, queue: {wait: 1500ms}, slow_start: 0s, servers: {a: 10.0.0.1:465}}
ha:
  node: a
  nodes:
    a: {links: {lan: "192.0.2.1:5405", cross: "[2001:db8:1::1]:5405"}}
    b: {links: {lan: "192.0.2.2:5405", cross: "[2001:db8:1::2]:5405"}, priority: 90}
  virtual: [{address: 192.0.2.10/24, dev: eth0}, {address: "2001:db8::10/64", dev: eth0}]
  source: [{address: 10.0.0.9/24, dev: eth1}]
  keys: {1: /etc/mailweir/ha.key, 2: /etc/mailweir/ha2.key}
  timers: vm
  gateway: [192.0.2.254]
  witness: {address: "203.0.113.9:5405", strict: true}
  fence: [/usr/sbin/fence, --off]
  http: off
"""


def test_the_sample_is_a_configuration_without_a_flaw() -> None:
    loaded = parse(sample(), "sample.yaml")
    # Whether the servers understand it only their owner can say.
    assert [one.message for one in loaded.warnings] == [f"mx1, mx2 {STRANGERS}"]
    assert loaded.config.pools["inbound"].servers["mx1"].weight == 100
    assert max(map(len, sample().splitlines())) <= 100


def test_what_the_sample_comments_out_is_the_default() -> None:
    lines = sample().splitlines()
    # A key behind its mark, or prose among keys that are marked.
    whole = "\n".join(re.sub(r"^( *)#(?! [^ ])", r"\1", line) for line in lines)
    assert parse(whole, "whole.yaml").config == parse(sample(), "sample.yaml").config
    # Every key of the model is there, but for the two that only their absence can say.
    written = yaml.safe_load(whole)
    (listener,), (pool,) = written["listeners"].values(), written["pools"].values()
    server = pool["servers"]["mx1"]
    for part, kind in (
        (written, Config),
        (listener, type(config().listeners["mx"])),
        (pool, type(config().pools["farm"])),
        (server, type(config().pools["farm"].servers["a"])),
    ):
        assert kind.model_fields.keys() - part.keys() <= {"forwarding"}


def test_the_samples_examples_are_whole_parts() -> None:
    lines = [line for line in sample().splitlines() if line != "#ha: none"]
    text = "\n".join(re.sub(r"^##", "", line) for line in lines)
    assert set(yaml.safe_load(text)["ha"]) == set(Ha.model_fields)
    assert config(text).ha.own_name("lb2.example.org") == "lb2"  # type: ignore[union-attr]


def test_what_is_written_reads_back() -> None:
    for text in (MINIMAL, _RICH, sample()):
        running = config(text)
        assert config(yaml.safe_dump(plain(running))) == running


def test_the_schema_knows_every_key_and_its_default() -> None:
    found = json.loads(json.dumps(schema()))
    assert found["additionalProperties"] is False
    assert found["properties"]["state_dir"]["default"] == "/var/lib/mailweir"
    parts = found["$defs"]
    assert parts["Drain"]["properties"]["deadline"]["default"] == "30m"
    assert re.fullmatch(parts["Drain"]["properties"]["quiet"]["pattern"], "5s")
    assert parts["Limits"]["properties"]["sessions"]["default"] == "none"
    assert {one.get("type") for one in parts["Server"]["anyOf"]} == {"string", "object"}
    assert parts["Pool"]["properties"]["panic"]["default"] == "50%"
    assert {"const": "none"} in parts["Pool"]["properties"]["sticky"]["anyOf"]
    assert parts["Sticky"]["properties"]["ttl"]["default"] == "4h"
    assert parts["Limits"]["properties"]["dry_run"]["default"] is False
    assert {"const": "none"} in found["properties"]["ha"]["anyOf"]
    assert {"enum": ["fast", "vm"]} in parts["Timers"]["anyOf"]
    assert parts["Ha"]["properties"]["mode"]["default"] == "native"
    assert parts["Listener"]["required"] == ["bind", "pool"]


def _names(tree: dict[str, object], depth: int) -> list[str]:
    found = []
    for key, value in tree.items():
        if isinstance(value, dict) and value and depth > 1:
            found += [f"{key}.{name}" for name in _names(value, depth - 1)]
        else:
            found.append(key)
    return found


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("text", [MINIMAL, _RICH], ids=["minimal", "rich"])
def test_names_are_those_of_the_keys_that_there_may_be(text: str, depth: int) -> None:
    found = config(text)
    every = list(names(found, depth))
    written = _names(plain(found), depth)
    assert [name for name in every if name in written] == written
    # Those whose default is that they aren't there.
    others = {name.rpartition(".")[2] for name in every if name not in written}
    assert others <= {
        "check",
        "forwarding",
        "ha",
        "helo",
        "kind",
        "max_sessions",
        "queue",
        "sticky",
    }


def test_what_is_given_is_what_the_file_says_otherwise_than_by_default() -> None:
    text = MINIMAL + "drain: {quiet: 1000ms}\nmax_sessions: 7\nworkers: auto\n"
    assert given(config(text)).keys() == {"listeners", "pools", "max_sessions", "drain"}
    assert given(config(text))["drain"] == {"quiet": "1s"}
    # The same value written otherwise is the default all the same.
    for written in ("5s", "5000ms"):
        assert "drain" not in given(config(MINIMAL + f"drain: {{quiet: {written}}}\n"))
