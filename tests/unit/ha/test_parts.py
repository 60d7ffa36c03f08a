"""Two nodes whose configurations differ say to each other in what, and in nothing else."""

import dataclasses

import pytest

from mailweir.config.agreed import agreement
from mailweir.ha.machine.parts import Parts
from mailweir.ha.settings import settings_of
from unit.config.test_ha import text
from unit.fakes import config
from unit.ha.pairs import message

_A = text()


def named(own: str, others: str) -> tuple[list[str], list[str]]:
    """What the node with `own` finds: of the pair, and of the balancer."""
    pairs, balancers = [], []
    for node, written in (("a", own), ("b", others)):
        found = config(written)
        assert found.ha
        pairs.append(settings_of(found.ha, node))
        balancers.append(agreement(found))
    heard = Parts()
    says = Parts()
    for _ in range(3 * len(pairs[1].parts) + 3 * len(balancers[1].parts)):
        parts, part, digest = says.next(pairs[1].parts, balancers[1].parts)
        told = message(parts=parts, part=part, part_digest=digest)
        heard.hear(dataclasses.replace(told, config_digest=balancers[1].digest))
    return heard.differing(pairs[0].parts), heard.differing(balancers[0].parts)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (("", ""), ([], [])),
        (("proxy: v2", "proxy: v2, weight: 101"), ([], ["pools.farm.servers.a"])),
        (("pool: farm", "pool: farm, forwarding: relay"), ([], ["listeners.mx.forwarding"])),
        (("pool: farm", "pool: farm, max_age: 4h"), ([], ["listeners.mx.max_age"])),
        (("  timers:", "  fault_hold: 11s\n  timers:"), (["ha.fault_hold"], [])),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_what_differs_is_named_alone(
    change: tuple[str, str], differs: tuple[list[str], list[str]], *, turned: bool
) -> None:
    one, other = _A, _A.replace(*change, 1) if change[0] else _A
    assert (one == other) == (not change[0])
    assert named(other, one) == differs if turned else named(one, other) == differs
