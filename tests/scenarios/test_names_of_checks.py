"""What checks call themselves is taken by real servers that are strict about names."""

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.mailweir.run import Mailweir, Tree, configuration
from harness.programs.exim import LIBRARIES, exim
from harness.programs.postfix import postfix
from harness.waiting import until
from scenarios.conftest import Start

_POSTFIX = {
    "smtpd_helo_required": "yes",
    "smtpd_helo_restrictions": "reject_non_fqdn_helo_hostname, reject_invalid_helo_hostname,"
    " reject_unknown_helo_hostname",
    # At EHLO, not at the first recipient.
    "smtpd_delay_reject": "no",
}
# A name or an address has to be that of the client.
_EXIM = "helo_verify_hosts = *"
# No name server knows it, whatever it answers meanwhile.
_UNKNOWN = "no-such-name.invalid"

Counted = Callable[[str], None]


@pytest.mark.needs("postfix", "openssl")
def test_postfix(tmp_path: Path, start: Start, counted: Counted) -> None:
    with postfix(tmp_path, settings=_POSTFIX) as server:
        checks = _checked(tmp_path, start, server.address)
    assert checks["by_default"]["ok"], checks["by_default"]
    assert (checks["named"]["ok"], checks["named"]["step"]) == (False, "ehlo")
    counted(f"Postfix to {_UNKNOWN}: {checks['named']['detail']}")


@pytest.mark.needs("postfix", *LIBRARIES)
def test_exim(tmp_path: Path, start: Start, counted: Counted) -> None:
    with exim() as program, program.serving("strict", _EXIM) as address:
        checks = _checked(tmp_path, start, address)
    assert checks["by_default"]["ok"], checks["by_default"]
    assert (checks["named"]["ok"], checks["named"]["step"]) == (False, "ehlo")
    counted(f"Exim to {_UNKNOWN}: {checks['named']['detail']}")


def _checked(directory: Path, start: Start, address: str) -> dict[str, Tree]:
    """What came of checks by default, and of those by a name that nobody knows."""
    config = configuration(directory, {"by_default": address})
    config["pools"]["named"] = {"servers": {"named": address}, "check": {"helo": _UNKNOWN}}
    config["listeners"]["second"] = {"bind": ["127.0.0.1:0"], "pool": "named"}
    balancer = start(config)
    return until(lambda: _checks(balancer), "the first checks")


def _checks(balancer: Mailweir) -> dict[str, Tree]:
    """By the servers' names, once there are all."""
    found = {name: row["check"] for name, row in balancer.servers().items()}
    return found if all(found.values()) else {}
