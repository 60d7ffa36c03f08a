"""The role that a node is told: what is kept, shown and said of it."""

from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from mailweir.admin.exposition import encode
from mailweir.admin.ha_role import NodeRole
from mailweir.config.words import HaKeeper, HaRole
from mailweir.situation import RoleTold
from unit.admin.scraped import samples

_KEEPALIVED, _NATIVE = HaKeeper.KEEPALIVED, HaKeeper.NATIVE


def test_a_role_is_shown_and_said_once() -> None:
    now, registry = 1000.0, CollectorRegistry()
    changes: list[RoleTold] = []
    role = NodeRole(registry, on_change=changes.append, clock=lambda: now, steady=lambda: now)

    def shown() -> dict[str, float | None]:
        found = samples(encode(registry))
        return {one: found.get(f"mailweir_ha_role{{role={one}}}") for one in HaRole}

    assert not role.told
    assert set(shown().values()) == {0}
    with capture_logs() as logs:
        assert role.tell(HaRole.BACKUP, _KEEPALIVED)
        now += 60
        assert not role.tell(HaRole.BACKUP, _KEEPALIVED)
        assert role.tell(HaRole.ACTIVE, _KEEPALIVED)
        assert not role.tell(HaRole.ACTIVE, _NATIVE, alarms=2)
    assert [(one["event"], one["change"], one["by"]) for one in logs] == [
        ("high availability", "unknown -> backup", "keepalived"),
        ("high availability", "backup -> active", "keepalived"),
    ]
    assert [(one.role, one.slowness) for one in changes] == [
        (HaRole.BACKUP, 5),
        (HaRole.ACTIVE, 1),
    ]
    assert role.told == RoleTold(HaRole.ACTIVE, _NATIVE, 1060.0, 1060.0, 2)
    assert shown() == {"active": 1, "backup": 0, "fault": 0, "stopped": 0}
