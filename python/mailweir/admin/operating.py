"""The routes by which operators change things; on the UNIX socket alone. Built by `routes`."""

import json
from dataclasses import asdict, replace
from ipaddress import IPv4Network, IPv6Network, ip_network

import structlog
from aiohttp import web

from mailweir.admin.access import Access
from mailweir.admin.balancer import Balancer, Change
from mailweir.admin.readiness import why_nowhere
from mailweir.config.units import parse_duration
from mailweir.config.words import HaKeeper, HaRole
from mailweir.errors import BusyError, TooManyError, UnknownError
from mailweir.operator import Speaker
from mailweir.spec import ServerKey, ServerState
from mailweir.state.overrides import author, parse_denied, parse_weight, parse_why

_OF_SERVER = "/api/v1/servers/{pool}/{server}/{word:drain|maint|ready|weight|own-weight}"
_OF_LISTENER = "/api/v1/listeners/{listener}/{word:pause|resume}"
_OF_NODE = "/api/v1/{word:pause|resume}"

_OF_PAIR = f"/api/v1/ha/{{role:{'|'.join(HaRole)}}}"

_ALARMS_DIGITS = 4

_log = structlog.get_logger("mailweir")


class _Operating:
    def __init__(self, balancer: Balancer, access: Access) -> None:
        self._balancer = balancer
        self._access = access

    async def server(self, request: web.Request) -> web.Response:
        """An operator's word for a server. `for` is a time, as 2h; `weight` is that of `weight`."""
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
        answer = await self._change(changes[word], what, speaker)
        if word in ("drain", "maint", "weight"):
            problems = (answer["problem"], self._lacks(key.pool))
            answer["problem"] = "; ".join(filter(None, problems))
        return web.json_response(answer)

    async def listener(self, request: web.Request) -> web.Response:
        """Have a listener, or all of them, refuse new sessions, or take them again. `for` is a
        time.
        """
        # None is the node: all of them.
        listener, word = request.match_info.get("listener"), request.match_info["word"]
        speaker = await self._speaker(request)
        changes: dict[str, Change] = {
            "pause": lambda to, config: to.pause(listener, speaker, config),
            "resume": lambda to, config: to.resume(listener, config),
        }
        what = f"{word} {listener or 'the node'}"
        answer = await self._change(changes[word], what, speaker)
        if word == "resume":
            answer["problem"] = "; ".join(filter(None, (answer["problem"], self._paused(listener))))
        return web.json_response(answer)

    def _paused(self, listener: str | None) -> str:
        """What is paused still, where somebody took a pause back; empty where nothing is."""
        overrides = self._balancer.situation().overrides
        if overrides.node:
            return f"every listener is paused {author(overrides.node)}: `mailweir resume` ends that"
        others = [f"`mailweir resume {one}`" for one in overrides.paused if listener is None]
        return f"some listeners are paused by name: {', '.join(others)} ends that" if others else ""

    async def deny(self, request: web.Request) -> web.Response:
        """Have every listener refuse clients of a prefix. `for` is a time; `end=1` ends the
        sessions that they have.
        """
        prefix, ends = _prefix(request), _flag(request, "end")
        speaker = await self._speaker(request)
        answer = await self._change(
            lambda to, _: to.deny(prefix, speaker), f"deny {prefix}", speaker
        )
        ended = 0
        # Only now: whom it ends would come back before it counts.
        if ends:
            ended = self._balancer.plane.kill_from(prefix)
            what = f"end sessions from {prefix}"
            _log.info("operator", change=what, **speaker.said(), sessions=ended)
        return web.json_response({**answer, "prefix": prefix, "ended": ended})

    async def undeny(self, request: web.Request) -> web.Response:
        """Take that back."""
        prefix, speaker = _prefix(request), await self._speaker(request)
        answer = await self._change(lambda to, _: to.undeny(prefix), f"undeny {prefix}", speaker)
        denied = map(ip_network, self._balancer.situation().overrides.denied)
        if wider := [str(one) for one in denied if _has(one, ip_network(prefix))]:
            still = f"{', '.join(wider)} is denied still, and has it"
            answer["problem"] = "; ".join(filter(None, (answer["problem"], still)))
        return web.json_response({**answer, "prefix": prefix})

    async def kill(self, request: web.Request) -> web.Response:
        """End a session at once."""
        wanted = request.match_info["session"]
        if not self._balancer.plane.kill(wanted):
            return web.json_response({"error": f"no session {wanted} lives"}, status=404)
        _log.info(
            "operator", change=f"kill {wanted}", by=str(await self._access.speaker_at(request))
        )
        return web.json_response({"killed": wanted})

    async def reload(self, request: web.Request) -> web.Response:
        """Read the configuration again: 200 with what changed, or 422 with the problems."""
        _log.info("operator", change="reload", by=str(await self._access.speaker_at(request)))
        outcome = await self._balancer.reload()
        return web.json_response(asdict(outcome), status=200 if outcome.ok else 422)

    async def upgrade(self, request: web.Request) -> web.Response:
        """Have the program as it is installed now take over, and say how that went; 409 where the
        old process goes on.
        """
        _log.info("operator", change="upgrade", by=str(await self._access.speaker_at(request)))
        outcome = await self._balancer.upgrade()
        return web.json_response(asdict(outcome), status=200 if outcome.ok else 409)

    async def pair(self, request: web.Request) -> web.Response:
        """Tell which role this node has; `by` says who decides, `alarms` how many there are."""
        role, by = HaRole(request.match_info["role"]), _keeper(request)
        changed = self._balancer.role.tell(role, by, alarms=_alarms(request))
        return web.json_response({"role": role, "by": by, "changed": changed})

    def _lacks(self, pool: str) -> str:
        """That new sessions of a pool find no server that is up, and what comes of it; empty where
        they do.
        """
        situation = self._balancer.situation()
        pools = situation.config.pools
        overflow = pools[pool].overflow if pool in pools else []
        none = why_nowhere(pool, situation.members, overflow)
        if not none:
            return ""
        tried = any(
            server.state == ServerState.PANIC and server.weight > 0
            for one in (pool, *overflow)
            for server in situation.members.get(one, ())
        )
        what = (
            "servers that are down are tried" if tried else "clients are told to come later (421)"
        )
        return f"{none}; {what}"

    async def addresses_move(self, _: web.Request) -> web.Response:
        """The addresses are about to be the other node's: end what is left of the sessions."""
        return web.json_response({"lost": await self._balancer.addresses_move()})

    async def _change(self, change: Change, what: str, speaker: Speaker) -> dict[str, str]:
        """What came of it. Raises HTTPNotFound or HTTPConflict."""
        try:
            problem = await self._balancer.operate(change, what=what, speaker=speaker)
        except UnknownError as error:
            raise _refused(web.HTTPNotFound, str(error)) from None
        except (TooManyError, BusyError) as error:
            raise _refused(web.HTTPConflict, str(error)) from None
        who = {"by": speaker.name, "behind": speaker.behind, "why": speaker.why}
        return {"what": what, **who, "problem": problem}

    async def _speaker(self, request: web.Request) -> Speaker:
        """Who asks, for how long it is to count, and why. Raises HTTPBadRequest."""
        seconds, why = _seconds(request), _why(request)
        return replace(await self._access.speaker_at(request), seconds=seconds, why=why)


def add_operating(app: web.Application, balancer: Balancer, access: Access) -> None:
    """Let `app` change servers, listeners, clients and sessions, and reload."""
    operating = _Operating(balancer, access)
    app.router.add_post(_OF_SERVER, operating.server)
    app.router.add_post(_OF_LISTENER, operating.listener)
    app.router.add_post(_OF_NODE, operating.listener)
    app.router.add_post("/api/v1/deny/{prefix}", operating.deny)
    app.router.add_post("/api/v1/undeny/{prefix}", operating.undeny)
    app.router.add_post("/api/v1/sessions/{session}/kill", operating.kill)
    app.router.add_post(_OF_PAIR, operating.pair)
    app.router.add_post("/api/v1/ha/move", operating.addresses_move)
    app.router.add_post("/api/v1/reload", operating.reload)
    app.router.add_post("/api/v1/upgrade", operating.upgrade)


def _seconds(request: web.Request) -> float | None:
    text = request.query.get("for")
    try:
        seconds = None if text is None else parse_duration(text)
    except ValueError as error:
        raise _bad(f"for: {error}") from None
    if seconds is not None and seconds <= 0:
        raise _bad("for: must be longer than nothing")
    return seconds


def _why(request: web.Request) -> str:
    try:
        return parse_why(request.query.get("why", ""))
    except ValueError as error:
        raise _bad(f"why: {error}") from None


def _weight(request: web.Request) -> str:
    try:
        return parse_weight(request.query.get("weight", ""))
    except ValueError as error:
        raise _bad(f"weight: {error}") from None


def _keeper(request: web.Request) -> HaKeeper:
    text = request.query.get("by", HaKeeper.KEEPALIVED)
    if text not in [*HaKeeper]:
        raise _bad(f"by: must be one of {', '.join(HaKeeper)}; not {text!r}")
    return HaKeeper(text)


def _alarms(request: web.Request) -> int:
    text = request.query.get("alarms", "0")
    if not text.isascii() or not text.isdigit() or len(text) > _ALARMS_DIGITS:
        raise _bad(f"alarms: {text!r} isn't a number")
    return int(text)


def _prefix(request: web.Request) -> str:
    try:
        return parse_denied(request.match_info["prefix"])
    except ValueError as error:
        raise _bad(str(error)) from None


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "0")
    if text not in ("0", "1"):
        raise _bad(f"{name}: must be 1 or 0, not {text!r}")
    return text == "1"


def _bad(message: str) -> web.HTTPException:
    return _refused(web.HTTPBadRequest, message)


def _refused(status: type[web.HTTPClientError], message: str) -> web.HTTPException:
    return status(text=json.dumps({"error": message}), content_type="application/json")


def _has(wider: IPv4Network | IPv6Network, prefix: IPv4Network | IPv6Network) -> bool:
    if isinstance(wider, IPv4Network):
        return isinstance(prefix, IPv4Network) and prefix.subnet_of(wider)
    return isinstance(prefix, IPv6Network) and prefix.subnet_of(wider)
