"""The command `mailweir demo`: its exit code, and the remedy where the extra is missing."""

import sys

import pytest
from click.testing import CliRunner

from mailweir import cli
from mailweir.demo import run as module
from mailweir.errors import Exit, MailweirError


@pytest.mark.parametrize("result", [Exit.OK, Exit.FAILURE])
def test_exit_code(monkeypatch: pytest.MonkeyPatch, result: Exit) -> None:
    asked: list[bool] = []

    def run(*, once: bool) -> Exit:
        asked.append(once)
        return result

    monkeypatch.setattr(module, "run", run)
    assert CliRunner().invoke(cli.commands, ["demo", "--once"]).exit_code == result
    assert CliRunner().invoke(cli.commands, ["demo"]).exit_code == result
    assert asked == [True, False]


@pytest.mark.parametrize("extra", ["aiosmtpd", "rich"])
def test_a_missing_extra_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == extra or "mailweir.demo" in n]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, extra, None)
    error = CliRunner().invoke(cli.commands, ["demo"]).exception
    assert isinstance(error, MailweirError)
    assert str(error) == (
        f"the demo needs {extra}, which isn't installed: pip install 'mailweir[demo]'"
    )


def test_another_missing_module_is_a_bug_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mailweir.demo.run")
    monkeypatch.setitem(sys.modules, "mailweir.demo.traffic", None)
    assert isinstance(CliRunner().invoke(cli.commands, ["demo"]).exception, ModuleNotFoundError)
