"""What looks right and does no good: an error where nothing good can come of it, else a warning
that says what will happen. And what is near it, and is meant.
"""

import socket
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from mailweir.config.load import parse
from mailweir.config.machine import ThisMachine
from mailweir.errors import ConfigError, Problem

_BIND, _SERVERS = "192.0.2.1:25", "{a: {address: 10.0.0.1:25, proxy: v2}}"
_OWN = ("192.0.2.1", "198.51.100.1", "10.0.0.254", "2001:db8::1")


def _has(ip: IPv4Address | IPv6Address) -> bool:
    return str(ip) in _OWN


def told(
    *,
    bind: str = f'["{_BIND}"]',
    listener: str = "",
    servers: str = _SERVERS,
    pool: str = "",
    file: str = "",
    name: str = "f.yaml",
    kernel_path: bool = True,
) -> list[str]:
    """Errors (E) and warnings (W), without the file and with the place's path alone."""
    text = (
        f"listeners:\n  mx: {{bind: {bind}, pool: farm{listener and f', {listener}'}}}\n"
        f"pools:\n  farm: {{servers: {servers}{pool and f', {pool}'}}}\n{file}"
    )
    machine = ThisMachine(_has, frozenset(range(32768, 61000)), kernel_path)
    problems: tuple[Problem, ...] = ()
    try:
        warnings = parse(text, name, machine=machine).warnings
    except ConfigError as error:
        problems, warnings = error.problems, error.warnings
    found = [("E", one) for one in problems] + [("W", one) for one in warnings]
    return [f"{kind} {one.path}: {one.message}" for kind, one in found]


_ABSENT = "this machine doesn't have it now"

_ADDRESSES: list[tuple[dict[str, str], list[str]]] = [
    ({"bind": "['192.0.2.1:25', '198.51.100.1:25', '[::]:25', '[2001:db8::1]:26']"}, []),
    ({"bind": "['0.0.0.0:25', '192.0.2.1:25']"},
     ["W listeners.mx.bind.1: 0.0.0.0:25 of this listener has it already; leave one of them out"]),
    ({"bind": "['192.0.2.1:0']"},
     ["E listeners.mx.bind.0: port 0 is another one at each start, which nobody knows: write the"
      " port (0 is for tests, on loopback addresses alone)"]),
    ({"bind": "['127.0.0.1:0', '127.0.0.1:0', '[::1]:0']"}, []),
    ({"bind": "['255.255.255.255:25']"},
     ["E listeners.mx.bind.0: 255.255.255.255 is the broadcast address, TCP can't use it"]),
    ({"bind": "['240.0.0.1:25']"},
     ["W listeners.mx.bind.0: 240.0.0.1 is of 240.0.0.0/4, which is reserved: most systems and"
      " routers drop what comes from there or goes there",
      f"W listeners.mx.bind.0: 240.0.0.1: {_ABSENT}, and nobody gets here until it does; an"
      " address that moves between two machines belongs in `ha.virtual` as well"]),
    ({"bind": "['[fe80::1]:25']"},
     ["E listeners.mx.bind.0: fe80::1 is a link-local address: those need a zone (%), which can't"
      " be used; write another address of that interface"]),
    ({"bind": "['192.0.2.1:025']"},
     ["E listeners.mx.bind.0: a port has no leading zero: write 25"]),
    ({"bind": "['192.0.2.99:25']"},
     [f"W listeners.mx.bind.0: 192.0.2.99: {_ABSENT}, and nobody gets here until it does; an"
      " address that moves between two machines belongs in `ha.virtual` as well"]),
    ({"bind": "['192.0.2.99:25']", "file": "ha: {mode: external, virtual: [{address:"
      " 192.0.2.99/24, dev: eth0}]}\n"}, []),
    ({"bind": "['0.0.0.0:8025']"},
     ["E admin.http: 127.0.0.1:8025 can't be had beside 0.0.0.0:8025, which listener `mx` binds"]),
    ({"bind": "['192.0.2.1:8025']", "file": "admin: {http: 0.0.0.0:8025}\n"},
     ["E admin.http: 0.0.0.0:8025 can't be had beside 192.0.2.1:8025, which listener `mx` binds"]),
    ({"bind": "['[::]:8025', '192.0.2.1:8025']"}, []),
    ({"file": "admin: {http: 192.0.2.99:8025}\n"},
     [f"W admin.http: 192.0.2.99: {_ABSENT}, and the process doesn't start without it"]),
    ({"file": "admin: {http: 192.0.2.1:0}\n"},
     ["E admin.http: port 0 is another one at each start, which nobody knows: write the port (0 is"
      " for tests, on loopback addresses alone)"]),
    ({"file": "admin: {http: 0.0.0.0:8026}\nha: {mode: external}\n"},
     ["E ha.http: 127.0.0.1:8026 can't be had beside `admin.http`; each process needs one of its"
      " own"]),
    # servers
    ({"servers": "{a: {address: 127.0.0.1:8025, proxy: v2}}"},
     ["E pools.farm.servers.a.address: 127.0.0.1:8025 is `admin.http` of mailweir itself, no mail"
      " server"]),
    ({"servers": "{a: {address: 10.0.0.254:8025, proxy: v2}}", "file": "admin: {http:"
      " 0.0.0.0:8025}\n"},
     ["E pools.farm.servers.a.address: 10.0.0.254:8025 is `admin.http` of mailweir itself, no mail"
      " server"]),
    ({"servers": "{a: {address: 10.0.0.1:25, proxy: v2}, b: {address: 10.0.0.1:25, proxy: off}}"},
     ["E pools.farm.servers.b.address: 10.0.0.1:25 is server `a` already: by two names it has twice"
      " the sessions and twice the checks; leave one out, or give it a larger `weight`"]),
    ({"servers": "{a: {address: '[fe80::2]:25', proxy: v2}}"},
     ["E pools.farm.servers.a.address: fe80::2 is a link-local address: those need a zone (%),"
      " which can't be used; write another address of that interface"]),
    ({"servers": "{a: {address: 241.0.0.1:25, proxy: v2}}"},
     ["W pools.farm.servers.a.address: 241.0.0.1 is of 240.0.0.0/4, which is reserved: most systems"
      " and routers drop what comes from there or goes there"]),
    ({"servers": "{a: {address: 10.0.0.1:25, proxy: v2, source: [10.0.0.254, 10.0.0.253]}}"},
     [f"W pools.farm.servers.a.source.1: 10.0.0.253: {_ABSENT}, and the server can't be dialled"
      " from it until it does; an address that moves between two machines belongs in `ha.source`"
      " as well"]),
    ({"servers": "{a: {address: '[2001:db8::2]:25', proxy: v2, source: ['fe80::1%eth0']}}"},
     ["E pools.farm.servers.a.source.0: fe80::1%eth0 is a link-local address: those need a zone"
      " (%), which can't be used; write another address of that interface"]),
]  # fmt: skip

_NOBODY = (
    "nobody is let in, every client is denied; to take no sessions for a while say `mailweir"
    " pause`, after which mail comes again"
)

_LISTENERS: list[tuple[dict[str, str], list[str]]] = [
    ({"listener": "deny: [0.0.0.0/0]"}, [f"E listeners.mx.deny: {_NOBODY}"]),
    ({"listener": "deny: [0.0.0.0/1, 128.0.0.0/1]"}, [f"E listeners.mx.deny: {_NOBODY}"]),
    ({"listener": "deny: [0.0.0.0/0], allow: [10.0.0.0/8]"}, []),
    ({"listener": "deny: [0.0.0.0/0], limits: {dry_run: [access]}"}, []),
    ({"listener": "others: refuse"}, [f"E listeners.mx.others: {_NOBODY}"]),
    ({"listener": "allow: ['2001:db8::/32']"},
     [f"E listeners.mx.allow: {_NOBODY}",
      "W listeners.mx.allow.0: no client has this address: the listener binds IPv4 alone"]),
    ({"bind": "['192.0.2.1:25', '[::]:25']", "listener": "allow: ['2001:db8::/32']"},
     ["W listeners.mx.allow: no client of IPv4 is let in"]),
    ({"bind": "['192.0.2.1:25', '[::]:25']", "listener": "deny: [0.0.0.0/0]"},
     ["W listeners.mx.deny: no client of IPv4 is let in"]),
    ({"listener": "deny: ['2001:db8::/32', 10.0.0.0/8]"},
     ["W listeners.mx.deny.0: no client has this address: the listener binds IPv4 alone"]),
    ({"listener": "limits: {per_source: {sessions: 5, exempt: ['::1']}}"},
     ["W listeners.mx.limits.per_source.exempt.0: no client has this address: the listener binds"
      " IPv4 alone"]),
    ({"listener": "allow: [10.0.0.0/8], deny: [192.0.2.0/24]"},
     ["E listeners.mx.allow: together with `deny` this doesn't tell what becomes of clients in"
      " neither list: write `others: admit`, or `others: refuse` where only those in `allow` may"
      " come"]),
    ({"listener": "deny_code: 550"}, ["E listeners.mx.deny_code: must be 554 or 421, not 550"]),
    ({"listener": "limits: {sessions: 100, per_source: {sessions: 200}}"},
     ["W listeners.mx.limits.per_source.sessions: is never reached: the listener takes 100 sessions"
      " of all sources together (`limits.sessions`)"]),
    ({"listener": "limits: {sessions: 100}", "file": "max_sessions: 50\n"},
     ["W listeners.mx.limits.sessions: is never reached: the process takes 50 sessions in all"
      " (`max_sessions`)"]),
    ({"listener": "limits: {dry_run: true}"},
     ["W listeners.mx.limits.dry_run: there is nothing to try: no list and no limit"]),
    ({"listener": "limits: {sessions: 9, dry_run: [sessions, source_rate, access]}"},
     ["W listeners.mx.limits.dry_run: `source_rate` counts nothing: there is no limit"
      " `source_rate`",
      "W listeners.mx.limits.dry_run: `access` counts nothing: there is no `allow` and no `deny`"]),
    ({"listener": "max_age: 1s"},
     ["W listeners.mx.max_age: every session that lasts 1s is cut, most of them behind their first"
      " message: what spreads long sessions is minutes"]),
    ({"listener": "max_age: 10m"}, []),
    ({"listener": "protocol: smtps, forwarding: kernel"},
     ["E listeners.mx.forwarding: `kernel` can't be: it is for `protocol: smtp`, and this is"
      " smtps"]),
    ({"bind": "['[::]:25']", "file": "forwarding: kernel\n"},
     ["E forwarding: `kernel` can't be at any listener; listener `mx`: it is for IPv4, and all of"
      " the listener's addresses are IPv6"]),
    ({"servers": "{a: {address: 127.0.0.1:2525, proxy: v2}}", "listener": "forwarding: kernel"},
     ["E listeners.mx.forwarding: `kernel` can't be: it is for Ethernet, and all of its servers'"
      " addresses are loopback"]),
    ({"listener": "forwarding: relay", "file": "forwarding: kernel\n"},
     ["E forwarding: `kernel` can't be at any listener; listener `mx`: its own `forwarding` is"
      " relay"]),
    ({"file": "forwarding: kernel\n"}, []),
]  # fmt: skip

_TWO = "{a: {address: 10.0.0.1:25, proxy: v2%s}, b: {address: 10.0.0.2:25, proxy: v2%s}}"


def _arriving(*ways: str) -> str:
    """A check for each, by a mail that arrives there."""
    one = "m{}: {{kind: message, rcpt_to: a@b.test, arrives: {{{}}}}}"
    return f"more_checks: {{{', '.join(one.format(*way) for way in enumerate(ways))}}}"


_POOLS: list[tuple[dict[str, str], list[str]]] = [
    ({"servers": _TWO % (", weight: 0", ", weight: 0")},
     ["W pools.farm.servers: every server has weight 0 and takes no sessions: clients hear 421"]),
    ({"servers": _TWO % (", weight: 0", "")}, []),
    ({"pool": "on_down: end"},
     ["W pools.farm.on_down: a server that fails `check.fall` checks loses its sessions, though it"
      " may be alive: messages under way are sent again, and come twice where it had taken them"]),
    ({"pool": "on_down: end", "listener": "protocol: tcp"}, []),
    ({"pool": "on_down: leave"}, []),
    ({"pool": "outlier: {base: 1m}, panic: 60%", "servers": _TWO % ("", "")},
     ["W pools.farm.outlier: nobody will ever be ejected: without one of 2 servers the pool would"
      " come into `panic: 60%`"]),
    ({"pool": "outlier: {base: 1m}", "servers": _TWO % ("", ", backup: true")},
     ["W pools.farm.outlier: nobody will ever be ejected: the only server that isn't a backup never"
      " is"]),
    ({"pool": "outlier: {base: 1m}", "servers": _TWO % ("", "")}, []),
    ({"pool": "outlier: none, panic: 60%", "servers": _TWO % ("", "")}, []),
    ({"pool": "queue: {length: 5}"},
     ["W pools.farm.queue: nobody will ever wait: no server of the pool has `max_sessions`"]),
    ({"servers": _TWO % (", max_sessions: 9", ""), "pool": "queue: {length: 5}"},
     ["W pools.farm.queue: nobody waits while b is up, without `max_sessions`: always free"]),
    ({"servers": _TWO % (", max_sessions: 9", ", max_sessions: 9"), "pool": "queue: {length: 5}",
      "listener": "limits: {sessions: 18}"},
     ["W pools.farm.queue: nobody waits while all servers are up: they take 18 sessions, and"
      " `limits.sessions` of the listeners lets in 18"]),
    ({"servers": _TWO % (", max_sessions: 9", ", max_sessions: 9"), "pool": "queue: {length: 5}",
      "listener": "limits: {sessions: 23}"}, []),
    ({"pool": "check: {every: 1s}"}, []),
    ({"pool": "check: {every: 1s, fast: 2s}"},
     ["E pools.farm.check.fast: is longer than `every` (1s): a change would be confirmed later than"
      " it was found"]),
    ({"pool": "check: {timeout: 15s}"}, []),
    ({"pool": "check: {every: 2s, timeout: 10s}"},
     ["W pools.farm.check.timeout: is longer than `every` (2s): a server that accepts and says"
      " nothing is down only after 34s"]),
    ({"pool": "check: {timeout: 1m}"},
     ["W pools.farm.check.timeout: is longer than `every` (10s): a server that accepts and says"
      " nothing is down only after 184s"]),
    ({"listener": "protocol: tcp", "pool": "check: {kind: ehlo}"},
     ["W pools.farm.check.kind: listener `mx` is tcp: servers that don't speak SMTP in plain text"
      " are never up by `ehlo`; use `tcp` for them"]),
    ({"pool": "check: {kind: tcp, helo: lb1.example.com}"},
     ["W pools.farm.check.helo: a check by `tcp` has no use for it: checks by auth, ehlo,"
      " message, rcpt, starttls have it"]),
    ({"pool": "check: {kind: tcp, days: 3, rcpt_to: a@b.test}"},
     ["E pools.farm.check.days: a check by `tcp` has no use for it: checks by starttls have it",
      "E pools.farm.check.rcpt_to: a check by `tcp` has no use for it: checks by message, rcpt"
      " have it"]),
    ({"pool": "check: {kind: agent, port: 8000}"},
     ["E pools.farm.check.kind: an agent that doesn't answer says nothing of the server: have it"
      " under `more_checks`, beside a check that decides"]),
    ({"pool": "more_checks: {load: {kind: agent}}"},
     ["E pools.farm.more_checks.load: a check by `agent` needs `port`"]),
    ({"pool": "more_checks: {load: {kind: agent, port: 80, decides: weight}}"}, []),
    ({"pool": "check: {kind: ehlo, port: 10025, proxy: off}"}, []),
    ({"pool": "check: {kind: tcp, port: 10025, proxy: v1}"}, []),
    ({"pool": "more_checks: {web: {kind: http, proxy: v2}}"},
     ["E pools.farm.more_checks.web.proxy: a check by `http` has no use for it: checks by auth,"
      " ehlo, greeting, message, rcpt, starttls, tcp have it"]),
    ({"pool": "more_checks: {w: {kind: ehlo, decides: weight}}"},
     ["E pools.farm.more_checks.w.decides: a check by `ehlo` says nothing of weights, only an"
      " `agent` does: write `state` or `alarm`"]),
    ({"pool": "more_checks: {check: {kind: tcp}}"},
     ["E pools.farm.more_checks.check: `check` is what the pool's own check is called; rename it"]),
    ({"pool": "more_checks: {a: {kind: auth, user: u}}"},
     ["E pools.farm.more_checks.a: a check by `auth` needs `password_file`"]),
    ({"pool": "more_checks: {a: {kind: rcpt, rcpt_to: a@b.test, user: u}}"},
     ["E pools.farm.more_checks.a: `user` and `password_file` go together: give both or neither"]),
    ({"pool": "more_checks: {a: {kind: rcpt, rcpt_to: a@b.test, name: mx.test}}"},
     ["E pools.farm.more_checks.a: TLS is for a login alone: give `user` and `password_file` as"
      " well"]),
    ({"pool": "more_checks: {a: {kind: starttls, verify: name}}"},
     ["E pools.farm.more_checks.a.verify: `name` has to say which name the certificate is for"]),
    ({"pool": "more_checks: {a: {kind: message, rcpt_to: a@b.test, arrives: {}}}"},
     ["E pools.farm.more_checks.a.arrives: must have one of `maildir`, `smtp` and `lmtp`"]),
    ({"pool": _arriving("smtp: '192.0.2.1:25'")},
     ["E pools.farm.more_checks.m0.arrives.smtp: 192.0.2.1:25 can't be listened at: listener `mx`"
      " binds 192.0.2.1:25; take another port"]),
    ({"bind": "['0.0.0.0:25']",
      "pool": _arriving("lmtp: '127.0.0.1:25'")},
     ["E pools.farm.more_checks.m0.arrives.lmtp: 127.0.0.1:25 can't be listened at: listener `mx`"
      " binds 0.0.0.0:25; take another port"]),
    ({"pool": _arriving("smtp: '127.0.0.1:80'"),
      "file": "admin: {http: '127.0.0.1:80'}\n"},
     ["E pools.farm.more_checks.m0.arrives.smtp: 127.0.0.1:80 can't be listened at: `admin.http`"
      " has 127.0.0.1:80; take another port"]),
    ({"pool": _arriving("smtp: '10.0.0.1:25'")},
     ["E pools.farm.more_checks.m0.arrives.smtp: 10.0.0.1:25 is server `farm/a`, and mailweir"
      " itself listens for the mails of checks: write an address of this machine, and have the"
      " server hand the mails on to it",
      f"W pools.farm.more_checks.m0.arrives.smtp: 10.0.0.1: {_ABSENT}, and the check can't be made"
      " until it does"]),
    ({"pool": "check: {source: 192.0.2.99}"},
     [f"W pools.farm.check.source: 192.0.2.99: {_ABSENT}, and the check can't be made until it"
      " does"]),
    ({"pool": _arriving("smtp: '127.0.0.1:26'", "lmtp: '127.0.0.1:26'", "smtp: '127.0.0.1:26'")},
     ["E pools.farm.more_checks.m1.arrives.lmtp: 127.0.0.1:26 is for `smtp` already; take another"
      " port"]),
    ({"pool": _arriving("maildir: '/no/such'")},
     ["W pools.farm.more_checks.m0.arrives.maildir: there is no folder /no/such/new: the check says"
      " nothing of servers until a first mail has come there"]),
    ({"pool": "more_checks: {a: {kind: starttls, ca: /no/such.pem}}"},
     ["W pools.farm.more_checks.a.ca: /no/such.pem isn't there, or can't be looked at: the check"
      " can't be made"]),
    ({"pool": "check: {source: '2001:db8::9'}"},
     ["E pools.farm.check.source: 2001:db8::9 can't reach 10.0.0.1:25: not the same IP version",
      f"W pools.farm.check.source: 2001:db8::9: {_ABSENT}, and the check can't be made until it"
      " does"]),
    ({"pool": "check: {source: 192.0.2.1}"},
     ["E pools.farm.check.source: listener `mx` binds 192.0.2.1: a virtual address isn't there on"
      " the node that stands by, whose checks could not be made; take one of the node's own"]),
    ({"pool": "check: {kind: rcpt, rcpt_to: 'a b@c'}"},
     ["E pools.farm.check.rcpt_to: must be an address such as check@example.com, not 'a b@c'"]),
    ({"pool": "check: {kind: rcpt, rcpt_to: 'a@b>c'}"},
     ["E pools.farm.check.rcpt_to: must be an address such as check@example.com, not 'a@b>c'"]),
    ({"pool": "check: {helo: lb_1}"},
     ["E pools.farm.check.helo: must be a host name such as lb1.example.com, not 'lb_1'"]),
]  # fmt: skip

_PROCESS: list[tuple[dict[str, str], list[str]]] = [
    ({"file": "drain: {deadline: 0s}\n"}, []),
    ({"file": "drain: {quiet: 10m, deadline: 5m}\n"},
     ["W drain.quiet: `quiet` (10m) isn't shorter than `deadline` (5m): sessions that say nothing"
      " are cut then, at no better moment than all others"]),
    ({"file": "drain: {deadline: 20s}\n"},
     ["W drain.deadline: sessions inside TLS and in the kernel are cut then, whatever they do: the"
      " moment for that comes after 30s of silence, and mail that is cut may come twice"]),
    ({"file": "drain: {deadline: 1m, spread: 2m}\n"},
     ["W drain.spread: is longer than `deadline` (1m): sessions whose turn hasn't come by then are"
      " cut all at once"]),
    ({"file": "source_ports: 10000-40000\n"},
     ["W source_ports: the system gives 7233 of these to connections by itself"
      " (net.ipv4.ip_local_port_range): a program that gets the port of a session in the kernel"
      " disturbs it; take others, or have them in net.ipv4.ip_local_reserved_ports"]),
    ({"file": "source_ports: 10000-40000\nforwarding: relay\n"}, []),
    ({"file": "state_dir: /\n"},
     ["E state_dir: can't be the root of the file system; make a folder for it"]),
    ({"file": "state_dir: /usr/..\n"},
     ["E state_dir: can't be the root of the file system; make a folder for it"]),
    ({"file": "state_dir: /dev/null\n"}, ["E state_dir: /dev/null is there and is no folder"]),
    ({"file": "log: {sessions: /var/lib/mailweir/lock}\n"},
     ["E log.sessions: /var/lib/mailweir/lock is the lock in `state_dir`: the log would be written"
      " into it"]),
    ({"file": "log: {sessions: /run/mailweir/../mailweir/admin.sock}\n"},
     ["E log.sessions: /run/mailweir/../mailweir/admin.sock is `admin.socket`: the log would be"
      " written into it"]),
    ({"file": "log: {sessions: /}\n"}, ["E log.sessions: / is a folder; write the path of a file"]),
    ({"file": "log: {sessions: /dev/null}\n"}, []),
    ({"file": "log: {sessions: /nowhere/s.log}\n"},
     ["W log.sessions: mailweir won't start where there is no folder /nowhere"]),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "lines"), [*_ADDRESSES, *_LISTENERS, *_POOLS, *_PROCESS], ids=str)
def test_rule(keys: dict[str, Any], lines: list[str]) -> None:
    assert told(**keys) == lines


def test_a_specific_address_of_another_listener() -> None:
    file = "  b: {servers: {x: {address: 10.0.0.9:25, proxy: v2}}}\n"
    keys: dict[str, Any] = {"bind": '["0.0.0.0:25"]', "file": file}
    other = told(**keys, listener="max_age: 0s}\n  second: {bind: ['192.0.2.1:25'], pool: b")
    assert other == [
        "W listeners.second.bind.0: 0.0.0.0:25 is bound by listener `mx`: who connects to 192.0.2.1"
        " comes to this one, everybody else to that one"
    ]


@pytest.mark.parametrize(
    ("listener", "file", "at"),
    [
        ("", "forwarding: kernel\n", "forwarding"),
        ("forwarding: kernel", "", "listeners.mx.forwarding"),
    ],
)
def test_a_mailweir_without_the_kernel_path(listener: str, file: str, at: str) -> None:
    assert told(listener=listener, file=file, kernel_path=True) == []
    assert told(listener=listener, file=file, kernel_path=False) == [
        f"E {at}: `kernel` can't be: this mailweir was built without it, for want of clang"
    ]


def test_a_server_in_two_pools() -> None:
    """Is fine, but for a header that it gets from the one and not from the other."""
    second = "max_age: 0s}\n  second: {bind: ['198.51.100.1:25'], pool: b"
    for proxy, lines in (
        ("v1", []),
        ("off", [
            "W pools.b.servers.x.proxy: 10.0.0.1:25 is server `farm/a` too, with `proxy: v2`: a"
            " port takes a PROXY header from everybody or from nobody, so one of them fails"]),
    ):  # fmt: skip
        file = f"  b: {{servers: {{x: {{address: 10.0.0.1:25, proxy: {proxy}}}}}}}\n"
        assert told(listener=second, file=file) == lines


def test_files_that_are_something_else(tmp_path: Path) -> None:
    config, listed, secret = (tmp_path / name for name in ("f.yaml", "drop.txt", "ha.key"))
    listed.write_text("203.0.113.0/24\n")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
        for log, what in (
            (config, "the configuration: the log would be written into it"),
            (listed, "a list of prefixes of listener `mx`: the log would be written into it"),
            (secret, "key 1 of `ha.keys`: the log would be written into it"),
            (tmp_path / "sock", "a socket; write the path of a file"),
        ):
            keys = f"ha: {{mode: external, keys: {{1: {secret}}}}}\nlog: {{sessions: {log}}}\n"
            found = told(listener=f"deny: [{listed}]", file=keys, name=str(config))
            assert found == [f"E log.sessions: {log} is {what}"]


def test_a_folder_that_anybody_may_write_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    assert told(file=f"state_dir: {tmp_path}\n") == [
        f"W state_dir: anybody may write to {tmp_path}, and keep mailweir from starting or put"
        " operators' words there; make a folder for it alone"
    ]
