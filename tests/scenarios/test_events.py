"""Events as a command shows and follows them."""

import json
from pathlib import Path

from harness.clients.smtpload import Smtpload
from harness.mailweir.run import COMMAND, configuration
from harness.process import running
from harness.waiting import until
from scenarios.conftest import Start


def test_what_happens_is_followed(tmp_path: Path, start: Start, smtpload: Smtpload) -> None:
    with smtpload.sink("a") as sink:
        config = configuration(tmp_path, {"a": sink.addresses[0]})
        balancer = start(config)
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        shown = balancer.command("events")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "server changed server=farm/a" in shown.stdout
        command = [*COMMAND, "events", "--follow", "--json", "--limit", "0"]
        where = ["--socket", config["admin"]["socket"]]
        with running([*command, *where], tmp_path, "events") as following:

            def drained() -> bool:
                # Said again until it is seen: who follows may begin later than this.
                assert balancer.command("drain", "farm/a").returncode == 0
                seen = map(json.loads, following.out.split("\n")[:-1])
                return any(event.get("change") == "drain farm/a" for event in seen)

            following.until(drained, "the event to be followed")
