"""An examination in words: a line for each finding. Pure."""

from collections.abc import Iterator

from mailweir.doctor.findings import Examined


def lines(examined: Examined) -> Iterator[str]:
    """For a terminal."""
    for found in examined.findings:
        yield f"{found.where}: {found.ailment}: {found.wrong}; change: {found.change}"
    for one in examined.not_seen:
        yield f"not seen: {one.where}: {one.why}"
    number = len(examined.findings)
    servers = "1 server" if examined.servers == 1 else f"{examined.servers} servers"
    findings = "1 finding" if number == 1 else f"{number or 'no'} findings"
    yield f"{findings}, {servers} looked at"


def answer(examined: Examined) -> dict[str, object]:
    """For `--json`."""
    return {
        "ok": not examined.findings,
        "servers": examined.servers,
        "findings": [
            {
                "where": found.where,
                "ailment": found.ailment.value,
                "wrong": found.wrong,
                "change": found.change,
            }
            for found in examined.findings
        ],
        "not_seen": [{"where": one.where, "why": one.why} for one in examined.not_seen],
    }
