"""TLS of a client that wants to know all of a certificate: the handshake's side of `certificates`.
Called by `conversation`.
"""

import ssl
from functools import cache

from mailweir.doctor.certificates import BadChain, Certificate
from mailweir.foreign import shown


@cache
def context(*, verify: bool) -> ssl.SSLContext:
    """Of a client that doesn't look at the name: that is looked at afterwards."""
    made = ssl.create_default_context()
    made.check_hostname = False
    if not verify:
        made.verify_mode = ssl.CERT_NONE
    return made


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
