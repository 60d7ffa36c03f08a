"""The page of every route, out of the applications that answer (`mailweir.admin`, `mailweir.ha`).

What a route does its handler's docstring says.
"""

import re
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from typing import Any, NamedTuple, cast

from aiohttp import web
from prometheus_client import CollectorRegistry

from generator import markdown
from generator.markdown import code
from mailweir.admin import routes
from mailweir.admin.access import Access
from mailweir.admin.balancer import Balancer
from mailweir.admin.server import Answers
from mailweir.cli import manual
from mailweir.config.load import parse
from mailweir.ha.admin import AskedNode, HaAdmin
from mailweir.journal import Journal

_ABOUT = """\
What commands, scripts and Prometheus ask. `mailweir run` answers at its admin socket
(`admin.socket`) and, for reading alone, by HTTP at `admin.http`. `mailweir ha run` does the same at
`ha.socket` and `ha.http`. The commands with `--json` print the same answers."""
_EXAMPLE = """\
```
curl --unix-socket /run/mailweir/admin.sock http://localhost/api/v1/status
curl --unix-socket /run/mailweir/admin.sock -X POST 'http://localhost/api/v1/servers/farm/mx1/drain?for=2h'
```"""
_FORM = """\
Answers are JSON, but for pages, `/metrics`, `/healthz` and `/readyz`. A refusal has an `error` in
words, with status 400 for nonsense, 403 for a role that is missing, 404 for a name that isn't
there, and 409 for a state that is against it. Parameters stand behind the `?`. What changes
something is a POST without a body; who may do that is in [Rights](../rights.md)."""
_BOTH = "Everybody who reaches either may ask these; nothing here shows a client's address."
_SOCKET = "These show addresses of clients, or cost something."
_CHANGES = "These change something. The log names who asked."
_PAIR = "At `ha.socket`; those with GET, but for events, at `ha.http` as well."
# What parts of a path may be, where the route names the words.
_WORDS = re.compile(r"\(\?P<(\w+)>([a-z|-]+)\)")
_NAMES = re.compile(r"(?<=\{)\w+(?=\})")


class _Told(NamedTuple):
    method: str
    path: str
    about: str


def page() -> str:
    """As Markdown."""
    at_socket, by_http = _routes(_of_process())
    reading = [one for one in at_socket if one.method == "GET" and one not in by_http]
    changing = [one for one in at_socket if one.method != "GET"]
    of_pair, _ = _routes(_of_pair())
    return markdown.page(
        "API",
        _ABOUT,
        _EXAMPLE,
        markdown.paragraph(_FORM),
        markdown.section("Reading, at the socket and by HTTP", _BOTH),
        _list(by_http),
        markdown.section("Reading, at the socket alone", _SOCKET),
        _list(reading),
        markdown.section("Changing, at the socket alone", _CHANGES),
        _list(changing),
        markdown.section("The pair", _PAIR),
        _list(of_pair),
    )


def _of_process() -> Answers:
    """Nobody asks: the routes alone are looked at."""
    return routes.answers(cast(Balancer, None), CollectorRegistry(), Journal())


def _of_pair() -> Answers:
    loaded = parse(f"{manual.EXAMPLE}ha: {{mode: external}}\n", "pair.yaml")
    return HaAdmin(cast(AskedNode, None), loaded, Journal(), hostname="lb1").answers


def _routes(answers: Answers) -> tuple[list[_Told], list[_Told]]:
    read_write, read_only = answers
    return [*told(read_write(cast(Access, None), _pass))], [*told(read_only(_pass))]


@web.middleware
async def _pass(request: web.Request, handler: Any) -> web.StreamResponse:
    return await handler(request)  # type: ignore[no-any-return]


def told(app: web.Application) -> Iterator[_Told]:
    for route in app.router.routes():
        if route.method != "HEAD" and route.resource is not None:
            about = route.handler.__doc__
            path = _path(route.resource)
            if not about:
                raise ValueError(f"{path} needs a docstring at its handler that says what it does")
            yield _Told(route.method, path, cleandoc(about))


def _path(resource: web.AbstractResource) -> str:
    """As it is asked for; a choice of words as `drain|maint`."""
    pattern = resource.get_info().get("pattern")
    choices = dict(_WORDS.findall(pattern.pattern)) if pattern else {}
    path = resource.canonical
    for name, words in choices.items():
        path = path.replace(f"{{{name}}}", words)
    return _NAMES.sub(lambda name: name[0].upper(), path)


def _list(found: Iterable[_Told]) -> str:
    return "\n".join(
        markdown.item(f"{code(f'{one.method} {one.path}')}: {one.about}") for one in found
    )
