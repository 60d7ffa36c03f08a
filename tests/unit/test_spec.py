"""What the data plane is to do: values that nothing changes."""

import pytest

from unit.fakes import ROOM


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        ROOM.sessions = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        ROOM.new = 1  # type: ignore[attr-defined]
