"""Who gets through to the routes: roles on the UNIX socket, reading alone on TCP. Built by
`server`.

On both, a page in somebody's browser is kept out. It reaches TCP by itself, with a name of
its own that is made to point at us (Host), or across (Origin). The UNIX socket it reaches
where an operator has a proxy in front of it, `ssh -L` say: all that comes that way has the
operator's role, so that it counts there all the more.
"""

from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from mailweir.admin.access import Access
from mailweir.admin.refusals import Refusals, Why
from mailweir.config.roles import Role
from mailweir.faults import FaultPart, Faults

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_READING = ("GET", "HEAD")
# In bytes. No route reads one yet; more than a list of addresses isn't going to be sent.
_MOST_BODY = 64 * 1024
_UNKNOWN_HOST = (
    "this name isn't answered to; use localhost, the host's name or its IP address, or write the"
    " name into `admin.hosts` of the configuration"
)


class Hosts:
    """The names that are answered to. No name can be bent by DNS to point at us that isn't ours."""

    def __init__(self, hostname: str, others: Iterable[str]) -> None:
        self._always = frozenset(("localhost", hostname.lower()))
        self.take(others)

    def take(self, others: Iterable[str]) -> None:
        """Let these count beside `localhost` and the host's own from here on."""
        self._names = self._always | {name.lower() for name in others}

    def has(self, host: str) -> bool:
        """Whether a Host header has one of them, or an address."""
        name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else ""
        name = name or host.partition(":")[0]
        # A name may be written with the root's dot.
        if name.lower().removesuffix(".") in self._names:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True


def at_socket(access: Access, refusals: Refusals, faults: Faults, hosts: Hosts) -> Middleware:
    """For the UNIX socket."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        role = access.role_at(request.get_extra_info("socket"))
        if role is Role.NONE or (role is Role.READ and request.method not in _READING):
            who = await access.name_at(request)
            why = Why.NO_ROLE if role is Role.NONE else Why.READER
            refusals.note(why, who)
            return web.json_response({"error": _what_to_do(role, who)}, status=403)
        if refused := _refused(request, hosts):
            why, status, error = refused
            refusals.note(why, await access.name_at(request))
            return web.json_response({"error": error}, status=status)
        return await _answered(request, handler, faults)

    return guard


def on_tcp(
    refusals: Refusals, faults: Faults, hosts: Hosts, *, name: str = "admin.http"
) -> Middleware:
    """For TCP, where nobody is known and nothing can be changed."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        refused = _refused(request, hosts)
        if request.method not in _READING:
            refused = Why.METHOD, 403, "this address is read-only; use the admin socket"
        if refused:
            why, status, error = refused
            refusals.note(why, name)
            return web.Response(status=status, text=f"{error}\n")
        return await _answered(request, handler, faults)

    return guard


async def _answered(request: web.Request, handler: Handler, faults: Faults) -> web.StreamResponse:
    try:
        return await handler(request)
    except (web.HTTPException, ConnectionError):
        raise
    except Exception as error:
        faults.note(FaultPart.ANSWER, error)
        return web.json_response(
            {"error": f"internal error: {error!r}; please report it"}, status=500
        )


def _what_to_do(role: Role, who: str) -> str:
    if role is Role.READ:
        return (
            f"you are {who} and may only read; to change something, be under `admin.operators` in"
            " the configuration, by name or by a group"
        )
    return (
        f"you are {who}, who has no role here; be under `admin.readers` or `admin.operators` in the"
        " configuration, by name or by a group, and have it reloaded"
    )


def _refused(request: web.Request, hosts: Hosts) -> tuple[Why, int, str] | None:
    """Why, with which status and words; None where nothing is against it."""
    # As it came: what aiohttp says otherwise is our own address. Without one it is no browser.
    host = request.headers.get("Host")
    if host is not None and not hosts.has(host):
        return Why.HOST, 403, _UNKNOWN_HOST
    origin = request.headers.get("Origin")
    if origin is not None and not _is_same(origin, host):
        return Why.ORIGIN, 403, "pages of another origin aren't answered"
    length = request.content_length
    if request.body_exists and (length is None or length > _MOST_BODY):
        return Why.BODY, 413, f"a body has a Content-Length of {_MOST_BODY} bytes at most"
    return None


def _is_same(origin: str, host: str | None) -> bool:
    """Whether a page came from where it now asks."""
    try:
        return host is not None and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
