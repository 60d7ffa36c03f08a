"""TLS of probes: who is trusted, when a certificate ends, and what a failure was."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from time import time

from mailweir.config.check_keys import Check
from mailweir.config.units import format_days
from mailweir.config.words import Verify
from mailweir.errors import StalledError
from mailweir.foreign import shown
from mailweir.health.probes.dial import Learned, LocalError, ProbeError, Progress
from mailweir.health.probes.files import LIMIT, files

_DAY = 86400.0
# DER: what a certificate is made of up to its time. RFC 5280, 4.1.
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


async def context(check: Check) -> ssl.SSLContext:
    """Trusts whom `check` says. Raises LocalError where its files can't be read."""
    named = [file for file in (check.ca, check.client_certificate) if file]
    load = partial(_loaded, check.verify_in_effect, check.ca, check.client_certificate)
    try:
        return await files.call(partial(_fresh, load, named), limit=LIMIT, what="certificates")
    except StalledError as error:
        raise LocalError(str(error)) from None
    except (OSError, ValueError) as error:
        names = " ".join(map(str, named)) or "the system's certificates"
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise LocalError(f"{names}: {reason}") from None


def _fresh(load: partial[ssl.SSLContext], named: list[Path]) -> ssl.SSLContext:
    """In the lane: a file that is another one by now is read again."""
    return load(tuple(os.stat(file).st_mtime_ns for file in named))


@lru_cache(maxsize=64)
def _loaded(
    verify: Verify, ca: Path | None, client: Path | None, _: tuple[int, ...]
) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = verify is Verify.NAME
    made.verify_mode = ssl.CERT_NONE if verify is Verify.NONE else ssl.CERT_REQUIRED
    if verify is not Verify.NONE:
        made.load_verify_locations(ca) if ca else made.load_default_certs()
    if client:
        made.load_cert_chain(client)
    return made


def _any() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


# For who asks nothing of the certificate.
ANY = _any()


def judge(state: ssl.SSLObject | None, check: Check, progress: Progress) -> None:
    """When the server's certificate ends is put down. Raises ProbeError where it has."""
    der = state.getpeercert(binary_form=True) if state else None
    if not der:
        raise ProbeError("certificate", "the server showed none")
    try:
        end = ends(der)
    except ValueError as error:
        raise ProbeError("certificate", f"its end can't be read: {error}") from None
    left = end - time()
    day = f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d}"
    soon = left < check.days * _DAY
    alarm = f"certificate ends in {format_days(left)}, on {day}" if soon else ""
    progress.learned = Learned(alarm, end)
    if left <= 0:
        raise ProbeError("certificate", f"it ended on {day}")


@contextmanager
def failures() -> Iterator[None]:
    """Of a handshake, as ProbeError at `certificate` or `tls`."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        # The words are OpenSSL's, and may have names of the certificate in them.
        raise ProbeError("certificate", shown(error.verify_message)) from None
    except ssl.SSLError as error:
        raise ProbeError("tls", shown(error.reason or str(error))) from None
    except (ConnectionError, EOFError, RuntimeError):
        # RuntimeError is uvloop's word for a connection that is closed by then.
        raise ProbeError("tls", "connection closed by the server") from None


def ends(certificate: bytes) -> float:
    """When a certificate (DER) ends, in seconds since 1970. Raises ValueError.

    By hand: Python reads a certificate only where it verifies it.
    """
    body, _ = _inside(certificate, 0, _SEQUENCE)
    inner, _ = _inside(certificate, body, _SEQUENCE)
    if certificate[inner : inner + 1] == bytes((_VERSION,)):
        inner = _behind(certificate, inner)
    for _ in range(3):  # its number, the algorithm, who issued it
        inner = _behind(certificate, inner)
    times, _ = _inside(certificate, inner, _SEQUENCE)
    at = _behind(certificate, times)
    kind = certificate[at]
    begin, end = _inside(certificate, at, kind)
    text = certificate[begin:end].decode("ascii")
    form = "%y%m%d%H%M%SZ" if kind == _UTC_TIME else "%Y%m%d%H%M%SZ"
    found = datetime.strptime(text, form).replace(tzinfo=UTC)
    if kind == _UTC_TIME and found.year >= 2050:  # RFC 5280, 4.1.2.5.1: 50 is 1950
        found = found.replace(year=found.year - 100)
    return found.timestamp()


def _inside(data: bytes, at: int, kind: int) -> tuple[int, int]:
    """Where the value at `at` begins and ends. Raises ValueError."""
    if at + 2 > len(data) or data[at] != kind:
        raise ValueError("it is no certificate")
    length, begin = data[at + 1], at + 2
    if length >= 0x80:
        more = length & 0x7F
        length, begin = int.from_bytes(data[begin : begin + more], "big"), begin + more
    if begin + length > len(data):
        raise ValueError("it is cut off")
    return begin, begin + length


def _behind(data: bytes, at: int) -> int:
    if at >= len(data):
        raise ValueError("it is cut off")
    return _inside(data, at, data[at])[1]
