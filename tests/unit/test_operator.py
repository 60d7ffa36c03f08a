"""What operators say of servers: kept as long as the servers are there."""

import pytest

from mailweir.errors import UnknownError
from mailweir.operator import Overrides
from mailweir.spec import ServerKey
from unit.fakes import MINIMAL, config

A = ServerKey("farm", "a")


def test_a_word_stays_until_it_is_taken_back() -> None:
    overrides = Overrides()
    overrides.drain(A, config())
    assert overrides.drained == {A}
    assert overrides.forget_absent(config()) == set()
    overrides.ready(A, config())
    assert overrides.drained == set()


def test_a_server_that_is_gone_is_forgotten() -> None:
    overrides = Overrides()
    overrides.drain(A, config())
    without = config(MINIMAL.replace("      a: 10.0.0.1:25\n", ""))
    assert overrides.forget_absent(without) == {A}
    assert overrides.drained == set()


def test_what_is_there_is_said_where_a_name_is_wrong() -> None:
    overrides = Overrides()
    with pytest.raises(UnknownError, match="there are farm"):
        overrides.drain(ServerKey("farn", "a"), config())
    with pytest.raises(UnknownError, match="it has a, b"):
        overrides.ready(ServerKey("farm", "c"), config())
