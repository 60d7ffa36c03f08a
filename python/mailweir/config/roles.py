"""Who may do what at the admin socket: the configuration's names as the kernel's numbers.

Made by `load`, in the thread that loads. Names are looked up there and never for a request:
the name service may ask a directory over the network and take its time. So a user or group
that comes to be later counts from the next reload on; until then a warning names it.
"""

import grp
import os
import pwd
from dataclasses import dataclass
from enum import IntEnum

from mailweir.config.finding import Finding
from mailweir.config.model import GROUP, Admin
from mailweir.config.reading import Reading


class Role(IntEnum):
    """Each may do what those before it may."""

    NONE = 0
    READ = 1
    OPERATE = 2


@dataclass(frozen=True, slots=True)
class Ids:
    """Users and groups by their numbers."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()

    def have(self, uid: int, gids: frozenset[int]) -> bool:
        """Whether a user is one of them, by himself or by one of his groups."""
        return uid in self.users or not self.groups.isdisjoint(gids)


@dataclass(frozen=True, slots=True)
class Roles:
    """Who may operate and who may read; without `given`, whoever may open the socket may both."""

    given: bool = False
    operators: Ids = Ids()
    readers: Ids = Ids()

    def of(self, uid: int, gids: frozenset[int]) -> Role:
        """What a user with these groups may do."""
        if not self.given or is_ours(uid) or self.operators.have(uid, gids):
            return Role.OPERATE
        return Role.READ if self.readers.have(uid, gids) else Role.NONE


def is_ours(uid: int) -> bool:
    """Whether a user is root or the one we run as: they can do it all by signals and files too."""
    return uid in (0, os.geteuid())


def roles_of(admin: Admin, reading: Reading) -> tuple[Roles, list[Finding]]:
    """The roles, and which names this machine doesn't know. May wait for a directory."""
    found: list[Finding] = []
    operators = _ids("operators", admin.operators, found, reading)
    readers = _ids("readers", admin.readers, found, reading)
    # Names that nobody has are names: who may is then root alone, not whoever comes.
    return Roles(bool(admin.operators or admin.readers), operators, readers), found


def _ids(key: str, names: list[str], unknown: list[Finding], reading: Reading) -> Ids:
    users, groups = set(), set()
    for index, name in enumerate(names):
        reading.what = f"the name service, for `{name}` of `admin.{key}`,"
        try:
            if name.startswith(GROUP):
                groups.add(grp.getgrnam(name.removeprefix(GROUP)).gr_gid)
            else:
                users.add(pwd.getpwnam(name).pw_uid)
        except (KeyError, OSError):
            kind = "group" if name.startswith(GROUP) else "user"
            message = f"this machine knows no {kind} `{name.removeprefix(GROUP)}`, so nobody has"
            message += " this role by it; reload once there is one"
            unknown.append(Finding(("admin", key, index), message, warning=True))
    reading.what = ""
    return Ids(frozenset(users), frozenset(groups))
