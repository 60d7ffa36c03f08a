"""One row of the answer to `mailweir sessions`. Pure."""

from mailweir.stats import Session


def session(session: Session) -> dict[str, object]:
    """One of the answers to `mailweir sessions`."""
    address, _, port = session.client.rpartition(":")
    return {
        "id": session.id,
        "listener": session.listener,
        "client": session.client,
        "client_address": address.strip("[]"),
        "client_port": int(port),
        "pool": session.pool,
        "server": session.server,
        "age_seconds": round(session.age, 3),
        "silent_seconds": round(session.silent, 3),
        # Nobody has yet: the client waits for the server.
        "spoke_last": session.spoke_last or "client",
        "received_bytes": session.received_bytes,
        "sent_bytes": session.sent_bytes,
        "tls": session.tls,
        "path": session.path,
        "tcpdump": _tcpdump(session.client, session.source) if session.source else None,
    }


def _tcpdump(*ends: str) -> str:
    """What shows both connections of a session that no socket shows any more (pcap-filter(7))."""
    legs = (address.rpartition(":") for address in ends)
    return " or ".join(f"(host {host} and tcp port {port})" for host, _, port in legs)
