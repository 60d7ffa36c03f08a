"""The probes, one file per kind; `dial` is what they share.

A probe is a coroutine that talks to a server and returns, or raises ProbeError with
the step that failed. The deadline is the caller's: it cancels.
"""
