"""Clients by where they come from: who was refused most and why, and whose sessions live."""

import json
from pathlib import Path

from harness.clients.dialogue import Client
from harness.mailweir.run import Mailweir, Tree, configuration
from harness.servers.takers import Takers
from harness.waiting import until
from scenarios.conftest import Start

_CHECK = {"kind": "tcp", "every": "1h"}


def test_who_was_refused_most(tmp_path: Path, start: Start) -> None:
    with Takers(0.0).server("a") as a:
        config = configuration(tmp_path, {"a": a}, check=_CHECK)
        config["listeners"]["mx"] |= {
            "deny": ["127.0.0.6"],
            "limits": {"per_source": {"sessions": 1, "prefix4": 31}},
        }
        config["listeners"]["msa"] = {
            "bind": ["127.0.0.1:0"],
            "pool": "farm",
            "deny": ["127.8.8.8"],
        }
        balancer = start(config)
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        assert _refused(balancer) == []
        assert balancer.command("refused").stdout == "nobody was refused in the last 24 hours\n"
        for host in ("127.0.0.6", "127.0.0.6", "127.8.8.8"):
            listener = "msa" if host == "127.8.8.8" else "mx"
            with Client(balancer.address(listener), host=host) as client:
                client.expect("554")
        with Client(balancer.address(), host="127.0.0.9") as first:
            first.expect("220")
            # Of the same two addresses.
            for _ in range(3):
                with Client(balancer.address(), host="127.0.0.8") as second:
                    second.expect("421")
        until(lambda: len(_refused(balancer)) == 3, "all to be noted")
        until(lambda: _refused(balancer)[0]["sessions"] == 3, "all to be noted")
        most, then, last = _refused(balancer)
        assert (most["source"], most["reasons"]) == ("127.0.0.8/31", {"source_sessions": 3})
        assert (then["source"], then["reasons"]) == ("127.0.0.6/31", {"denied": 2})
        assert (last["source"], last["listener"]) == ("127.8.8.8/32", "msa")
        assert 0 <= most["age_seconds"] < 60
        shown = balancer.command("refused", "--listener", "mx", "--limit", "1").stdout
        assert [line.split()[:3] for line in shown.splitlines()] == [
            ["SOURCE", "LISTENER", "REFUSED"],
            ["127.0.0.8/31", "mx", "3"],
        ]
        assert "there is no listener x" in balancer.command("refused", "--listener", "x").stderr


def test_sessions_of_somewhere(tmp_path: Path, start: Start) -> None:
    with Takers(0.0).server("a") as a:
        balancer = start(configuration(tmp_path, {"a": a}, check=_CHECK))
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        address = balancer.address()
        with Client(address, host="127.0.0.9") as one, Client(address, host="127.0.1.9") as other:
            one.expect("220")
            other.expect("220")
            for prefix, hosts in (
                ("127.0.0.0/24", ["127.0.0.9"]),
                ("127.0.1.9", ["127.0.1.9"]),
                ("127.0.0.0/16", ["127.0.0.9", "127.0.1.9"]),
                ("2001:db8::/32", []),
            ):
                said = balancer.command("sessions", "--client", prefix, "--json")
                found = json.loads(said.stdout)["sessions"]
                assert sorted(session["client_address"] for session in found) == hosts
            wrong = balancer.command("sessions", "--client", "127.0.0.9/24")
            assert (wrong.returncode, wrong.stdout) == (1, "")
            assert "did you mean 127.0.0.0/24" in wrong.stderr


def _refused(balancer: Mailweir) -> list[Tree]:
    said = balancer.command("refused", "--json")
    assert said.returncode == 0, said.stderr
    return list(json.loads(said.stdout)["sources"])
