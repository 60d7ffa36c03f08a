"""What a scenario needs of the machine: installed where we may, else the test is skipped. Tests
that run beside each other install one after the other.

With CI set nothing may be missing: there the same is a failure, so that a scenario can't
silently stop being run.
"""

import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

_INSTALL_LIMIT = 600.0  # seconds
_APT = Path(tempfile.gettempdir()) / "mailweir-tests-apt"
_POLICY = Path("/usr/sbin/policy-rc.d")
_MOUNTS = Path("/proc/self/mountinfo")


def missing(what: str) -> NoReturn:
    """Skip this test since `what`; fail it in CI."""
    if os.environ.get("CI", "").lower() in ("", "0", "false"):
        pytest.skip(what)
    pytest.fail(f"{what} (a skip, which CI doesn't allow)", pytrace=False)


def needs(*packages: str) -> None:
    """Have these Debian packages. clang is what the extension was built with, or wasn't."""
    if "clang" in packages and not _has_kernel_path():
        missing("needs the kernel path, which the extension was built without; make setup says why")
    absent = [package for package in packages if package != "clang" and not _is_installed(package)]
    if not absent:
        return
    reason = f"needs the Debian packages {' '.join(absent)}"
    if shutil.which("apt-get") is None:
        missing(f"{reason}; this isn't Debian")
    if os.geteuid() != 0:
        missing(f"{reason}; only root can install them")
    problem = _install(tuple(absent))
    if problem:
        missing(f"{reason}, which can't be installed: {problem}")


def program(name: str) -> str:
    """The path of a program; those of administrators are seen without being one."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return found or missing(f"needs the program {name}")


def unpacked(package: str, directory: Path) -> Path:
    """Where the files of a Debian package are, below a folder; nothing is installed."""
    with _one_at_a_time():
        problem = _apt_get("download", package, folder=directory)
        if problem:  # the package lists may be absent or old
            problem = _apt_get("update") or _apt_get("download", package, folder=directory)
    if problem:
        missing(f"needs the Debian package {package}, which can't be had: {problem}")
    [archive] = directory.glob(f"{package}_*.deb")
    files = directory / package
    unpack = [program("dpkg-deb"), "--extract", str(archive), str(files)]
    subprocess.run(unpack, check=True, timeout=_INSTALL_LIMIT)
    return files


def private_mounts() -> list[str]:
    """The beginning of a command that runs with mounts nobody else sees, gone when it ends."""
    unshare = [program("unshare"), "--mount"]
    if os.geteuid() != 0:
        unshare.append("--map-root-user")
    trial = [*unshare, "mount", "-t", "tmpfs", "trial", "/mnt"]
    done = subprocess.run(trial, capture_output=True, text=True)
    if done.returncode:
        # The likeliest cause has words that tell nobody.
        mounts = _MOUNTS.read_text().splitlines()
        if not any(line.split()[4] == "/" for line in mounts):
            missing("needs mounts of its own, which nobody has in a chroot whose / isn't a mount")
        missing(f"needs to mount a tmpfs: {done.stderr.strip()}")
    return unshare


def _has_kernel_path() -> bool:
    from mailweir import _dataplane  # where it isn't built, others go on

    return _dataplane.kernel_path_is_built()


@functools.cache
def _is_installed(package: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, text=True).stdout == "installed"


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """With no other process of tests in here."""
    with _APT.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def _install(packages: tuple[str, ...]) -> str:
    """Why it went wrong, or nothing. Tried once for all tests."""
    install = ["install", "--yes", "--no-install-recommends", *packages]
    with _one_at_a_time(), _services_stay_off():
        problem = _apt_get(*install)
        if problem:  # the package lists may be absent or old
            problem = _apt_get("update") or _apt_get(*install)
    return problem


def _apt_get(*arguments: str, folder: Path | None = None) -> str:
    """Why it went wrong, or nothing."""
    command = ["apt-get", "--quiet", "--option", "DPkg::Lock::Timeout=120", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_INSTALL_LIMIT,
    )
    said = (done.stderr or done.stdout).strip()[-500:]
    return f"{' '.join(command)}: {said}" if done.returncode else ""


@contextmanager
def _services_stay_off() -> Iterator[None]:
    """Debian starts what it installs unless this file says no; tests start their own."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
