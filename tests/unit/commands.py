"""The command line in this process, and what it is answered."""

import sys
from typing import Any

import pytest

from mailweir import cli


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


def answering(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> None:
    monkeypatch.setattr("mailweir.admin.client.ask", lambda *_: answer)
