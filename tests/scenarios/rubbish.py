"""Requests that nobody ought to send, made by a seeded generator: the same ones in every run.

None of them changes anything where it is understood at all: the changing routes are there with
names and values that can't be meant.
"""

import string
from collections.abc import Callable
from random import Random
from urllib.parse import quote

_HEAD = b"Host: localhost\r\n"
_METHODS = b"GET HEAD POST PUT DELETE PATCH OPTIONS TRACE CONNECT PRI get G\0T GE\xffT".split(b" ")
_VERSIONS = b"HTTP/1.1 HTTP/1.0 HTTP/0.9 HTTP/2.0 HTTP/9.9 HTTP/1.1.1 HTTP/ http/1.1 SMTP".split()
_ROUTES = [
    *("/", "/healthz", "/readyz", "/metrics", "/api/v1/status", "/api/v1/servers"),
    *("/api/v1/sessions", "/api/v1/events", "/api/v1/config", "/api/v1/sessions/0/kill"),
    *("/api/v1/servers/no/such/drain", "/api/v1/listeners/no/pause", "/api/v1/nothing"),
]
_KEYS = ("limit", "server", "listener", "since", "for", "weight", "")
_VALUES = (
    *("", "0", "-1", "999999999", "9" * 4000, "1e9", "x", "farm/", "/a", "farm/a/b", "\0", "\n"),
    *("\ud800", "\u0665", "\U0001f4e7", "%", "%zz", "a" * 5000, "../../etc/passwd", "' or 1=1"),
)
_ACCEPTS = (
    *("application/openmetrics-text; version=x", "text/plain; version=1.0.0.0.0; escaping=no"),
    *(
        "application/openmetrics-text;version=;escaping=",
        "text/plain;version=\xb2",
        ";,;,=;",
        "*/*",
    ),
    *("application/openmetrics-text; version=9" + "9" * 5000, "text/plain; version=1.0.0"),
)
_HEADERS = (
    *("Content-Length: x", "Content-Length: -1", "Content-Length: 99999999999999999999"),
    *("Content-Length: 5\r\nContent-Length: 6", "Transfer-Encoding: chunked, chunked"),
    *("Transfer-Encoding: gzip", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
    *("Expect: 100-continue", "Expect: much", "Upgrade: websocket\r\nConnection: Upgrade"),
    *("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",),
    *("Host: a\r\nHost: b", "Host:", "Host: [", "Host: [::1", "Host: \xff", "Host: 1.2.3.4:x"),
    *("Origin: http://[", "Origin: \xff", "Origin: //", "Origin: http://localhost:x"),
    *("Range: bytes=0-1,-1", "If-Modified-Since: yesterday", "Cookie: a=b; =; \xff=\x7f;"),
    *("Last-Event-ID: \xb2", "Last-Event-ID: " + "9" * 4000, "Accept-Encoding: gzip;q=x, br"),
    *("Content-Type: multipart/form-data; boundary=", "Content-Type: a/b; charset=\xff"),
    *("Connection: close, keep-alive", "Sec-WebSocket-Key: x", " folded: x", "No colon"),
    *(": no name", "A\0B: x", "X: a\0b", "X: a\rb", "X: a\nb", "X : y", "Keep-Alive: timeout=x"),
)


class Rubbish:
    """The requests, one after the other."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - no secret
        self._kinds: tuple[Callable[[], bytes], ...] = (
            *(self._line, self._path, self._query, self._accept, self._header, self._many_headers),
            *(self._chunked, self._body, self._truncated, self._binary, self._huge),
            *(self._pipelined, self._of_another_protocol),
        )

    def next(self) -> bytes:
        """What is sent on one connection."""
        return self._random.choice(self._kinds)()

    def _line(self) -> bytes:
        pick = self._random.choice
        spaces = pick((b" ", b"  ", b"\t", b""))
        target = pick(
            (b"/", b"*", b"", b"http://[::1", b"//", b"localhost:25", b"/\xff\xfe", b"/ /")
        )
        line = pick(_METHODS) + spaces + target + spaces + pick(_VERSIONS)
        return line + pick((b"\r\n", b"\n", b"\r")) + _HEAD + b"\r\n"

    def _path(self) -> bytes:
        pieces = ("..", ".", "", "%2e%2e", "%00", "%ff", "%", "%2f", "api", "v1", "servers", "farm")
        path = "/".join(self._random.choices(pieces, k=self._random.randint(1, 12)))
        return self._request(f"/{path}")

    def _query(self) -> bytes:
        pairs = [
            f"{self._random.choice(_KEYS)}{self._random.choice('==;&')}{self._value()}"
            for _ in range(self._random.randint(1, 4))
        ]
        return self._request(f"{self._random.choice(_ROUTES)}?{'&'.join(pairs)}")

    def _value(self) -> str:
        value = self._random.choice(_VALUES)
        as_it_is = value.isascii() and value.isprintable() and self._random.random() < 0.5
        return value.replace(" ", "+") if as_it_is else quote(value, errors="surrogatepass")

    def _accept(self) -> bytes:
        return self._request("/metrics", f"Accept: {self._random.choice(_ACCEPTS)}\r\n", "GET")

    def _header(self) -> bytes:
        found = self._random.sample(_HEADERS, self._random.randint(1, 3))
        return self._request(self._route(), "".join(f"{header}\r\n" for header in found))

    def _many_headers(self) -> bytes:
        number = self._random.choice((100, 127, 129, 1000))
        return self._request(self._route(), "".join(f"X-{n}: {n}\r\n" for n in range(number)))

    def _chunked(self) -> bytes:
        chunks = (b"5\r\nhello\r\n", b"0\r\n\r\n", b"x\r\n", b"-1\r\n", b"fffffffffffffffff\r\n")
        more = (b"5;ext=\x00\r\nhello\r\n", b"5\r\nhel", b"0\r\nTrailer: x\r\n\r\n", b"5\nhello\n")
        body = b"".join(self._random.choices((*chunks, *more), k=self._random.randint(1, 6)))
        return self._request(self._route(), "Transfer-Encoding: chunked\r\n") + body

    def _body(self) -> bytes:
        size = self._random.choice((1, 100, 65536, 65537, 300_000))
        encoding = self._random.choice(
            ("", "Content-Encoding: gzip\r\n", "Content-Encoding: br\r\n")
        )
        more = f"Content-Length: {size}\r\n{encoding}"
        return self._request(self._route(), more, "POST") + self._random.randbytes(size)

    def _truncated(self) -> bytes:
        whole = self._random.choice((self._query, self._header, self._chunked, self._body))()
        return whole[: self._random.randrange(len(whole))]

    def _binary(self) -> bytes:
        return self._random.randbytes(self._random.choice((1, 10, 1000, 20_000)))

    def _huge(self) -> bytes:
        size = self._random.choice((8000, 8190, 8200, 100_000))
        filling = self._random.choice(string.ascii_letters) * size
        form = self._random.choice(("/{}", "/?{}", "/?limit={}", "/ HTTP/1.1\r\n{}: x\r\nX: {}"))
        return b"GET " + form.format(filling, filling).encode() + b" HTTP/1.1\r\n" + _HEAD + b"\r\n"

    def _pipelined(self) -> bytes:
        kinds = (self._line, self._query, self._header, self._chunked, self._binary, self._path)
        picked = self._random.choices(kinds, k=self._random.randint(2, 30))
        good = self._request("/healthz", method="GET")
        return good + b"".join(kind() for kind in picked) + good

    def _of_another_protocol(self) -> bytes:
        talk = (
            b"EHLO client.test\r\nMAIL FROM:<a@b>\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + self._random.randbytes(500),
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n",
            b"\r\n\r\n\0\r\nQUIT\n" + self._random.randbytes(50),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self._random.randbytes(100),
            b"SSH-2.0-x\r\n",
        )
        return self._random.choice(talk)

    def _route(self) -> str:
        return self._random.choice(_ROUTES)

    def _request(self, route: str, more: str = "", method: str = "") -> bytes:
        verb = method or self._random.choice(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"))
        return f"{verb} {route} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode("latin-1")
