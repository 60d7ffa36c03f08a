"""What operators say: it counts at once, outlives a kill, and ends when it was to end."""

import pwd
import re
import signal
import socket
from contextlib import suppress
from html import escape
from pathlib import Path

import pytest

from harness.clients.dialogue import Address, Client
from harness.clients.smtpload import Smtpload
from harness.mailweir.run import Mailweir, configuration, mailweir
from harness.needs import private_mounts
from harness.waiting import until
from scenarios.conftest import Start

_FAST = {"every": "500ms", "fast": "100ms", "rise": 1, "fall": 1}


def test_words_outlive_a_kill(tmp_path: Path, smtpload: Smtpload) -> None:
    with smtpload.sink("a") as a, smtpload.sink("b") as b, smtpload.sink("c") as c:
        servers = {"a": a.addresses[0], "b": b.addresses[0], "c": c.addresses[0]}
        config = configuration(tmp_path, servers, check=_FAST)
        with mailweir(tmp_path, config) as balancer:
            _say(balancer, "drain", "farm/a")
            _say(balancer, "maint", "farm/b")
            _say(balancer, "weight", "farm/c", "50%", "--for", "1h")
            _is_as_said(balancer)
            balancer.process.send(signal.SIGKILL)
            balancer.process.wait()
        with mailweir(tmp_path, config) as balancer:
            # In use from the first moment on as the operator said, not after a while.
            _is_as_said(balancer)
            _takes_sessions(balancer.address())
            assert {name for name, one in balancer.servers().items() if one["sessions"]} == {"c"}
            for word in ("ready farm/a", "ready farm/b", "weight farm/c own"):
                _say(balancer, *word.split())
            until(lambda: balancer.server_is("b", "up"), "a check of what was in maintenance")
            assert balancer.server_is("a", "up")
            assert balancer.servers()["c"]["weight"] == 100
            assert balancer.status()["operator"]["words"] == []


def test_a_paused_listener_says_so(tmp_path: Path, start: Start, smtpload: Smtpload) -> None:
    with smtpload.sink("a") as sink:
        config = configuration(tmp_path, {"a": sink.addresses[0]}, check=_FAST)
        config["listeners"]["msa"] = {**config["listeners"]["mx"]}
        balancer = start(config)
        until(lambda: balancer.server_is("a", "up"), "the server to be up")
        with Client(balancer.address("mx")) as client:
            client.expect("220")
            assert _say(balancer, "pause", "mx") == "mx refuses new sessions\n"
            assert balancer.metric("mailweir_listener_paused", listener="mx") == 1
            _refuses(balancer.address("mx"))
            _takes_sessions(balancer.address("msa"))
            assert balancer.status()["ready"]
            # Who was there goes on.
            client.expect("250", "EHLO c")
            client.expect("221", "QUIT")
        _say(balancer, "pause")
        _refuses(balancer.address("msa"))
        (reason,) = balancer.status()["reasons"]
        assert reason.startswith("paused by ")
        resumed = balancer.command("resume")
        assert (resumed.returncode, "`mailweir resume mx`" in resumed.stderr) == (0, True)
        _takes_sessions(balancer.address("msa"))
        _refuses(balancer.address("mx"))
        _say(balancer, "resume", "mx")
        _takes_sessions(balancer.address("mx"))
        until(lambda: balancer.ended("paused") == 2, "the refused to be counted")


def test_a_word_ends_by_itself(tmp_path: Path, start: Start, smtpload: Smtpload) -> None:
    with smtpload.sink("a") as a, smtpload.sink("b") as b:
        servers = {"a": a.addresses[0], "b": b.addresses[0]}
        balancer = start(configuration(tmp_path, servers, check=_FAST))
        until(lambda: balancer.server_is("b", "up"), "a server that is left")
        _say(balancer, "drain", "farm/a", "--for", "2s")
        assert balancer.server_is("a", "drain")
        until(lambda: balancer.server_is("a", "up"), "the drain to end")


def test_who_said_it_when_and_why(
    tmp_path: Path, smtpload: Smtpload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "alice")
    why = 'disk <b>full</b> \x1b[31m"'
    with smtpload.sink("a") as a, smtpload.sink("b") as b:
        servers = {"a": a.addresses[0], "b": b.addresses[0]}
        config = configuration(tmp_path, servers, check=_FAST)
        with mailweir(tmp_path, config) as balancer:
            _say(balancer, "drain", "farm/a", "--why", why)
            word = balancer.status()["operator"]["words"][0]
            assert (word["what"], word["behind"]) == ("drain farm/a", _behind(word["by"]))
            assert "\x1b" not in _say(balancer, "events")
            assert word["why"] in _say(balancer, "events").replace('\\"', '"').replace(r"\\", "\\")
            balancer.process.send(signal.SIGKILL)
            balancer.process.wait()
        with mailweir(tmp_path, config) as balancer:
            said = f"by {word['by']} ({word['behind']}) "
            for shown in (_say(balancer, "servers"), _say(balancer, "status")):
                assert re.search(
                    rf"{re.escape(said)}\d+s ago: disk <b>full</b> \\x1b\[31m\"", shown
                )
            page = balancer.page("/")
            assert escape(said) in page
            assert "disk &lt;b&gt;full&lt;/b&gt; \\x1b[31m&quot;</td>" in page
            refused = balancer.command("drain", "farm/a", "--why", "x" * 201)
            assert (refused.returncode, refused.stderr) == (
                1,
                "mailweir: why: has 201 characters, and may have 200\n",
            )


def _behind(user: str) -> str:
    """Who is behind the commands of this test: where somebody logged in to run it, that one."""
    login = int(Path("/proc/self/loginuid").read_text())
    if login == 2**32 - 1:
        return "sudo: alice"
    name = pwd.getpwuid(login).pw_name
    return "" if name == user else f"login: {name}"


def test_a_full_disk_is_said_and_the_word_counts(
    tmp_path: Path, start: Start, smtpload: Smtpload
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    small = 'mount -t tmpfs -o size=64k none "$0" && exec "$@"'
    with smtpload.sink("a") as sink:
        config = configuration(tmp_path, {"a": sink.addresses[0]}, check=_FAST)
        balancer = start(config, [*private_mounts(), "sh", "-c", small, state])
        # Its own file system, which nobody sees but itself.
        ballast = Path(f"/proc/{balancer.pid}/root{state}/ballast")
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        said = balancer.command("drain", "farm/a")
        assert said.returncode == 0
        assert "overrides.json can't be written: No space left on device" in said.stderr
        assert balancer.server_is("a", "drain")
        assert "NOT KEPT FOR A RESTART" in balancer.command("status").stdout


def _say(balancer: Mailweir, *words: str) -> str:
    said = balancer.command(*words)
    assert (said.returncode, said.stderr) == (0, "")
    return said.stdout


def _is_as_said(balancer: Mailweir) -> None:
    servers = balancer.servers()
    assert [servers[name]["state"] for name in ("a", "b")] == ["drain", "maint"]
    assert servers["b"]["check"] is None
    assert servers["c"]["weight"] == 50
    assert re.fullmatch(
        r"weight 50% by \w+ \d+s ago, for another (1h|60m|59m)", servers["c"]["operator"]
    )


def _takes_sessions(address: Address) -> None:
    with Client(address) as client:
        client.expect("220")
        client.expect("221", "QUIT")


def _refuses(address: Address) -> None:
    with Client(address) as client:
        line = f"421 4.3.2 {socket.gethostname()} the service is paused, try again later"
        assert client.line() == line
        assert client.rest() == b""
