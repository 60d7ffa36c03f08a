"""Sessions that went well are recorded so, whatever sends them: in plain text as `client_quit`,
inside TLS as `tls_closed`, with mails of all sizes, on the relay and on the kernel path.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.mailweir.kernel_rig import PORT, Rig, kernel_rig, rig_configuration
from harness.networks.row import LISTENER, SERVER, row
from harness.programs.exim import LIBRARIES
from harness.programs.postfix import Postfix, postfix
from harness.scale import count
from harness.waiting import LIMIT, until
from scenarios.real_senders import How, Send, exim_sends, msmtp, postfix_sends, swaks

_SESSIONS = count(3, 1000)  # of each sender, in each way
_LARGER = count(1, 10)  # the same of mails that are larger
_SIZES = (300 * 1024, count(2, 20) * 1024 * 1024)
_WRAPPED_PORT = 4650
_SERVICES = [
    f"{SERVER}:{PORT} inet n - n - - smtpd",
    f"{SERVER}:{_WRAPPED_PORT} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes",
    "discard unix - - n - - discard",
]
# All come from one address, and what is taken needs no room.
_SETTINGS = {
    "inet_interfaces": SERVER,
    "smtpd_peername_lookup": "no",
    "smtpd_client_connection_count_limit": "0",
    "virtual_transport": "discard",
}
_ADDRESSES = {
    How.PLAIN: (LISTENER, PORT),
    How.STARTTLS: (LISTENER, PORT),
    How.SMTPS: (LISTENER, _WRAPPED_PORT),
}
_SENDERS = {"swaks": swaks, "msmtp": msmtp, "postfix": postfix_sends, "exim": exim_sends}
# The kernel path has no sessions where TLS comes first.
_PATHS = {
    "relay": ({"copy", "splice"}, tuple(How)),
    "kernel": ({"kernel"}, (How.PLAIN, How.STARTTLS)),
}

pytestmark = pytest.mark.needs("postfix", "openssl", "iproute2", "nftables")


@dataclass(frozen=True)
class _Before:
    """mailweir before a real Postfix."""

    rig: Rig
    server: Postfix
    forwarding: str


@pytest.fixture(
    scope="module",
    params=["relay", pytest.param("kernel", marks=pytest.mark.needs("clang"))],
)
def before(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[_Before]:
    directory = tmp_path_factory.mktemp(request.param)
    config = rig_configuration(directory, forwarding=request.param)
    config["listeners"]["wrapped"] = {
        "bind": [f"{LISTENER}:{_WRAPPED_PORT}"],
        "protocol": "smtps",
        "pool": "wrapped",
    }
    servers = {"b": {"address": f"{SERVER}:{_WRAPPED_PORT}", "proxy": "off"}}
    config["pools"]["wrapped"] = {"servers": servers, "check": {"kind": "tcp", "every": "1h"}}
    with (
        row() as networks,
        postfix(
            directory, services=_SERVICES, settings=_SETTINGS, before=networks.before("s")
        ) as server,
        kernel_rig(networks, directory, config) as rig,
    ):
        until(lambda: rig.balancer.server_is("b", "up"), "the other server to be up")
        yield _Before(rig, server, request.param)


@pytest.mark.needs("swaks", "libnet-ssleay-perl", "msmtp", *LIBRARIES)
@pytest.mark.parametrize("sender", _SENDERS)
def test_ends_in_order_are_told_as_such(
    tmp_path: Path, before: _Before, counted: Callable[[str], None], sender: str
) -> None:
    beginning = before.rig.networks.before("c")
    with _SENDERS[sender](tmp_path, _ADDRESSES, beginning) as send:
        for how in _PATHS[before.forwarding][1]:
            _all_end(before, send, how, 1024, _SESSIONS, counted)
            for size in _SIZES:
                _all_end(before, send, how, size, _LARGER, counted)


def _all_end(
    before: _Before,
    send: Send,
    how: How,
    size: int,
    number: int,
    counted: Callable[[str], None],
) -> None:
    """So many sessions, of which 99 of 100 are to end in order."""
    balancer = before.rig.balancer
    earlier, taken = len(balancer.session_log()), before.server.log.count("status=sent")
    limit = LIMIT + number / 5
    send(how, size, number)
    until(lambda: len(balancer.session_log()) >= earlier + number, "all in the log", limit=limit)
    lines = balancer.session_log()[earlier:]
    ends = Counter(f"{line['end_reason']} by {line['end_by']}" for line in lines)
    paths = Counter(line["path"] for line in lines)
    counted(f"{how.value}, {size} bytes: {dict(ends)}, {dict(paths)}")
    assert paths.keys() <= _PATHS[before.forwarding][0]
    word = "client_quit" if how is How.PLAIN else "tls_closed"
    assert sum(line["end_reason"] == word for line in lines) >= 0.99 * number
    until(
        lambda: before.server.log.count("status=sent") == taken + number, "all taken", limit=limit
    )
    assert len(balancer.session_log()) == earlier + number
