"""The lock that keeps a second process out."""

import os
from pathlib import Path

import pytest

from mailweir.errors import StartError
from mailweir.instance import give_back, only_instance


def test_the_second_one_is_told_who_holds_it(tmp_path: Path) -> None:
    with only_instance(tmp_path / "new"):
        with (
            pytest.raises(StartError, match=rf"runs already .*\(pid {os.getpid()}\)"),
            only_instance(tmp_path / "new"),
        ):
            pass
    with only_instance(tmp_path / "new"):
        pass


def test_a_longer_pid_of_before_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("99999999999\n")
    with only_instance(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StartError, match=r"state_dir: .*can't be written: Not a directory"),
        only_instance(tmp_path / "file" / "state"),
    ):
        pass


def test_a_process_that_takes_over_has_the_same_lock(tmp_path: Path) -> None:
    with only_instance(tmp_path) as first:
        with only_instance(tmp_path, held=os.dup(first)):
            give_back(first)
            with pytest.raises(StartError, match="runs already"), only_instance(tmp_path):
                pass
        # The second one had it alone.
        with only_instance(tmp_path):
            pass


def test_the_lock_of_another_folder_is_no_use(tmp_path: Path) -> None:
    with (
        only_instance(tmp_path / "a") as other,
        only_instance(tmp_path / "b", held=os.dup(other)),
        pytest.raises(StartError, match="runs already"),
        only_instance(tmp_path / "b"),
    ):
        pass
