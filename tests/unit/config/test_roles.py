"""Who may do what, by numbers; names that a machine doesn't know."""

import os

import pytest

from mailweir.config.roles import Ids, Role, Roles
from unit.fakes import MINIMAL, loaded

_FILE = MINIMAL.replace("a: 10.0.0.1:25", "a: {address: 10.0.0.1:25, proxy: v2}").replace(
    "b: 10.0.0.2:25", "b: {address: 10.0.0.2:25, proxy: v2}"
)

_ROLES = Roles(True, Ids(frozenset({7}), frozenset({70})), Ids(frozenset({8}), frozenset({80})))


@pytest.mark.parametrize(
    ("uid", "gids", "role"),
    [
        (7, {1}, Role.OPERATE),
        (9, {1, 70}, Role.OPERATE),
        (8, {1}, Role.READ),
        (9, {1, 80}, Role.READ),
        (8, {70}, Role.OPERATE),
        (9, {1, 7, 8}, Role.NONE),
        (70, {1}, Role.NONE),
        (0, set(), Role.OPERATE),
        (os.geteuid(), set(), Role.OPERATE),
    ],
)
def test_roles(uid: int, gids: set[int], role: Role) -> None:
    assert _ROLES.of(uid, frozenset(gids)) is role


def test_without_names_whoever_gets_in_may() -> None:
    assert loaded().roles == Roles()
    assert Roles().of(9, frozenset()) is Role.OPERATE


def test_names_are_looked_up() -> None:
    read = loaded(_FILE + 'admin: {operators: [root, "@root"], readers: ["@daemon"]}\n')
    assert read.warnings == ()
    assert read.roles == Roles(
        True, Ids(frozenset({0}), frozenset({0})), Ids(groups=frozenset({1}))
    )


def test_unknown_names_are_told_and_let_nobody_in() -> None:
    read = loaded(_FILE + 'admin: {operators: [root, no-such], readers: ["@no-such"]}\n')
    assert [str(warning) for warning in read.warnings] == [
        "f.yaml:10:27: admin.operators.1: this machine knows no user `no-such`, so nobody has this"
        " role by it; reload once there is one",
        "f.yaml:10:47: admin.readers.0: this machine knows no group `no-such`, so nobody has this"
        " role by it; reload once there is one",
    ]
    assert read.roles == Roles(True, Ids(frozenset({0})))
