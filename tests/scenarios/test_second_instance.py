"""A second process with the same `state_dir` is refused, whatever else differs."""

from pathlib import Path

from harness.clients.smtpload import Smtpload
from harness.mailweir.run import configuration, run_to_end, write
from scenarios.conftest import Start


def test_the_second_is_told_who_runs(tmp_path: Path, start: Start, smtpload: Smtpload) -> None:
    with smtpload.sink("server") as sink:
        config = configuration(tmp_path, {"a": sink.addresses[0]})
        balancer = start(config)
        other = {**config, "admin": {"socket": str(tmp_path / "other.sock"), "http": "off"}}
        write(tmp_path / "other.yaml", other)

        for file in (balancer.file, tmp_path / "other.yaml"):
            second = run_to_end(file)
            assert (second.returncode, second.stdout) == (1, "")
            assert second.stderr == (
                f"mailweir: mailweir runs already with state_dir {tmp_path}/state"
                f" (pid {balancer.pid}); stop it first, or give this one a `state_dir` of its own\n"
            )
        with smtpload.source("load", balancer.address(), "--sessions=1") as source:
            assert source.sent().acknowledged == 1
        assert not (tmp_path / "other.sock").exists()


def test_a_killed_one_leaves_no_lock(tmp_path: Path, start: Start, smtpload: Smtpload) -> None:
    with smtpload.sink("server") as sink:
        config = configuration(tmp_path, {"a": sink.addresses[0]})
        first = start(config)
        first.process.kill()
        with smtpload.source("load", start(config).address(), "--sessions=1") as source:
            assert source.sent().acknowledged == 1
