"""Asking and telling the running process: HTTP on a UNIX socket and, read-only, on TCP.

In: `server` binds, `door` says how many get in, `guard` who is answered, by `access`; `routes` has
what can be asked and `operating` what can be changed, both of a `balancer`.
Out: `answers` for JSON, `page` for people, `metrics` for Prometheus, `node_health`, `ha_role` and
`digests` for the keeper of a pair's addresses. `client` and `text` are the command line's side and
use the standard library only.
"""
