"""Whether somebody listens where clients come, as the kernel's own table says it."""

import socket
from ipaddress import ip_address
from pathlib import Path

import pytest

from mailweir.ha.kernel import queues
from mailweir.ha.kernel.queues import anybody_listens

_LOOPBACK = [ip_address("127.0.0.1"), ip_address("::1")]


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])  # noqa: S104
def test_a_socket_that_listens(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.bind((address, 0))
        port = int(one.getsockname()[1])
        assert not anybody_listens(_LOOPBACK, [port])
        one.listen()
        assert anybody_listens(_LOOPBACK, [port])
        assert not anybody_listens(_LOOPBACK, [port - 1])
        elsewhere = anybody_listens([ip_address("192.0.2.10")], [port])
        assert elsewhere is ip_address(address).is_unspecified
    assert not anybody_listens(_LOOPBACK, [port])


def test_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "_TABLES", (queues._TABLES[0], Path("/nowhere")))
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = int(one.getsockname()[1])
        assert anybody_listens(_LOOPBACK, [port])
    assert not anybody_listens(_LOOPBACK, [port])


def test_what_can_not_be_known_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "_TABLES", (Path("/nowhere"),))
    assert anybody_listens(_LOOPBACK, [25])
