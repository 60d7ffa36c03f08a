"""The pages of the session log's fields and of the reasons why sessions end, out of the sources of
the data plane.
"""

from collections.abc import Iterable

from generator import markdown, rust
from generator.markdown import code
from mailweir.notices import REFUSALS

_ABOUT = """\
A line of the session log is one session that has ended. In `json` every field is there, and is null
where nothing is known; in `logfmt` such a field isn't there. `log.sessions` says where the lines
go, `log.format` how they look. [End reasons](end-reasons.md) has the words of `end_reason`.
[Watching](../watching.md#the-session-log) shows a line, and says
how files are rotated."""
_REASONS = """\
Why a session ended: `end_reason` in the [session log](session-log.md), `reason` in
`mailweir_listener_connections_ended_total`. A session has one reason. The list is closed: alerts
and searches can depend on it."""
_TAKEN = "A server had taken these sessions. `end_by` of the session log says who ended them."
_REFUSED = "These clients got no server. They heard 421 or 554 and a reason, or what `refuse` says."
_WOULD = """\
The words of `would_refuse`, and of `mailweir_listener_would_refuse_total`: what `dry_run` only
counts."""
_FAILED = """\
The words of `tried` behind `greeting`, and of `mailweir_server_greeting_failures_total`."""
_CONNECT = """\
The words of `tried` behind `connect`, and of `mailweir_server_connect_failures_total`."""


def page() -> str:
    """As Markdown: the fields."""
    fields = {name: f"{looks}. {meaning}" for name, (looks, meaning) in rust.log_fields().items()}
    return markdown.page(
        "Fields of the session log",
        _ABOUT,
        _list(fields.items()),
        markdown.section("Limits that refuse nobody", _WOULD),
        _list(rust.words("record/listener.rs", "WouldRefuse").items()),
        markdown.section("Connects that failed", _CONNECT),
        _list(rust.words("server.rs", "ConnectFailure").items()),
        markdown.section("Greetings that failed", _FAILED),
        _list(rust.words("conduct.rs", "GreetingFailure").items()),
    )


def reasons_page() -> str:
    """As Markdown: the reasons."""
    reasons = rust.words("record/reason.rs", "EndReason")
    taken = {word: meaning for word, meaning in reasons.items() if word not in REFUSALS}
    return markdown.page(
        "End reasons",
        _REASONS,
        markdown.section("Sessions that a server took", _TAKEN),
        _list(taken.items()),
        markdown.section("Sessions that were refused", _REFUSED),
        _list((word, _refused(reasons[word])) for word in reasons if word not in taken),
    )


def _refused(meaning: str) -> str:
    """Without what the heading says already."""
    rest = meaning.removeprefix("Refused: ")
    return f"{rest[0].upper()}{rest[1:]}"


def _list(words: Iterable[tuple[str, str]]) -> str:
    return "\n".join(markdown.item(f"{code(word)}: {meaning}") for word, meaning in words)
