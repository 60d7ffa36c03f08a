"""What a key may be is said in words, with its range, for every key."""

import pytest

from mailweir.config.keys import parts
from mailweir.config.load import parse
from mailweir.errors import ConfigError

_KEYS = {key.path: key for part in parts() for key in part.keys}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("workers", "`auto` or a number from 1 to 1024"),
        ("include", "a list of 1000 entries at most; each entry is a path or a pattern"),
        ("admin.http", "`off` or an IP address and a port"),
        ("listeners.*.others", "`auto`, `admit` or `refuse`"),
        ("listeners.*.deny_code", "`554` or `421`"),
        ("listeners.*.max_age", "`0s`, or a time from 1s to 7d"),
        ("pools.*.hash_key.seed", "text of 64 characters at most"),
        ("pools.*.sticky.by", "`source`"),
        ("pools.*.sticky.ttl", "a time from 1s to 30d"),
        ("pools.*.check.rise", "a number from 1 to 100"),
        ("ha.timers.lease", "whole seconds from 2s to 60s"),
        ("ha.preempt", "`true` or `false`"),
        (
            "ha.nodes.*.links",
            "a mapping of 8 keys at most; each key is a name, each value an IP address and a UDP"
            " port",
        ),
    ],
)
def test_what_it_may_be(path: str, values: str) -> None:
    assert _KEYS[path].values == values


def test_every_key_says_it() -> None:
    assert all(key.values and key.default and key.what for key in _KEYS.values())


@pytest.mark.parametrize(("end", "beyond"), [("1h", "3601s"), ("100ms", "99ms")])
def test_the_range_that_is_said_is_the_one_that_is_taken(end: str, beyond: str) -> None:
    def file(time: str) -> str:
        return (
            f"drain: {{quiet: {time}}}\n"
            "listeners: {mx: {bind: ['127.0.0.1:0'], pool: p}}\n"
            "pools: {p: {servers: {a: {address: 10.0.0.1:25, proxy: off}}}}\n"
        )

    assert end in _KEYS["drain.quiet"].values
    parse(file(end), "f.yaml")
    with pytest.raises(ConfigError, match="must be from 100ms to 1h"):
        parse(file(beyond), "f.yaml")
