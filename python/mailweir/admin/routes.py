"""The HTTP routes and who may use which. Opened by `server`.

Those that only look stand on the UNIX socket and on TCP. Those that change something, and
those that show clients' addresses, stand on the UNIX socket alone. `guard` is before them.
"""

from dataclasses import asdict
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CollectorRegistry

from mailweir.admin import page
from mailweir.admin.access import Access
from mailweir.admin.answers.explain import client_of, explain
from mailweir.admin.answers.refused import refused
from mailweir.admin.answers.servers import server, servers
from mailweir.admin.answers.sessions import session
from mailweir.admin.answers.status import status
from mailweir.admin.balancer import Balancer
from mailweir.admin.following import add_following
from mailweir.admin.operating import add_operating
from mailweir.admin.rates import Rates
from mailweir.admin.readiness import unready
from mailweir.admin.scraping import Scraping
from mailweir.admin.server import Answers
from mailweir.config.prefix import parse_prefix
from mailweir.config.whole import whole
from mailweir.errors import UnknownError
from mailweir.journal import Journal
from mailweir.situation import Situation
from mailweir.spec import ServerKey

_LIMIT_DIGITS = 9


def answers(balancer: Balancer, registry: CollectorRegistry, journal: Journal) -> Answers:
    """The applications for the UNIX socket and for TCP."""

    def read_write(access: Access, guard: Middleware) -> web.Application:
        app = reading(guard, shows_clients=True)
        add_operating(app, balancer, access)
        add_following(app, journal)
        _add_what_the_pair_asks(app, balancer)
        _add_reading_at_the_socket(app, balancer)
        return app

    scraping, rates = Scraping(registry, balancer), Rates()

    def reading(guard: Middleware, *, shows_clients: bool) -> web.Application:
        app = web.Application(middlewares=[guard])
        _add_reading(app, balancer, scraping, rates, shows_clients=shows_clients)
        _add_servers(app, balancer)
        return app

    return read_write, partial(reading, shows_clients=False)


def _add_reading_at_the_socket(app: web.Application, balancer: Balancer) -> None:
    """What has clients' addresses, or costs something."""

    async def show_sessions(request: web.Request) -> web.Response:
        """Live sessions of a `listener` or `server` (POOL/SERVER), of clients in a prefix
        (`client`), at most `limit` (100).
        """
        return _sessions(balancer, request)

    async def show_refused(request: web.Request) -> web.Response:
        """The sources that were refused most, at a `listener` or at all, at most `limit` (100)."""
        return _refused(balancer, request)

    async def show_explanation(request: web.Request) -> web.Response:
        """What would become of `client`, an IP address, that connected now, at `listener`."""
        try:
            client = client_of(request.query.get("client", ""))
        except ValueError as error:
            return web.json_response({"error": f"client: {error}"}, status=400)
        try:
            said = explain(balancer.situation(), client, request.query.get("listener"))
        except UnknownError as error:
            return web.json_response({"error": str(error)}, status=404)
        return web.json_response(said)

    async def show_config(_: web.Request) -> web.Response:
        """The configuration that runs, defaults included."""
        return web.json_response({"config": whole(balancer.situation().config)})

    async def show_difference(_: web.Request) -> web.Response:
        """What a reload would change: `changes`, `problems` and `warnings`."""
        return web.json_response(asdict(await balancer.difference()))

    app.router.add_get("/api/v1/config", show_config)
    app.router.add_get("/api/v1/config/diff", show_difference)
    app.router.add_get("/api/v1/sessions", show_sessions)
    app.router.add_get("/api/v1/refused", show_refused)
    app.router.add_get("/api/v1/explain", show_explanation)


def _add_what_the_pair_asks(app: web.Application, balancer: Balancer) -> None:
    async def show_digests(_: web.Request) -> web.Response:
        """What `mailweir ha` compares with the other node: the configuration, in digests of its
        keys.
        """
        return web.json_response(balancer.digests.parts())

    async def show_words(_: web.Request) -> web.Response:
        """What `mailweir ha` tells the other node: the words of operators."""
        return web.json_response(balancer.digests.words())

    app.router.add_get("/api/v1/digests", show_digests)
    app.router.add_get("/api/v1/words", show_words)


def _sessions(balancer: Balancer, request: web.Request) -> web.Response:
    pool, _, name = request.query.get("server", "").partition("/")
    try:
        client, limit = _client(request), _limit(request)
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=400)
    listener, server = request.query.get("listener"), ServerKey(pool, name) if pool else None
    found = balancer.plane.sessions(listener=listener, server=server, client=client, limit=limit)
    # What has left the configuration may have sessions still.
    if not found and (unknown := _unknown(balancer.situation(), listener, server)):
        return web.json_response({"error": unknown}, status=404)
    return web.json_response({"sessions": [session(one) for one in found]})


def _unknown(situation: Situation, listener: str | None, server: ServerKey | None) -> str:
    """Which of them isn't there; empty where both are."""
    known = situation.config.listeners
    if listener is not None and listener not in known:
        return f"there is no listener {listener}; there are {', '.join(known)}"
    if server is None:
        return ""
    members = (one.name for one in situation.members.get(server.pool, ()))
    return "" if server.server in members else f"there is no server {server}"


def _refused(balancer: Balancer, request: web.Request) -> web.Response:
    situation, listener = balancer.situation(), request.query.get("listener")
    known = situation.config.listeners
    if listener is not None and listener not in known:
        error = f"there is no listener {listener}; there are {', '.join(known)}"
        return web.json_response({"error": error}, status=404)
    try:
        limit = _limit(request)
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=400)
    found = balancer.plane.refused(listener=listener, limit=limit)
    return web.json_response({"sources": [refused(one, situation.now) for one in found]})


def _client(request: web.Request) -> str | None:
    """Where clients are to come from, a prefix; None is anywhere. Raises ValueError."""
    client = request.query.get("client")
    try:
        return None if client is None else parse_prefix(client)
    except ValueError as error:
        raise ValueError(f"client: {error}") from None


def _limit(request: web.Request) -> int:
    """How many are wanted at most. Raises ValueError."""
    limit = request.query.get("limit", "100")
    if not limit.isascii() or not limit.isdigit() or len(limit) > _LIMIT_DIGITS:
        raise ValueError(f"limit: {limit!r} isn't a number")
    return int(limit)


def _add_reading(
    app: web.Application,
    balancer: Balancer,
    scraping: Scraping,
    rates: Rates,
    *,
    shows_clients: bool,
) -> None:
    async def index(_: web.Request) -> web.Response:
        """The page with all servers, in HTML."""
        text = page.render(balancer.situation(), rates)
        return web.Response(text=text, content_type="text/html", headers=page.HEADERS)

    async def healthz(_: web.Request) -> web.Response:
        """200 while the process lives."""
        return web.Response(text="alive\n")

    async def readyz(_: web.Request) -> web.Response:
        """200 where new sessions find a server in every pool in use, else 503 with the reasons."""
        reasons = unready(balancer.situation())
        if reasons:
            return web.Response(status=503, text="".join(f"{reason}\n" for reason in reasons))
        return web.Response(text="ready\n")

    async def show_health(_: web.Request) -> web.Response:
        """What `mailweir ha` asks: whether this process can serve, and its sessions."""
        return web.json_response(asdict(balancer.health()))

    async def show_status(_: web.Request) -> web.Response:
        """How the process is: all that `mailweir status` shows. By HTTP `operator.words` is without
        what operators deny; how many prefixes that are is in `operator.denied`.
        """
        return web.json_response(status(balancer.situation(), shows_clients=shows_clients))

    app.router.add_get("/", index)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", scraping.answer)
    app.router.add_get("/api/v1/health", show_health)
    app.router.add_get("/api/v1/status", show_status)


def _add_servers(app: web.Application, balancer: Balancer) -> None:
    async def show_servers(_: web.Request) -> web.Response:
        """All servers with states, sessions and last checks."""
        return web.json_response({"servers": servers(balancer.situation())})

    async def show_server(request: web.Request) -> web.Response:
        """One server, with all its checks and their last ten results."""
        key = ServerKey(request.match_info["pool"], request.match_info["server"])
        try:
            return web.json_response(server(balancer.situation(), key))
        except UnknownError as error:
            return web.json_response({"error": str(error)}, status=404)

    async def server_page(request: web.Request) -> web.Response:
        """The page of one server, in HTML."""
        key = ServerKey(request.match_info["pool"], request.match_info["server"])
        try:
            text = page.render_server(balancer.situation(), key)
        except UnknownError as error:
            return web.Response(text=f"{error}\n", status=404)
        return web.Response(text=text, content_type="text/html", headers=page.HEADERS)

    app.router.add_get("/servers/{pool}/{server}", server_page)
    app.router.add_get("/api/v1/servers", show_servers)
    app.router.add_get("/api/v1/servers/{pool}/{server}", show_server)
