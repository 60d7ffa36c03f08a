"""What the data plane is told and tells: values that nothing changes."""

import pytest

from unit.fakes import ROOM
from unit.figures import SESSION


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        ROOM.sessions = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        SESSION.sent_bytes = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        ROOM.new = 1  # type: ignore[attr-defined]
