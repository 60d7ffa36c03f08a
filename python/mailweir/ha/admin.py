"""What `mailweir ha` answers: at its socket to commands, at its HTTP address to Prometheus.

Roles, bounds and refusals are those of `mailweir run` (`mailweir.admin`). Opened by `agent`.
"""

from typing import Protocol

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CollectorRegistry, ProcessCollector

from mailweir.admin import exposition
from mailweir.admin.access import Access
from mailweir.admin.exposition import Table
from mailweir.admin.following import add_following
from mailweir.admin.guard import Handler, Hosts
from mailweir.admin.process_faults import FAULTS
from mailweir.admin.server import AdminServer, Answers
from mailweir.config.load import Loaded
from mailweir.faults import Faults
from mailweir.ha import telling
from mailweir.ha.clock import now
from mailweir.ha.links import Links
from mailweir.ha.machine.facts import Command
from mailweir.ha.machine.inputs import Machine
from mailweir.ha.pair_metrics import pair_metrics
from mailweir.journal import Journal

_log = structlog.get_logger("mailweir")


class AskedNode(Protocol):
    """What is asked and told: `agent`'s Agent."""

    @property
    def machine(self) -> Machine: ...
    @property
    def links(self) -> Links: ...
    @property
    def not_kept(self) -> str: ...
    async def command(self, command: Command, *, force: bool = False) -> str: ...


class HaAdmin:
    """The two sites while they are open."""

    def __init__(self, node: AskedNode, loaded: Loaded, journal: Journal, *, hostname: str) -> None:
        ha = loaded.config.ha
        if ha is None:
            raise ValueError("no pair")
        self._node = node
        self._journal = journal
        hosts = Hosts(hostname, loaded.config.admin.hosts)
        faults = Faults()
        self._server = AdminServer(
            ha.socket, ha.http, loaded.roles, hosts, part="ha", faults=faults
        )
        self._registry = CollectorRegistry()
        self._registry.register(Table([FAULTS], lambda: faults))

    async def open(self) -> None:
        """Bind and answer. Raises StartError."""
        ProcessCollector(registry=self._registry)
        self._registry.register(pair_metrics(self._node.machine.known, self._node.links))
        await self._server.open(self.answers, self._registry)

    async def take(self, loaded: Loaded) -> None:
        """Let its roles and names count, for those who are connected too. Called at a reload."""
        await self._server.take(loaded.roles, loaded.config.admin.hosts)

    async def close(self) -> None:
        """Stop answering."""
        await self._server.close()

    @property
    def answers(self) -> Answers:
        """The applications for the UNIX socket and for TCP."""
        return self._read_write, self._read_only

    def _read_only(self, guard: Middleware) -> web.Application:
        app = web.Application(middlewares=[guard])
        self._add_reading(app)
        return app

    def _read_write(self, access: Access, guard: Middleware) -> web.Application:
        app = self._read_only(guard)
        add_following(app, self._journal)
        for command in (Command.SWITCH, Command.MAINT, Command.READY):
            app.router.add_post(f"/api/v1/{command}", self._obeying(command, access))
        return app

    def _obeying(self, command: Command, access: Access) -> Handler:
        async def obey(request: web.Request) -> web.Response:
            """An operator's word for this node; 409 with the reason where it is refused. `force=1`
            has the other node be active where it is worse.
            """
            speaker, force = await access.speaker_at(request), request.query.get("force") == "1"
            what = f"{command} --force" if force else str(command)
            _log.info("operator", change=what, by=str(speaker))
            if refusal := await self._node.command(command, force=force):
                return web.json_response({"error": refusal}, status=409)
            told = telling.explain(self._node.machine.known, now())
            return web.json_response({**told, "problem": self._node.not_kept})

        return obey

    def _add_reading(self, app: web.Application) -> None:
        async def show_status(_: web.Request) -> web.Response:
            """Both nodes, the links between them, and what is wrong."""
            return web.json_response(telling.status(self._node.machine.known, now()))

        async def show_explanation(_: web.Request) -> web.Response:
            """Why this node is what it is."""
            return web.json_response(telling.explain(self._node.machine.known, now()))

        async def metrics(_: web.Request) -> web.Response:
            """Metrics of the pair, for Prometheus."""
            return web.Response(
                body=exposition.encode(self._registry),
                headers={"Content-Type": exposition.CONTENT_TYPE},
            )

        async def healthz(_: web.Request) -> web.Response:
            """200 while the process lives."""
            return web.Response(text="alive\n")

        app.router.add_get("/api/v1/status", show_status)
        app.router.add_get("/api/v1/explain", show_explanation)
        app.router.add_get("/metrics", metrics)
        app.router.add_get("/healthz", healthz)
