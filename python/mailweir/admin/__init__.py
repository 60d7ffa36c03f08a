"""Asking and telling the running process: HTTP on a UNIX socket and, read-only, on TCP.

`views` says what is shown, `routes` where, `metrics` for Prometheus, `pair` to the other node,
`server` binds; `door` says
how many get in and `guard` who is answered, by `access`; `client` and `text` are the command line's
side and use the standard library only.
"""
