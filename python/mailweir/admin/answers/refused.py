"""One row of the answer to `mailweir refused`. Pure."""

from mailweir.stats import RefusedSource


def refused(source: RefusedSource, now: float) -> dict[str, object]:
    """One of the answers to `mailweir refused`; `now` and `last` in seconds since 1970."""
    return {
        "source": source.source,
        "listener": source.listener,
        "sessions": source.sessions,
        "reasons": source.reasons,
        "last_reason": source.last_reason,
        "last": round(now - source.age, 3),
        "age_seconds": round(source.age, 3),
    }
