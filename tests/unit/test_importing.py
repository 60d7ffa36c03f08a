"""Imports within `cheaply`: what libraries see meanwhile, and that nothing of it is left."""

import gc
import importlib
import os
import sys
from collections.abc import Iterator

import pytest

from mailweir.importing import cheaply


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    """What is frozen here isn't kept from the collector in other tests."""
    yield
    gc.unfreeze()


def test_the_environment_is_another_within_and_the_same_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/of-somebody.pem")
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    before = dict(os.environ)
    with cheaply():
        assert os.environ["SSL_CERT_FILE"] == os.environ["SSL_CERT_DIR"] == os.devnull
    assert dict(os.environ) == before


def test_all_is_undone_where_an_import_fails() -> None:
    before, known = dict(os.environ), sys.modules.get("rich")
    with pytest.raises(ModuleNotFoundError), cheaply():
        importlib.import_module("no_such_module_anywhere")
    assert dict(os.environ) == before
    assert sys.modules.get("rich") is known
    assert gc.isenabled()


def test_what_is_not_wanted_counts_as_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    with cheaply(), pytest.raises(ModuleNotFoundError):
        importlib.import_module("rich")
    assert "rich" not in sys.modules
    importlib.import_module("rich")


def test_what_is_there_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.import_module("rich")
    with cheaply():
        assert importlib.import_module("rich") is there
    assert sys.modules["rich"] is there


def test_what_is_imported_is_no_garbage_to_be_looked_for() -> None:
    gc.unfreeze()
    with cheaply():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
