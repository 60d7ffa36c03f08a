"""The fold: pure, in the file's order, and nobody is up without a check."""

from hypothesis import given
from hypothesis import strategies as st

from mailweir.spec import ServerKey, ServerState
from mailweir.state.desired import Health, fold
from unit.fakes import NOTHING_SAID, config

A, B = ServerKey("farm", "a"), ServerKey("farm", "b")


def test_everything_arrives() -> None:
    state = fold(config(), {A: Health.UP}, NOTHING_SAID, hostname="lb1", max_sessions=9000)
    assert state.hostname == "lb1"
    (listener,) = state.listeners
    assert (listener.name, listener.bind, listener.pool) == ("mx", ("192.0.2.1:25",), "farm")
    assert listener.timeouts.idle_server == 660.0
    assert [(s.name, s.address, s.weight) for s in state.pools[0].servers] == [
        ("a", "10.0.0.1:25", 100),
        ("b", "10.0.0.2:25", 100),
    ]


@given(st.dictionaries(st.sampled_from([A, B, ServerKey("x", "y")]), st.sampled_from(Health)))
def test_a_server_is_up_only_if_a_check_said_so(health: dict[ServerKey, Health]) -> None:
    before = dict(health)
    state = fold(config(), health, NOTHING_SAID, hostname="h", max_sessions=9000)
    assert state == fold(config(), health, NOTHING_SAID, hostname="h", max_sessions=9000)
    assert health == before
    for key, value in state.server_states().items():
        assert (value is ServerState.UP) == (health.get(key) is Health.UP)
