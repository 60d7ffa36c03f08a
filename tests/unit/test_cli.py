"""Arguments and exit codes, in processes of their own where imports count."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from mailweir import cli
from mailweir.cli.shared import DEFAULT_SOCKET
from mailweir.config.sample import sample
from mailweir.config.schema import schema
from mailweir.errors import NotRunningError, PlaneError
from unit.commands import answering, run
from unit.fakes import MINIMAL, STRANGERS

RELOADED = {
    "ok": True,
    "generation": 3,
    "message": "pool farm: server c added",
    "at": 1.0,
    "problems": [],
    "warnings": ["f.yaml:9:3: pools.spare: no listener uses this pool"],
}
ROW = {"pool": "farm", "name": "a", "active": 1, "weight": 50}
# At an address that every machine has.
_HERE = MINIMAL.replace("192.0.2.1:25", "127.0.0.1:25")


@pytest.fixture(autouse=True)
def no_socket_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAILWEIR_SOCKET", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.yaml"
    path.write_text(_HERE)
    return path


def test_check(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check", "-c", str(file)) == (
        0,
        f"{file}: ok, 1 listener, 1 pool, 2 servers\n",
        f"warning: {file}:8:7: pools.farm.servers: a, b {STRANGERS}\n",
    )
    assert run(capsys, "check", "-q", "-c", str(file)) == (0, "", "")


def test_check_of_a_bad_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(_HERE + "workers: 0\n  \t: x\n")
    code, out, err = run(capsys, "check", "-c", str(file))
    assert (code, out) == (78, "")
    assert err.startswith(f"{file}:11:")
    code, _, err = run(capsys, "check", "-c", f"{file}.none")
    assert (code, err) == (78, f"{file}.none: can't be read: No such file or directory\n")


def test_who_reads_a_file_says_whether_it_can(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line would end with the code of a wrong call."""

    def denied(*_: object) -> bool:
        return False

    monkeypatch.setattr("os.access", denied)
    assert run(capsys, "check", "-q", "-c", str(file)) == (0, "", "")


def test_check_shows_warnings(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(_HERE + "  spare: {servers: {x: 10.0.0.9:25}}\n")
    warning = (
        f"warning: {file}:8:7: pools.farm.servers: a, b {STRANGERS}\n"
        f"warning: {file}:10:10: pools.spare: no listener uses this pool\n"
    )
    code, out, err = run(capsys, "check", "-c", str(file))
    assert (code, err) == (0, warning)
    assert "2 pools" in out
    file.write_text(file.read_text() + "workers: 0\n")
    code, out, err = run(capsys, "check", "-c", str(file))
    assert code == 78
    assert err.startswith(warning)


def test_check_asks_the_data_plane_too(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise PlaneError("pool farm: odd")

    monkeypatch.setattr("mailweir.plane.check", refuse)
    warning = f"warning: {file}:8:7: pools.farm.servers: a, b {STRANGERS}\n"
    assert run(capsys, "check", "-c", str(file)) == (78, "", f"{warning}{file}: pool farm: odd\n")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["check"], ["status", "extra"], ["demo", "extra"]]
)
def test_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(capsys, *arguments)[0] == 2


@pytest.mark.parametrize("command", ["status", "servers", "reload", "healthcheck"])
def test_not_running(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, err = run(capsys, command, "--socket", f"{tmp_path}/none.sock")
    assert (code, out) == (3, "")
    assert err.startswith(f"mailweir: nobody answers at {tmp_path}/none.sock: mailweir isn't run")


def test_the_socket_comes_from_option_environment_or_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def ask(socket_path: str, *_: str) -> dict[str, Any]:
        asked.append(socket_path)
        raise NotRunningError("no")

    monkeypatch.setattr("mailweir.admin.client.ask", ask)
    runner = CliRunner()
    runner.invoke(cli.commands, ["status"])
    runner.invoke(cli.commands, ["status"], env={"MAILWEIR_SOCKET": "/e.sock"})
    runner.invoke(
        cli.commands, ["status", "--socket", "/o.sock"], env={"MAILWEIR_SOCKET": "/e.sock"}
    )
    assert asked == [DEFAULT_SOCKET, "/e.sock", "/o.sock"]


def test_reload(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answering(monkeypatch, RELOADED)
    assert run(capsys, "reload") == (
        0,
        "reloaded, generation 3: pool farm: server c added\n",
        "warning: f.yaml:9:3: pools.spare: no listener uses this pool\n",
    )
    code, out, _ = run(capsys, "reload", "--json")
    assert (code, json.loads(out)) == (0, RELOADED)


def test_a_refused_reload(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = {**RELOADED, "ok": False, "message": "bad", "warnings": []}
    answering(monkeypatch, {**refused, "problems": ["f.yaml:1:1: x: y"]})
    assert run(capsys, "reload") == (
        78,
        "",
        "f.yaml:1:1: x: y\nreload refused, the old configuration stays: bad\n",
    )
    answering(monkeypatch, refused)
    assert run(capsys, "reload")[0] == 1
    code, out, _ = run(capsys, "reload", "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)


def test_module_runs() -> None:
    done = subprocess.run([sys.executable, "-m", "mailweir", "--version"], capture_output=True)
    assert (done.returncode, done.stdout[:9]) == (0, b"mailweir,")


def test_config_is_printed_without_a_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "config", "sample") == (0, sample(), "")
    code, out, err = run(capsys, "config", "schema")
    assert (code, json.loads(out), err) == (0, schema(), "")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"changes": ["a", "b"], "problems": [], "warnings": []}, (0, "a\nb\n", "")),
        (
            {"changes": [], "problems": [], "warnings": ["w"]},
            (0, "nothing would change\n", "warning: w\n"),
        ),
        ({"changes": [], "problems": ["f:1:2: p"], "warnings": []}, (78, "", "f:1:2: p\n")),
    ],
)
def test_config_diff(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: dict[str, Any],
    expected: tuple[int, str, str],
) -> None:
    monkeypatch.setattr("mailweir.admin.client.ask", lambda *_: answer)
    assert run(capsys, "config", "diff") == expected


@pytest.mark.parametrize(
    ("arguments", "route"),
    [
        (["drain", "farm/a", "--for", "2h"], "/api/v1/servers/farm/a/drain?for=2h"),
        (["maint", "farm/a"], "/api/v1/servers/farm/a/maint"),
        (["drain", "farm/a", "--why", "new disk"], "/api/v1/servers/farm/a/drain?why=new+disk"),
        (["maint", "farm/a", "--why", "ü&"], "/api/v1/servers/farm/a/maint?why=%C3%BC%26"),
        (
            ["weight", "farm/a", "5", "--why", "slow"],
            "/api/v1/servers/farm/a/weight?weight=5&why=slow",
        ),
        (["pause", "mx", "--why", "spam"], "/api/v1/listeners/mx/pause?why=spam"),
        (["ready", "farm/a"], "/api/v1/servers/farm/a/ready"),
        (["weight", "farm/a", "50%"], "/api/v1/servers/farm/a/weight?weight=50%25"),
        (["weight", "farm/a", "own"], "/api/v1/servers/farm/a/own-weight"),
        (["pause"], "/api/v1/pause"),
        (["resume", "mx"], "/api/v1/listeners/mx/resume"),
    ],
)
def test_an_operators_words(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    route: str,
) -> None:
    told = []

    def ask(_: str, method: str, asked: str) -> dict[str, Any]:
        if method == "POST":
            told.append(asked)
            return {"what": "said", "by": "anna", "problem": "not kept"}
        assert asked == "/api/v1/servers/farm/a"
        return ROW

    monkeypatch.setattr("mailweir.admin.client.ask", ask)
    code, out, err = run(capsys, *arguments)
    assert (code, told, err) == (0, [route], "warning: not kept\n")
    assert out.startswith(("farm/a ", "mx ", "every listener "))
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, told, err) == (0, [route, route], "warning: not kept\n")
    of_server = {"server": ROW} if "farm/a" in arguments else {}
    answer = {"what": "said", "by": "anna", "problem": "not kept"}
    assert json.loads(out) == answer | of_server


@pytest.mark.parametrize(
    ("arguments", "route", "said"),
    [
        (["192.0.2.0/24"], "192.0.2.0%2F24", "192.0.2.0/24 is denied\n"),
        (
            ["192.0.2.0/24", "--for", "2h", "--why", "spam", "--end"],
            "192.0.2.0%2F24?for=2h&why=spam&end=1",
            "192.0.2.0/24 is denied (for 2h); 3 sessions told to end\n",
        ),
    ],
)
def test_a_deny(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    route: str,
    said: str,
) -> None:
    told = []

    def ask(_: str, method: str, asked: str) -> dict[str, Any]:
        told.append((method, asked))
        return {"prefix": "192.0.2.0/24", "ended": 3, "problem": ""}

    monkeypatch.setattr("mailweir.admin.client.ask", ask)
    assert run(capsys, "deny", *arguments) == (0, said, "")
    code, out, err = run(capsys, "deny", *arguments, "--json")
    assert (code, json.loads(out)["ended"], err) == (0, 3, "")
    assert told == [("POST", f"/api/v1/deny/{route}")] * 2


def test_an_undeny(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answering(monkeypatch, {"prefix": "192.0.2.7/32", "problem": "not kept"})
    said = "192.0.2.7/32 is denied by no operator any more\n"
    assert run(capsys, "undeny", "192.0.2.7") == (0, said, "warning: not kept\n")
    answering(monkeypatch, {"error": "no operator denied 192.0.2.7/32"})
    assert run(capsys, "undeny", "192.0.2.7")[0] == 1


def test_what_is_denied_is_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        {"what": "drain farm/a", "told": "by root"},
        {"what": "deny 192.0.2.0/24", "told": "by anna"},
        {"what": "deny 198.51.100.7/32", "told": "by root, for another 5m"},
    ]
    monkeypatch.setattr(
        "mailweir.admin.client.ask", lambda *_, **__: {"operator": {"words": words}}
    )
    command = cli.commands.commands["undeny"]
    context = click.Context(command)
    context.params["socket_path"] = "/x.sock"
    found = command.params[0].shell_complete(context, "19")
    assert [(one.value, one.help) for one in found] == [
        ("192.0.2.0/24", "by anna"),
        ("198.51.100.7/32", "by root, for another 5m"),
    ]


def test_an_emptied_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, {"problem": "", **ROW, "active": 0})
    code, out, err = run(capsys, "drain", "farm/a", "--wait")
    assert (code, err) == (0, "")
    assert out == "farm/a drains, 0 sessions\nfarm/a is empty after 0.0 s\n"
    code, out, err = run(capsys, "drain", "farm/a", "--wait", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["server"]["active"] == 0
    assert json.loads(out)["waited_seconds"] >= 0


def test_a_server_that_is_not_empty_in_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, {"problem": "", **ROW})
    wait = ("maint", "farm/a", "--wait", "--timeout", "1ms")
    still = "mailweir: farm/a still has 1 session after 0 s\n"
    assert run(capsys, *wait) == (1, "farm/a is in maintenance, 1 session\n", still)
    code, out, err = run(capsys, *wait, "--json")
    assert (code, err) == (1, still)
    assert json.loads(out)["server"]["active"] == 1


def test_kill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answering(monkeypatch, {"killed": "0f85"})
    assert run(capsys, "kill", "0f85") == (0, "0f85 ended\n", "")
    code, out, _ = run(capsys, "kill", "0f85", "--json")
    assert (code, json.loads(out)) == (0, {"killed": "0f85"})
    answering(monkeypatch, {"error": "no session 0f85 lives"})
    code, out, err = run(capsys, "kill", "0f85", "--json")
    assert (code, json.loads(out)) == (1, {"error": "no session 0f85 lives"})
    assert err == "mailweir: no session 0f85 lives\n"


def test_check_in_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = "1 listener, 1 pool, 2 servers"
    code, out, err = run(capsys, "check", "--json", "-c", str(file))
    warning = f"{file}:8:7: pools.farm.servers: a, b {STRANGERS}"
    assert (code, err) == (0, f"warning: {warning}\n")
    fine = {"file": str(file), "ok": True, "message": message, "problems": []}
    assert json.loads(out) == fine | {"warnings": [warning]}
    file.write_text(_HERE + "  spare: {servers: {x: 10.0.0.9:25}}\nworkers: 0\n")
    _, _, problems = run(capsys, "check", "-c", str(file))
    code, out, err = run(capsys, "check", "--json", "-c", str(file))
    assert (code, err) == (78, problems)
    answer = json.loads(out)
    assert (answer["ok"], answer["message"]) == (False, f"{file} has 1 problem(s)")
    shown = [f"warning: {one}" for one in answer["warnings"]] + answer["problems"]
    assert shown == problems.splitlines()


@pytest.mark.parametrize(
    ("left", "status", "flush"),
    [
        (None, "nothing is in the kernel\n", "removed, with 0 sessions\n"),
        ((1, 2, 0), "1 session in the kernel, 2 other places taken\n", "removed, with 1 session\n"),
        (
            (1, 2, 3),
            "1 session in the kernel, 2 other places taken, 3 sessions of another version\n",
            "removed, with 4 sessions\n",
        ),
    ],
)
def test_what_is_in_the_kernel(
    file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    left: tuple[int, int, int] | None,
    status: str,
    flush: str,
) -> None:
    file.write_text(f"{MINIMAL}state_dir: {file.parent}/state\n")
    monkeypatch.setattr("mailweir.plane.kernel_path_left", lambda _: left)
    monkeypatch.setattr("mailweir.plane.kernel_path_flush", lambda _: None)
    counts = {"flows": 1, "places_taken": 3, "earlier": left[2]} if left else None
    for command, said, key in (("status", status, "kernel_path"), ("flush", flush, "removed")):
        assert run(capsys, "kernel-path", command, "-c", str(file)) == (0, said, "")
        code, out, err = run(capsys, "kernel-path", command, "--json", "-c", str(file))
        assert (code, json.loads(out), err) == (0, {key: counts}, "")


def test_every_command_that_tells_something_has_json() -> None:
    # These run, print a file, or end with a sentence for people.
    others = {"run", "witness", "demo", "sample", "schema", "completion", "man"}
    without = set()
    groups: list[click.Group] = [cli.commands]
    for group in groups:
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                groups.append(command)
            elif not any("--json" in parameter.opts for parameter in command.params):
                without.add(name)
    assert without == others


@pytest.mark.parametrize("role", ["active", "backup", "fault", "stopped"])
def test_what_keepalived_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    told: list[tuple[str, ...]] = []

    def ask(*asked: str) -> dict[str, Any]:
        told.append(asked)
        return {"role": role, "by": "keepalived", "changed": True}

    monkeypatch.setattr("mailweir.admin.client.ask", ask)
    assert run(capsys, "ha", "notify", role) == (0, f"this node is {role}\n", "")
    assert told == [(DEFAULT_SOCKET, "POST", f"/api/v1/ha/{role}?by=keepalived")]
    code, out, _ = run(capsys, "ha", "notify", role, "--json")
    assert (code, json.loads(out)["role"]) == (0, role)
    code, _, err = run(capsys, "ha", "notify", role.upper())
    assert code == 2
    assert "'active', 'backup', 'fault', 'stopped'" in err


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["servers"],
        ["sessions"],
        ["events"],
        ["explain", "192.0.2.1"],
        ["refused"],
        ["healthcheck"],
        ["reload"],
        ["drain", "farm/a"],
        ["pause"],
        ["deny", "192.0.2.1"],
        ["config", "show"],
        ["config", "diff"],
        ["ha", "status"],
        ["ha", "notify", "active"],
    ],
    ids=" ".join,
)
def test_a_failure_is_json_where_that_is_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """Nobody answers at this socket."""
    code, out, err = run(capsys, *command, "--json", "--socket", str(tmp_path / "none.sock"))
    told = json.loads(out)
    assert (code, list(told)) == (3, ["error"])
    assert told["error"].startswith("nobody answers at ")
    assert err == f"mailweir: {told['error']}\n"


def test_a_bad_file_is_json_where_that_is_wanted(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(_HERE + "workers: 0\n")
    code, out, _ = run(capsys, "check", "-c", str(file), "--json")
    assert (code, json.loads(out)["ok"], len(json.loads(out)["problems"])) == (78, False, 1)
    code, out, _ = run(capsys, "kernel-path", "status", "-c", str(file), "--json")
    assert (code, len(json.loads(out)["problems"])) == (78, 1)
