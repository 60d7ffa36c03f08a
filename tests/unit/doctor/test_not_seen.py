"""What an examination says that it couldn't see, by what was heard of servers."""

from dataclasses import replace
from pathlib import Path

import pytest

from mailweir.config.load import parse
from mailweir.doctor import examination, machine_facts
from mailweir.doctor.examination import examine
from mailweir.doctor.findings import Examined
from mailweir.doctor.machine_state import MachineFacts
from mailweir.doctor.opening import CLIENT4, IP, Opening
from mailweir.doctor.reply_words import TimedReply
from mailweir.doctor.sessions_heard import Looked
from mailweir.doctor.subject import Subject
from unit.doctor.subjects import heard
from unit.doctor.test_machine_verdict import WELL

DENIED = TimedReply(554, ("5.7.1 <x@example.com>: Relay access denied",))


def examined(
    patch: pytest.MonkeyPatch,
    looked: Looked,
    proxy: str = "off",
    more: str = "",
    pool: str = "farm",
) -> Examined:
    async def look(subject: Subject, source: IP | None, live: int) -> Looked:
        # The system's, where the file isn't there.
        assert subject.ca is None
        return looked

    patch.setattr(examination, "look", look)
    text = (
        'listeners: {mx: {bind: ["10.9.9.9:25"], pool: farm}}\n'
        f"pools: {{farm: {{servers: {{a: {{address: 10.0.0.1:25, proxy: {proxy}}}}}{more}}}}}\n"
    )
    return examine(parse(text, "test.yaml").config, pool or None, None, None)


def not_seen(
    patch: pytest.MonkeyPatch, looked: Looked, proxy: str = "off", more: str = ""
) -> list[str]:
    """Of servers; but for idle limits, which nobody sees."""
    found = examined(patch, looked, proxy, more)
    assert found.findings == ()
    return [one.why for one in found.not_seen if "idle limits" not in one.why]


def test_a_client_whose_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = TimedReply(504, ("5.5.2 <[192.0.2.1]>: Helo command\x1b rejected",))
    opening = Opening(heard("v2").opening.kind, CLIENT4)
    client = replace(heard("v2", recipient=refused), opening=opening, helo="[192.0.2.1]")
    [one] = not_seen(monkeypatch, Looked(heard("v2"), client), "v2")
    assert one.startswith("whether it relays: it refuses [192.0.2.1], the name that a client")
    assert "504 5.5.2" in one
    assert one.isprintable()


def test_postscreen_that_knows_us(monkeypatch: pytest.MonkeyPatch) -> None:
    [one] = not_seen(monkeypatch, Looked(heard(recipient=DENIED)))
    assert "whether postscreen is in front" in one
    exim = heard(recipient=DENIED, greeting=TimedReply(220, ("mx.farm.test ESMTP Exim 4.96",)))
    assert not_seen(monkeypatch, Looked(exim)) == []
    client = heard("v2", recipient=DENIED)
    assert not_seen(monkeypatch, Looked(heard("v2"), client), "v2") == []


def test_authorities_of_checks_that_can_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    client = heard("v2", recipient=DENIED)
    more = ", more_checks: {tls: {kind: starttls, ca: /nowhere/ca.pem}}"
    [one] = not_seen(monkeypatch, Looked(heard("v2"), client), "v2", more)
    assert "checks trust its certificate: /nowhere/ca.pem: No such file" in one


def test_a_process_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(pid: int | None, admin_socket: Path) -> MachineFacts:
        assert (pid, str(admin_socket)) == (None, "/run/mailweir/admin.sock")
        return replace(WELL, unasked=True)

    monkeypatch.setattr(machine_facts, "read", read)
    found = examined(monkeypatch, Looked(heard(recipient=DENIED)), pool="")
    [one] = [one.why for one in found.not_seen if one.where == "this machine"]
    assert "at /run/mailweir/admin.sock and doesn't answer you; ask as root" in one
