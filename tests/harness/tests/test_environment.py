"""Tests see the same environment on every machine."""

import os

from harness.machine.environment import same_everywhere


def test_what_one_machine_has_is_taken_out() -> None:
    environment = {"PATH": "/bin", "HOME": "/root", "CI": "1", "MAILWEIR_LONG": "1"}
    kept = dict(environment)
    environment |= dict.fromkeys(
        ["PYTHONUNBUFFERED", "PYTHONPATH", "LC_ALL", "TZ", "TERM", "http_proxy", "NO_PROXY"], "1"
    )
    same_everywhere(environment)
    assert environment == kept


def test_it_was_taken_out_here() -> None:
    before = dict(os.environ)
    same_everywhere(os.environ)
    assert dict(os.environ) == before
