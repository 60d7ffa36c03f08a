"""Arguments and exit codes, in processes of their own where imports count."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mailweir import cli
from mailweir.cli.shared import DEFAULT_SOCKET
from mailweir.config.sample import sample
from mailweir.config.schema import schema
from mailweir.errors import NotRunningError, PlaneError
from unit.fakes import MINIMAL

RELOADED = {
    "ok": True,
    "generation": 3,
    "message": "pool farm: server c added",
    "at": 1.0,
    "problems": [],
    "warnings": ["f.yaml:9:3: pools.spare: no listener uses this pool"],
}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `mailweir ARGUMENTS`."""
    before, sys.argv = sys.argv, ["mailweir", *arguments]
    try:
        with pytest.raises(SystemExit) as caught:
            cli.main()
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


@pytest.fixture(autouse=True)
def no_socket_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAILWEIR_SOCKET", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "f.yaml"
    path.write_text(MINIMAL)
    return path


def test_check(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "check", "-c", str(file)) == (
        0,
        f"{file}: ok, 1 listener, 1 pool, 2 servers\n",
        "",
    )
    assert run(capsys, "check", "-q", "-c", str(file)) == (0, "", "")


def test_check_of_a_bad_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(MINIMAL + "workers: 0\n  \t: x\n")
    code, out, err = run(capsys, "check", "-c", str(file))
    assert (code, out) == (78, "")
    assert err.startswith(f"{file}:11:")
    code, _, err = run(capsys, "check", "-c", f"{file}.none")
    assert (code, err) == (78, f"{file}.none: can't be read: No such file or directory\n")


def test_check_shows_warnings(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(MINIMAL + "  spare: {servers: {x: 10.0.0.9:25}}\n")
    warning = f"warning: {file}:10:10: pools.spare: no listener uses this pool\n"
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
    assert run(capsys, "check", "-c", str(file)) == (78, "", f"{file}: pool farm: odd\n")


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["check"], ["status", "extra"], ["demo", "extra"]]
)
def test_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(capsys, *arguments)[0] == 2


@pytest.mark.parametrize("command", ["status", "servers", "reload"])
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


def answering(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    monkeypatch.setattr("mailweir.admin.client.ask", lambda *_: answer)


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


def test_status_imports_nothing_heavy(tmp_path: Path) -> None:
    code = """
import sys
from mailweir.cli import main
try:
    main()
except SystemExit as end:
    heavy = {"pydantic", "aiohttp", "uvloop", "structlog", "yaml", "asyncio", "prometheus_client"}
    print(end.code, sorted(heavy & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, "status", "--socket", f"{tmp_path}/none.sock"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "3 []\n"


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
        (["drain", "farm/a", "--for", "2h"], "/api/v1/servers/farm/a/drain?for=7200000ms"),
        (["maint", "farm/a"], "/api/v1/servers/farm/a/maint"),
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
            return {"problem": "not kept"}
        return {"servers": [{"pool": "farm", "name": "a", "active": 1, "weight": 50}]}

    monkeypatch.setattr("mailweir.admin.client.ask", ask)
    code, out, err = run(capsys, *arguments)
    assert (code, told, err) == (0, [route], "warning: not kept\n")
    assert out.startswith(("farm/a ", "mx ", "every listener "))
