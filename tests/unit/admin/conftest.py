"""A balancer's routes over loopback, as its admin socket and `admin.http` have them."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from mailweir.admin.access import Access
from mailweir.admin.guard import Hosts, at_socket, on_tcp
from mailweir.admin.refusals import Refusals
from mailweir.admin.routes import answers
from mailweir.config.roles import Roles
from mailweir.faults import Faults
from mailweir.journal import Journal
from unit.admin.situations import FakeBalancer

Client = TestClient[web.Request, web.Application]


@pytest.fixture
def balancer() -> FakeBalancer:
    return FakeBalancer()


@pytest.fixture
def journal() -> Journal:
    return Journal(3, now=1.0)


@pytest.fixture
async def writable(balancer: FakeBalancer, journal: Journal) -> AsyncIterator[Client]:
    registry, access = CollectorRegistry(), Access(Roles())
    guard = at_socket(access, Refusals(registry), Faults(), Hosts("lb1", ["lb1.example.com"]))
    read_write, _ = answers(balancer, registry, journal)
    async with TestClient(TestServer(read_write(access, guard))) as client:
        yield client


@pytest.fixture
async def readable(balancer: FakeBalancer) -> AsyncIterator[Client]:
    registry = CollectorRegistry()
    _, read_only = answers(balancer, registry, Journal())
    guard = on_tcp(Refusals(registry), Faults(), Hosts("lb1", ["lb1.example.com"]))
    async with TestClient(TestServer(read_only(guard))) as client:
        yield client


@pytest.fixture(params=["writable", "readable"])
def either(request: pytest.FixtureRequest) -> Client:
    client: Client = request.getfixturevalue(request.param)
    return client
