"""When new sessions find a server."""

from dataclasses import dataclass

import pytest

from mailweir.admin.readiness import why_none


@dataclass(frozen=True)
class _Member:
    name: str
    state: str
    weight: int = 1


@pytest.mark.parametrize(
    ("servers", "why"),
    [
        ([_Member("a", "up"), _Member("b", "down")], ""),
        ([_Member("a", "down"), _Member("b", "panic")], "no server is up"),
        ([], "no server is up"),
        (
            [_Member("a", "maint"), _Member("b", "up", 0)],
            "no server takes new sessions: a is in state maint, b has weight 0",
        ),
        (
            [_Member("a", "drain"), _Member("b", "down")],
            "no server takes new sessions: a is in state drain, b is in state down",
        ),
        (
            [_Member(name, "maint") for name in "abcdef"],
            "no server takes new sessions: a is in state maint, b is in state maint,"
            " c is in state maint, d is in state maint, 2 more",
        ),
    ],
)
def test_why_new_sessions_find_no_server(servers: list[_Member], why: str) -> None:
    assert why_none("farm", servers) == (f"pool farm: {why}" if why else "")
