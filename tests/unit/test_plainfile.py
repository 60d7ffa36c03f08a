"""Files of secrets: who may read them."""

import os
from pathlib import Path

import pytest

from mailweir.plainfile import is_open_to_others

_CREDENTIAL = Path("/run/credentials/mailweir-ha.service/ha.key")


def looked_at(mode: int, owner: int) -> os.stat_result:
    return os.stat_result((0o100000 | mode, 1, 1, 1, owner, 0, 32, 0, 0, 0))


@pytest.mark.parametrize(
    ("mode", "owner", "path", "open_to_others"),
    [
        (0o400, 0, "/etc/mailweir/ha.key", False),
        (0o600, 7, "/etc/mailweir/ha.key", False),
        (0o440, 0, "/etc/mailweir/ha.key", True),
        (0o404, 0, "/etc/mailweir/ha.key", True),
        # As newer systemd makes them: the unit's user by an ACL, which shows as the group's.
        (0o440, 0, _CREDENTIAL, False),
        (0o400, 7, _CREDENTIAL, False),
        (0o440, 7, _CREDENTIAL, True),
        (0o460, 0, _CREDENTIAL, True),
        (0o444, 0, _CREDENTIAL, True),
        (0o440, 0, "/run/credentials/../mailweir/ha.key", True),
    ],
)
def test_a_secret(mode: int, owner: int, path: str | Path, open_to_others: bool) -> None:
    assert is_open_to_others(looked_at(mode, owner), Path(path)) is open_to_others
