"""TLS of a client that wants to know all of a certificate: the handshake's side of `certificates`.
Called by `conversation`.
"""

import ssl
from functools import cache
from pathlib import Path

from mailweir.doctor.certificates import BadChain, Certificate
from mailweir.foreign import shown


@cache
def context(*, verify: bool, ca: Path | None = None) -> ssl.SSLContext:
    """Of a client that doesn't look at the name: that is looked at afterwards. It trusts whom the
    file `ca` has, as checks do, or whom the system does. Raises OSError or ValueError where the
    file is none.
    """
    made = ssl.create_default_context(cafile=ca)
    made.check_hostname = False
    if not verify:
        made.verify_mode = ssl.CERT_NONE
    return made


def why_not(ca: Path) -> str:
    """Why a file can't say whom to trust, with its name; empty where it can."""
    try:
        context(verify=True, ca=ca)
    except (OSError, ValueError) as error:
        return shown(f"{ca}: {getattr(error, 'strerror', None) or error}")
    return ""


def bad_chain(error: ssl.SSLCertVerificationError) -> BadChain:
    """Out of a failed handshake."""
    return BadChain(error.verify_code, shown(error.verify_message))


def certificate(tls: ssl.SSLObject) -> Certificate | None:
    """The peer's; None where it wasn't verified."""
    found = tls.getpeercert()
    if not found:
        return None
    names = [entry[1] for entry in found.get("subjectAltName", ()) if entry[0] == "DNS"]
    ends = ssl.cert_time_to_seconds(str(found["notAfter"]))
    return Certificate(tuple(shown(str(name)) for name in names), ends)
