"""Checks by HTTP or HTTPS: that a path answers, and what."""

import os
from ssl import SSLContext

import aiohttp
from yarl import URL

from mailweir.config.check_keys import Check
from mailweir.config.units import format_duration
from mailweir.config.words import CheckKind
from mailweir.foreign import shown, shown_bytes
from mailweir.health.probes import tls
from mailweir.health.probes.dial import OURS, LocalError, ProbeError, Progress
from mailweir.health.target import Target

_MOST = 64 << 10  # bytes of a body
_SHOWN = 80


async def probe(target: Target, progress: Progress) -> None:
    """Raises ProbeError at connect, tls, certificate or http."""
    context = await tls.context(target.check) if target.kind is CheckKind.HTTPS else None
    progress.step = "http"
    try:
        status, body = await _answer(target, context)
    except aiohttp.ClientConnectorCertificateError as error:
        with tls.failures():
            raise error.certificate_error from None
        raise
    except aiohttp.ClientConnectorSSLError as error:
        raise ProbeError("tls", shown(str(error.os_error))) from None
    except aiohttp.ClientConnectorError as error:
        raise _unreachable(error.os_error, target) from None
    except aiohttp.ConnectionTimeoutError:
        # For HTTPS that is until TLS has begun.
        what = "no answer" if context is None else "no answer, or no TLS,"
        limit = format_duration(target.connect)
        raise ProbeError("connect", f"{what} within {limit}") from None
    except aiohttp.ClientResponseError as error:
        # It has a status of its own, which isn't the server's, and lines with a mark below.
        why = " ".join(error.message.split()).removesuffix(" ^")
        raise ProbeError("http", shown(f"no HTTP: {why}")) from None
    except aiohttp.ClientPayloadError:
        raise ProbeError("http", "the answer isn't whole") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # ValueError: of headers and the like that are no HTTP.
        raise ProbeError("http", shown(str(error) or type(error).__name__)) from None
    _judge(target.check, status, body)


async def _answer(target: Target, context: SSLContext | None) -> tuple[int, bytes]:
    """The status, and the first bytes of the body. Nothing is followed, kept or decoded."""
    check, source = target.check, target.source
    connector = aiohttp.TCPConnector(
        force_close=True, local_addr=(str(source), 0) if source else None, happy_eyeballs_delay=None
    )
    url = URL(f"{target.kind}://{target.address}{check.path}", encoded=True)
    limit = aiohttp.ClientTimeout(total=None, sock_connect=target.connect)
    async with (
        aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=limit,
            auto_decompress=False,
        ) as session,
        session.get(
            url,
            headers={"User-Agent": "mailweir", **check.header},
            allow_redirects=False,
            ssl=context or True,
            server_hostname=check.name,
        ) as response,
    ):
        body = b""
        while check.match and len(body) < _MOST and (piece := await response.content.read(_MOST)):
            body += piece
        return response.status, body[:_MOST]


def _judge(check: Check, status: int, body: bytes) -> None:
    if not (status in check.status if check.status else 200 <= status < 300):
        raise ProbeError("http", f"status {status}")
    if check.match and check.match.encode() not in body:
        said = f": {shown_bytes(body, _SHOWN)}" if body else ""
        raise ProbeError("http", f"the answer doesn't have the words of `match`{said}")


def _unreachable(error: OSError, target: Target) -> Exception:
    cause = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in OURS:
        return LocalError(f"from {target.source}: {cause}" if target.source else cause)
    return ProbeError("connect", shown(cause))
