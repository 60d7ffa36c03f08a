"""Bad configurations and the exact lines that an operator gets for each."""
# ruff: noqa: E501 - the lines are data, compared as they are

HEAD = "pools: {farm: {servers: {a: 10.0.0.1:25}}}\n"
LISTENER = "listeners: {mx: {bind: [192.0.2.1:25], pool: farm}}\n"

BAD: list[tuple[str, list[str]]] = [
    # YAML itself
    ("", ["f.yaml:1:1: the file is empty; the least it needs is `listeners` and `pools`"]),
    ("# nothing\n", ["f.yaml:1:1: the file is empty; the least it needs is `listeners` and `pools`"]),
    ("- a\n", ["f.yaml:1:1: the file must be a mapping that begins with `listeners:` or another key"]),
    ("a: b: c\n", ["f.yaml:1:5: not valid YAML: mapping values are not allowed in this context"]),
    ("a: [1, 2\nb: 3\n", ["f.yaml:2:2: not valid YAML: did not find expected ',' or ']' (while"
                          " parsing a flow sequence that began at line 1)"]),
    ("a: 1\n\tb: 2\n", ["f.yaml:2:1: not valid YAML: a tab can't indent in YAML; use spaces"]),
    ("a: 1\nb: x\x07y\n", ["f.yaml:2:5: a control character (U+0007) can't be in this file"]),
    ("a: 1\n---\nb: 1\n", ["f.yaml:2:1: only one YAML document can be in this file"]),
    ("a: !!python/none x\n", ["f.yaml:1:4: YAML tags such as tag:yaml.org,2002:python/none aren't"
                              " used here"]),
    ("a: &x [*x]\n", ["f.yaml:1:8: *x would contain itself"]),
    ("a: *x\n", ["f.yaml:1:4: nothing above is called &x"]),
    ("[a]: 1\n", ["f.yaml:1:1: a key must be a plain word"]),
    ("a: " + "x" * 1001, ["f.yaml:1:4: longer than 1000 characters"]),
    ("a: " + "[" * 40, ["f.yaml:1:35: nested deeper than 32 levels"]),
    # keys
    (HEAD + LISTENER + "listners: {}\n", ["f.yaml:3:1: listners: unknown key; did you mean"
                                          " `listeners`?"]),
    (HEAD + LISTENER + "include: [x.yaml]\n", ["f.yaml:3:11: include.0: there is no file x.yaml"]),
    (HEAD + LISTENER + "<<: {}\n", ["f.yaml:3:1: <<: unknown key"]),
    (HEAD + LISTENER + LISTENER, ["f.yaml:3:1: `listeners` is written twice, first at line 2"]),
    (HEAD, ["f.yaml:1:1: listeners: is missing; it has no default"]),
    (LISTENER, ["f.yaml:1:1: pools: is missing; it has no default"]),
    (HEAD + "listeners: {}\n", ["f.yaml:2:12: listeners: must not be empty"]),
    (HEAD + "listeners:\n", ["f.yaml:2:11: listeners: has no value"]),
    (HEAD + "listeners: [mx]\n", ["f.yaml:2:12: listeners: must be a mapping (`name: value` lines),"
                                  " not a list"]),
    (HEAD + "listeners: {mx: 25}\n", ["f.yaml:2:17: listeners.mx: must be a mapping (`key: value`"
                                      " lines), not 25"]),
    (HEAD + "listeners:\n  mx:\n    pool: farm\n", ["f.yaml:3:3: listeners.mx.bind: is missing; it"
                                                    " has no default"]),
    (HEAD + "listeners: {m x: {bind: [192.0.2.1:25], pool: farm}}\n",
     ["f.yaml:2:13: listeners.m x: 'm x' can't be a name: letters, digits and . _ - (a letter or"
      " digit first), at most 64"]),
    # values
    (HEAD + LISTENER + "workers: 0\n", ["f.yaml:3:10: workers: must be auto or a number from 1 to"
                                        " 1024, not 0"]),
    (HEAD + LISTENER + "workers: yes\n", ["f.yaml:3:10: workers: must be auto or a number from 1 to"
                                          " 1024, not 'yes'"]),
    (HEAD + LISTENER + "state_dir: state\n", ["f.yaml:3:12: state_dir: must be an absolute path, one"
                                              " that begins with /"]),
    (HEAD + LISTENER + "admin: {http: localhost}\n",
     ["f.yaml:3:15: admin.http: must be an IP address and port, for example 10.0.0.1:25 or"
      " [2001:db8::1]:25; not 'localhost'"]),
    (HEAD + LISTENER + "admin: {http: 192.0.2.1:25}\n",
     ["f.yaml:3:15: admin.http: 192.0.2.1:25 is bound by listener `mx` already"]),
    (HEAD + LISTENER + f"admin: {{socket: /{'x' * 120}}}\n",
     ["f.yaml:3:17: admin.socket: is 121 bytes long; a socket's path can have 102"]),
    (HEAD + LISTENER + "admin: {operators: alice}\n",
     ['f.yaml:3:20: admin.operators: must be a list, as in ["one", "another"], not \'alice\'']),
    (HEAD + LISTENER + "admin: {operators: ['@']}\n",
     ["f.yaml:3:21: admin.operators.0: must be a user's name, or \"@\" and a group's, not '@'"]),
    (HEAD + LISTENER + "admin: {readers: [1000]}\n",
     ["f.yaml:3:19: admin.readers.0: must be text, not 1000"]),
    (HEAD + LISTENER + "admin: {readers: [@mail]}\n",
     ['f.yaml:3:19: not valid YAML: no word of YAML begins with @; write "@name"']),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, deny: [::1]}}\n",
     ['f.yaml:2:59: not valid YAML: in brackets an address of IPv6 is quoted; write "::1"']),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, deny: [2001:db8::]}}\n",
     ['f.yaml:2:68: not valid YAML: in brackets an address of IPv6 is quoted; write "2001:db8::"']),
    (HEAD + LISTENER + "drain: {deadline: 30}\n", ["f.yaml:3:19: drain.deadline: needs a unit: write"
                                                   " 30s or 30ms"]),
    (HEAD + LISTENER + "drain: {deadline: 25h}\n", ["f.yaml:3:19: drain.deadline: must be from 0s to"
                                                    " 1d, not 25h"]),
    (HEAD + "listeners: {mx: {bind: 192.0.2.1:25, pool: farm}}\n",
     ['f.yaml:2:24: listeners.mx.bind: must be a list, as in ["one", "another"], not'
      " '192.0.2.1:25'"]),
    (HEAD + "listeners: {mx: {bind: [], pool: farm}}\n",
     ["f.yaml:2:24: listeners.mx.bind: must not be empty"]),
    (HEAD + "listeners: {mx: {bind: [22:30], pool: farm}}\n",
     ["f.yaml:2:25: listeners.mx.bind.0: must be an IP address and port, for example 10.0.0.1:25 or"
      " [2001:db8::1]:25; not '22:30'"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: fram}}\n",
     ["f.yaml:2:46: listeners.mx.pool: there is no pool `fram`; did you mean `farm`?"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: 7}}\n",
     ["f.yaml:2:46: listeners.mx.pool: must be text, not 7"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, protocol: smpt}}\n",
     ["f.yaml:2:62: listeners.mx.protocol: must be one of smtp, smtps, tcp; not 'smpt'; did you mean"
      " `smtp`?"]),
    # servers and checks
    ("pools: {farm: {servers: {}}}\n" + LISTENER, ["f.yaml:1:25: pools.farm.servers: must not be"
                                                   " empty"]),
    ("pools: {farm: {}}\n" + LISTENER, ["f.yaml:1:9: pools.farm.servers: is missing; it has no"
                                        " default"]),
    ("pools: {farm: {servers: {a: mx1.example:25}}}\n" + LISTENER,
     ["f.yaml:1:29: pools.farm.servers.a.address: must be an IP address and port, for example"
      " 10.0.0.1:25 or [2001:db8::1]:25; not 'mx1.example:25'"]),
    ("pools: {farm: {servers: {a: {address: 10.0.0.1:25, wieght: 1}}}}\n" + LISTENER,
     ["f.yaml:1:52: pools.farm.servers.a.wieght: unknown key; did you mean `weight`?"]),
    ("pools: {farm: {servers: {a: {address: 10.0.0.1:25, weight: 1001}}}}\n" + LISTENER,
     ["f.yaml:1:60: pools.farm.servers.a.weight: must be at most 1000, not 1001"]),
    ("pools: {farm: {servers: {a: {address: 10.0.0.1:25, weight: 0100}}}}\n" + LISTENER,
     ["f.yaml:1:60: pools.farm.servers.a.weight: must be a whole number, not '0100'"]),
    ("pools: {farm: {servers: {a: {address: 10.0.0.1:25, weight: true}}}}\n" + LISTENER,
     ["f.yaml:1:60: pools.farm.servers.a.weight: must be a whole number, not true"]),
    ("pools: {farm: {check: {rise: 0}, servers: {a: 10.0.0.1:25}}}\n" + LISTENER,
     ["f.yaml:1:30: pools.farm.check.rise: must be at least 1, not 0"]),
    ("pools: {farm: {check: {every: 10ms}, servers: {a: 10.0.0.1:25}}}\n" + LISTENER,
     ["f.yaml:1:31: pools.farm.check.every: must be from 100ms to 1h, not 10ms"]),
    # choosing and admitting
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, deny: 10.0.0.0/8}}\n",
     ['f.yaml:2:58: listeners.mx.deny: must be a list, as in ["one", "another"], not \'10.0.0.0/8\'']),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, deny: [10.0.0.1/8, 1.5]}}\n",
     ["f.yaml:2:59: listeners.mx.deny.0: 10.0.0.1/8 has bits behind its length; did you mean"
      " 10.0.0.0/8, or 10.0.0.1 alone?",
      "f.yaml:2:71: listeners.mx.deny.1: must be a prefix or the absolute path of a file, not 1.5"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, allow: [10.0.0.0/8], deny: [10.0.0.0/8]}}\n",
     ["f.yaml:2:80: listeners.mx.deny.0: 10.0.0.0/8 is in `allow` as well"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, refuse: rest}}\n",
     ["f.yaml:2:60: listeners.mx.refuse: must be one of reply, reset, drop; not 'rest'; did you mean"
      " `reset`?"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, limits: {per_source: {rate: 100}}}}\n",
     ["f.yaml:2:80: listeners.mx.limits.per_source.rate: must be a rate such as 5/s, 100/min or"
      " 1000/h (from 1 to 100000), not 100"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, limits: {per_source: {session: 5}}}}\n",
     ["f.yaml:2:74: listeners.mx.limits.per_source.session: unknown key; did you mean `sessions`?"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, limits: {per_source: {sessions: }}}}\n",
     ["f.yaml:2:84: listeners.mx.limits.per_source.sessions: has no value"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, limits: {per_source: {sessions: 5,"
     " prefix4: 33, burst: 5}}}}\n",
     ["f.yaml:2:96: listeners.mx.limits.per_source.prefix4: must be at most 32, not 33"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, limits: {per_source: {sessions: 5, burst: 5}}}}\n",
     ["f.yaml:2:94: listeners.mx.limits.per_source.burst: there is no `rate` that it belongs to"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, limits: {dry_run: [acces, {}]}}}\n",
     ["f.yaml:2:70: listeners.mx.limits.dry_run: must be true, false or a list of access,"
      " source_sessions, source_rate, sessions, not 'acces'"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, limits: {dry_run: access}}}\n",
     ["f.yaml:2:70: listeners.mx.limits.dry_run: must be a list: write [access]"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, limits: {dry_run: 1}}}\n",
     ["f.yaml:2:70: listeners.mx.limits.dry_run: must be true, false or a list of access,"
      " source_sessions, source_rate, sessions"]),
    ("pools: {farm: {balance: source, servers: {a: 10.0.0.1:25}}}\n" + LISTENER,
     ["f.yaml:1:25: pools.farm.balance: must be one of least_conn, round_robin, random_two, source_hash,"
      " maglev, least_load; not 'source'; did you mean `source_hash`?"]),
    ("pools: {farm: {hash_key: {seed: 7}, servers: {a: 10.0.0.1:25}}}\n" + LISTENER,
     ["f.yaml:1:33: pools.farm.hash_key.seed: must be text, not 7"]),
    (f"pools: {{farm: {{hash_key: {{seed: {'x' * 65}}}, servers: {{a: 10.0.0.1:25}}}}}}\n" + LISTENER,
     ["f.yaml:1:33: pools.farm.hash_key.seed: must have at most 64 characters"]),
    ("pools: {farm: {overflow: [fram, farm, fram], servers: {a: 10.0.0.1:25}}}\n" + LISTENER,
     ["f.yaml:1:27: pools.farm.overflow.0: there is no pool `fram`; did you mean `farm`?",
      "f.yaml:1:33: pools.farm.overflow.1: sessions of `farm` would come back to it: farm -> farm;"
      " leave one of these out",
      "f.yaml:1:39: pools.farm.overflow.2: there is no pool `fram`; did you mean `farm`?"]),
    ("pools:\n"
     "  farm: {overflow: [b, b], servers: {a: 10.0.0.1:25}}\n"
     "  b: {overflow: [c], servers: {a: 10.0.0.2:25}}\n"
     "  c: {overflow: [farm], servers: {a: 10.0.0.3:25}}\n" + LISTENER,
     ["f.yaml:2:21: pools.farm.overflow.0: sessions of `farm` would come back to it: farm -> b -> c"
      " -> farm; leave one of these out",
      "f.yaml:2:24: pools.farm.overflow.1: `b` is there twice",
      "f.yaml:3:18: pools.b.overflow.0: sessions of `b` would come back to it: b -> c -> farm -> b;"
      " leave one of these out",
      "f.yaml:4:18: pools.c.overflow.0: sessions of `c` would come back to it: c -> farm -> b -> c;"
      " leave one of these out"]),
    ("pools: {farm: {sticky: yes, servers: {a: 10.0.0.1:25}}}\n" + LISTENER,
     ["f.yaml:1:24: pools.farm.sticky: must be a mapping (`key: value` lines), or `none`, not 'yes'"]),
    ("pools: {farm: {outlier: off, queue: 5, servers: {a: 10.0.0.1:25}}}\n" + LISTENER,
     ["f.yaml:1:25: pools.farm.outlier: must be a mapping (`key: value` lines), or `none`, not 'off'",
      "f.yaml:1:37: pools.farm.queue: must be a mapping (`key: value` lines), or `none`, not 5"]),
    ("pools: {farm: {sticky: {tll: 1h, by: sender}, servers: {a: 10.0.0.1:25}}}\n" + LISTENER,
     ["f.yaml:1:25: pools.farm.sticky.tll: unknown key; did you mean `ttl`?",
      "f.yaml:1:38: pools.farm.sticky.by: must be one of source; not 'sender'"]),
    ("pools: {farm: {sticky: {ttl: 31d}, slow_start: 2h, servers: {a: 10.0.0.1:25}}}\n" + LISTENER,
     ["f.yaml:1:30: pools.farm.sticky.ttl: must be from 1s to 30d, not 31d",
      "f.yaml:1:48: pools.farm.slow_start: must be from 0s to 1h, not 2h"]),
    ("pools: {farm: {panic: 50, servers: {a: 10.0.0.1:25}}}\n" + LISTENER,
     ["f.yaml:1:23: pools.farm.panic: needs its unit: write 50%"]),
    ("pools: {farm: {outlier: {consecutive: 1, max_ejected: 0%, base: 2h}, servers: {a: 10.0.0.1:25}}}"
     "\n" + LISTENER,
     ["f.yaml:1:39: pools.farm.outlier.consecutive: must be at least 2, not 1",
      "f.yaml:1:55: pools.farm.outlier.max_ejected: must be 1% or more; for never write"
      " `outlier: none`",
      "f.yaml:1:65: pools.farm.outlier.base: must be from 1s to 1h, not 2h"]),
    ("pools: {farm: {queue: {wait: 5m, length: 0}, servers: {a: 10.0.0.1:25}}}\n" + LISTENER,
     ["f.yaml:1:30: pools.farm.queue.wait: must be from 100ms to 4m, not 5m",
      "f.yaml:1:42: pools.farm.queue.length: must be at least 1, not 0"]),
    ("pools: {farm: {servers: {a: {address: 10.0.0.1:25, backup: true}}}}\n" + LISTENER,
     ["f.yaml:1:25: pools.farm.servers: every server is a backup: one must be there that they stand in"
      " for"]),
    # between the parts
    ("pools: {farm: {servers: {a: 192.0.2.1:25}}}\n" + LISTENER,
     ["f.yaml:1:29: pools.farm.servers.a.address: 192.0.2.1:25 is this process itself: listener `mx`"
      " binds 192.0.2.1:25 and sends its sessions to this pool (a loop)"]),
    ("pools: {farm: {servers: {a: 127.0.0.1:25}}}\n"
     "listeners: {mx: {bind: [0.0.0.0:25], pool: farm}}\n",
     ["f.yaml:1:29: pools.farm.servers.a.address: 127.0.0.1:25 is this process itself: listener `mx`"
      " binds 0.0.0.0:25 and sends its sessions to this pool (a loop)"]),
    ("pools: {p: {overflow: [q], servers: {x: 10.0.0.1:25}}, q: {servers: {y: 192.0.2.1:25}}}\n"
     "listeners: {a: {bind: [192.0.2.1:25], pool: p}}\n",
     ["f.yaml:1:73: pools.q.servers.y.address: 192.0.2.1:25 is this process itself: listener `a`"
      " binds 192.0.2.1:25 and sends its sessions to pool `p`, whose servers lead back to this pool"
      " (a loop)"]),
    ("pools: {p: {servers: {x: 127.0.0.1:26}}, q: {servers: {y: 192.0.2.1:25}}}\n"
     "listeners: {a: {bind: [192.0.2.1:25], pool: p}, b: {bind: [0.0.0.0:26], pool: q}}\n",
     ["f.yaml:1:26: pools.p.servers.x.address: 127.0.0.1:26 is this process itself: listener `b`"
      " binds 0.0.0.0:26 and sends its sessions to pool `q`, whose servers lead back to this pool"
      " (a loop)",
      "f.yaml:1:59: pools.q.servers.y.address: 192.0.2.1:25 is this process itself: listener `a`"
      " binds 192.0.2.1:25 and sends its sessions to pool `p`, whose servers lead back to this pool"
      " (a loop)"]),
    # An address of its own by another listener's word.
    ("pools: {p: {servers: {x: 192.0.2.1:26}}}\n"
     "listeners: {a: {bind: [192.0.2.1:25], pool: p}, b: {bind: [0.0.0.0:26], pool: p}}\n",
     ["f.yaml:1:26: pools.p.servers.x.address: 192.0.2.1:26 is this process itself: listener `b`"
      " binds 0.0.0.0:26 and sends its sessions to this pool (a loop)"]),
    (HEAD + "listeners:\n  a: {bind: [192.0.2.1:25], pool: farm}\n"
     "  b: {bind: [192.0.2.1:25], pool: farm}\n",
     ["f.yaml:4:14: listeners.b.bind.0: 192.0.2.1:25 is bound by listener `a` already"]),
    ("pools: {farm: {check: {kind: ehlo}, servers: {a: 10.0.0.1:465}}}\n"
     "listeners: {mx: {bind: [192.0.2.1:465], pool: farm, protocol: smtps},\n"
     "  in: {bind: [192.0.2.1:25], pool: farm}}\n",
     ["f.yaml:1:30: pools.farm.check.kind: `ehlo` can't check this pool: listener `mx` is smtps,"
      " where TLS comes first, and others of its listeners aren't; use `tcp`, or a pool for each"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, timeouts: {idle_server: 5m}}}\n",
     ["f.yaml:2:76: listeners.mx.timeouts.idle_server: must be at least 600s: RFC 5321 gives a"
      " server 10 min to answer the final dot, and a session cut before that is sent again"
      " (`i_accept_duplicates: true` allows it)"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, timeouts: {idle_client: 1m}}}\n",
     ["f.yaml:2:76: listeners.mx.timeouts.idle_client: must be at least 300s: the server's own limit"
      " (Postfix: 300s) has to come first, so that the client gets its 421"
      " (`i_accept_duplicates: true` allows it)"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, timeouts: {connect: 1m}}}\n",
     ["f.yaml:2:72: listeners.mx.timeouts.connect: `accept_total` (45s) must be longer than"
      " `connect` (1m), or no second server is ever tried"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm, timeouts: {accept_total: 15s}}}\n",
     ["f.yaml:2:77: listeners.mx.timeouts.accept_total: `accept_total` (15s) must be longer than"
      " `greeting` (15s), or no second server is ever tried"]),
    (HEAD + "listeners: {mx: {bind: [192.0.2.1:25], pool: farm,"
     " timeouts: {i_accept_duplicates: yes}}}\n",
     ["f.yaml:2:84: listeners.mx.timeouts.i_accept_duplicates: must be true or false, not 'yes'"]),
]  # fmt: skip
