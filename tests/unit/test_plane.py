"""The conversion to the extension's specification, and its errors made ours."""

from dataclasses import replace

import pytest

from mailweir import plane
from mailweir.errors import PlaneError
from mailweir.state.desired import fold
from unit.fakes import MINIMAL, NOTHING_SAID, config


def test_the_extension_takes_what_the_configuration_can_say() -> None:
    for balance in ("least_conn", "round_robin"):
        for protocol in ("smtp", "smtps", "tcp"):
            text = MINIMAL.replace("pool: farm\n", f"pool: farm\n    protocol: {protocol}\n", 1)
            text = text.replace("farm:\n", f"farm:\n    balance: {balance}\n")
            plane.check(fold(config(text), {}, NOTHING_SAID, hostname="lb1", max_sessions=9000))


def test_a_contradiction_is_a_plane_error() -> None:
    state = fold(config(), {}, NOTHING_SAID, hostname="lb1", max_sessions=9000)
    without_pools = replace(state, pools=())
    with pytest.raises(PlaneError, match="farm"):
        plane.check(without_pools)
