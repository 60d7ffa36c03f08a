"""The probes, one file per kind (`web` has HTTP and HTTPS); `dial` is what they share, and
`dialogue` what those by SMTP do.

A probe is a coroutine that talks to a server and returns, or raises ProbeError with
the step that failed. The deadline is the caller's: it cancels.
"""
