"""What two nodes of a pair have to agree on, and the names of what they don't."""

from pathlib import Path

import pytest
from pydantic import Field

from mailweir.config import model
from mailweir.config.agreed import agreed_config, agreed_pair, digest, parts
from mailweir.config.ha import Ha
from mailweir.config.kinds import Part
from mailweir.config.model import Config
from unit.config.test_ha import A_FARM, PAIR, pair
from unit.fakes import config


def of_pair(ha: Ha) -> bytes:
    return digest(agreed_pair(ha))


def of_config(text: str) -> bytes:
    return digest(agreed_config(config(text)))


def of_keys(text: str) -> dict[str, bytes]:
    found = config(text)
    return parts(agreed_config(found), found)


@pytest.mark.parametrize(
    "keys",
    [
        {"node": "b"},
        {"keys": "{1: /elsewhere, 2: /other}"},
        {"socket": "/tmp/ha.sock", "http": "off"},
        {"fence": "[/sbin/off]"},
        {"nodes": "{b: {priority: 90, links: {cross: '198.51.100.2:5405', lan: '192.0.2.2:5405'}},"
         " a: {links: {lan: '192.0.2.1:5405', cross: '198.51.100.1:5405'}}}"},
        {"virtual": "[{address: 192.0.2.10/24, dev: lan0}]"},
        {"fault_hold": "10000ms"},
    ],
    ids=str,
)  # fmt: skip
def test_nodes_that_mean_the_same_pair(keys: dict[str, str | None]) -> None:
    assert of_pair(pair(**keys)) == of_pair(pair())
    assert len(of_pair(pair())) == 8


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"cluster": "other"}, "ha.cluster"),
        ({"timers": "fast"}, "ha.timers.dead"),
        ({"virtual": "[{address: 192.0.2.11/24, dev: eth0}]"}, "ha.virtual"),
        ({"source": "[]"}, "ha.source"),
        ({"gateway": "[]"}, "ha.gateway"),
        ({"witness": "{address: '203.0.113.9:5405', strict: true}"}, "ha.witness.strict"),
        ({"preempt": "true"}, "ha.preempt"),
        ({"fault_hold": "20s"}, "ha.fault_hold"),
        ({"nodes": PAIR["nodes"].replace("90", "91")}, "ha.nodes.b.priority"),
        ({"nodes": PAIR["nodes"].replace(".2:5405", ".2:5406")}, "ha.nodes.b.links.lan"),
    ],
    ids=str,
)
def test_nodes_that_do_not(keys: dict[str, str | None], name: str) -> None:
    assert of_pair(pair(**keys)) != of_pair(pair())
    one, other = (parts(agreed_pair(found), found, "ha.") for found in (pair(), pair(**keys)))
    assert name in {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def test_processes_that_do_the_same_have_one_digest(tmp_path: Path) -> None:
    listed = tmp_path / "denied"
    listed.write_text("203.0.113.0/24\n")
    base = f"{A_FARM.replace('pool: farm}', f'pool: farm, deny: [{listed}]}}')}"
    found = of_config(base)
    assert len(found) == 8
    for own in ("workers: 3", "max_sessions: 7", "admin: {http: off}", "state_dir: /tmp/s",
                "log: {sessions: off}", "max_flows: 9", "drain: {deadline: 30m}",
                "ha: {mode: external}"):  # fmt: skip
        assert of_config(f"{base}{own}\n") == found, own
    for other in (f"{base}drain: {{deadline: 3s}}\n", base.replace("v2", "v1"), A_FARM):
        assert of_config(other) != found
    listed.write_text("203.0.113.0/25\n")
    assert of_config(base) != found


def test_the_order_of_addresses_means_nothing() -> None:
    four, six = "{address: 192.0.2.10/24, dev: eth0}", "{address: '2001:db8::10/64', dev: eth0}"
    one, other = (pair(virtual=f"[{', '.join(each)}]") for each in ((four, six), (six, four)))
    assert of_pair(one) == of_pair(other) != of_pair(pair())


def test_the_order_of_a_list_and_a_machines_own_source_mean_nothing() -> None:
    both = A_FARM.replace("[192.0.2.10:25]", "['192.0.2.10:25', '192.0.2.11:25']")
    turned = A_FARM.replace("[192.0.2.10:25]", "['192.0.2.11:25', '192.0.2.10:25']")
    assert of_config(both) == of_config(turned) != of_config(A_FARM)
    assert of_config(A_FARM.replace("10.0.0.253", "10.0.0.7")) == of_config(A_FARM)


def test_a_source_that_floats_is_both_nodes() -> None:
    ha = "ha: {mode: external, source: [{address: 10.0.0.253/24, dev: eth0}]}\n"
    other = A_FARM.replace("10.0.0.253", "10.0.0.7")
    assert of_config(A_FARM + ha) != of_config(other + ha)


def test_a_release_with_one_more_key_is_of_the_same_mind() -> None:
    """Two nodes with one file, of which one runs the next version."""
    before = of_config(A_FARM), of_pair(pair())

    class Drain(model.Drain):
        """With a key that this version doesn't have."""

        courtesy: int = Field(5, description="More of it.")

    class LaterConfig(Config):
        """The same."""

        drain: Drain = Field(Drain(), description="As before.")
        novelty: Part = Field(Part(), description="A new part.")

    class LaterHa(Ha):
        """The same."""

        patience: float = Field(3.0, description="More of it.")

    later = LaterConfig.model_construct(**{**dict(config(A_FARM)), "drain": Drain()})
    assert digest(agreed_config(later)) == before[0]
    assert of_pair(LaterHa.model_construct(**vars(pair()))) == before[1]


def test_what_differs_has_a_name() -> None:
    one, other = (of_keys(text) for text in (A_FARM, A_FARM.replace("v2", "v1")))
    assert {name for name in one if one[name] != other[name]} == {"pools.farm.servers.a"}
    assert one.keys() == other.keys()
    # What isn't written is known by name.
    assert (len(one["pools.farm.servers.a"]), one["drain.quiet"], one["pools.farm.balance"]) == (
        *(3, b"", b""),
    )


def test_many_keys_are_told_apart_by_what_is_around_them() -> None:
    servers = ", ".join(
        f"s{number}: '10.0.{number // 200}.{number % 200 + 1}:25'" for number in range(400)
    )
    listener = A_FARM.partition("pools")[0]
    found = of_keys(f"{listener}pools: {{farm: {{servers: {{{servers}}}}}}}\n")
    assert found["pools.farm.servers"]
    assert sum(bool(one) for one in found.values()) < 200
