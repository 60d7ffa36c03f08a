"""The routes by which operators change things; on the UNIX socket alone. Built by `routes`."""

import json
from dataclasses import asdict

import structlog
from aiohttp import web

from mailweir.admin.access import Access
from mailweir.admin.balancer import Balancer, Change
from mailweir.config.units import parse_duration
from mailweir.errors import UnknownError
from mailweir.operator import Speaker
from mailweir.spec import ServerKey
from mailweir.state.overrides import parse_weight

_OF_SERVER = "/api/v1/servers/{pool}/{server}/{word:drain|maint|ready|weight|own-weight}"
_OF_LISTENER = "/api/v1/listeners/{listener}/{word:pause|resume}"
_OF_NODE = "/api/v1/{word:pause|resume}"

_log = structlog.get_logger("mailweir")


class _Operating:
    def __init__(self, balancer: Balancer, access: Access) -> None:
        self._balancer = balancer
        self._access = access

    async def server(self, request: web.Request) -> web.Response:
        key = ServerKey(request.match_info["pool"], request.match_info["server"])
        word = request.match_info["word"]
        speaker = await self._speaker(request)
        weight = _weight(request) if word == "weight" else ""
        changes: dict[str, Change] = {
            "drain": lambda to, config: to.set_state(key, "drain", speaker, config),
            "maint": lambda to, config: to.set_state(key, "maint", speaker, config),
            "ready": lambda to, config: to.ready(key, config),
            "weight": lambda to, config: to.set_weight(key, weight, speaker, config),
            "own-weight": lambda to, config: to.reset_weight(key, config),
        }
        what = " ".join(filter(None, (word, str(key), weight)))
        return await self._change(changes[word], what, speaker)

    async def listener(self, request: web.Request) -> web.Response:
        # None is the node: all of them.
        listener, word = request.match_info.get("listener"), request.match_info["word"]
        speaker = await self._speaker(request)
        changes: dict[str, Change] = {
            "pause": lambda to, config: to.pause(listener, speaker, config),
            "resume": lambda to, config: to.resume(listener, config),
        }
        return await self._change(changes[word], f"{word} {listener or 'the node'}", speaker)

    async def kill(self, request: web.Request) -> web.Response:
        wanted = request.match_info["session"]
        if not self._balancer.kill(wanted):
            return web.json_response({"error": f"no session {wanted} lives"}, status=404)
        _log.info("operator", change=f"kill {wanted}", by=await self._access.name_at(request))
        return web.json_response({"killed": wanted})

    async def reload(self, request: web.Request) -> web.Response:
        _log.info("operator", change="reload", by=await self._access.name_at(request))
        outcome = await self._balancer.reload()
        return web.json_response(asdict(outcome), status=200 if outcome.ok else 422)

    async def _change(self, change: Change, what: str, speaker: Speaker) -> web.Response:
        try:
            problem = await self._balancer.operate(change, what=what, by=speaker.name)
        except UnknownError as error:
            return web.json_response({"error": str(error)}, status=404)
        return web.json_response({"what": what, "by": speaker.name, "problem": problem})

    async def _speaker(self, request: web.Request) -> Speaker:
        """Who asks, and for how long it is to count. Raises HTTPBadRequest."""
        seconds = _seconds(request)
        return Speaker(await self._access.name_at(request), seconds)


def add_operating(app: web.Application, balancer: Balancer, access: Access) -> None:
    """Let `app` change servers, listeners and sessions, and reload."""
    operating = _Operating(balancer, access)
    app.router.add_post(_OF_SERVER, operating.server)
    app.router.add_post(_OF_LISTENER, operating.listener)
    app.router.add_post(_OF_NODE, operating.listener)
    app.router.add_post("/api/v1/sessions/{session}/kill", operating.kill)
    app.router.add_post("/api/v1/reload", operating.reload)


def _seconds(request: web.Request) -> float | None:
    text = request.query.get("for")
    try:
        seconds = None if text is None else parse_duration(text)
    except ValueError as error:
        raise _bad(f"for: {error}") from None
    if seconds is not None and seconds <= 0:
        raise _bad("for: must be longer than nothing")
    return seconds


def _weight(request: web.Request) -> str:
    try:
        return parse_weight(request.query.get("weight", ""))
    except ValueError as error:
        raise _bad(f"weight: {error}") from None


def _bad(message: str) -> web.HTTPBadRequest:
    body = json.dumps({"error": message})
    return web.HTTPBadRequest(text=body, content_type="application/json")
