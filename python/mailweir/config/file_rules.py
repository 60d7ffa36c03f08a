"""What concerns the files and folders that a configuration names: that nothing is written over
what something else is in, and that they are what they are to be. Called by `load`.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from mailweir.config.check_keys import Check
from mailweir.config.finding import Finding
from mailweir.config.finding import Path as Place
from mailweir.config.model import Config
from mailweir.plainfile import is_open_to_others

# Of `state_dir`: the lock, operators' words, and what a pair keeps.
_LOCK = "lock"
_WORDS = "overrides.json"
# Targets of the session log that are no file.
_NO_FILE = ("off", "stderr", "syslog")


def file_findings(config: Config, read: Iterable[str]) -> Iterator[Finding]:
    """What is wrong or odd about them; the configuration itself was `read` from some."""
    yield from _state_dir(config.state_dir)
    if config.log.sessions not in _NO_FILE:
        yield from _session_log(config, read)
    yield from _of_checks(config)


def _state_dir(folder: Path) -> Iterator[Finding]:
    path = ("state_dir",)
    if os.path.realpath(folder) == "/":
        yield Finding(path, "can't be the root of the file system; make a folder for it")
        return
    found = _looked_at(folder)
    if found is None:
        return
    mode = found.st_mode
    if not stat.S_ISDIR(mode):
        yield Finding(path, f"{folder} is there and is no folder")
    elif mode & stat.S_IWOTH:
        yield Finding(
            path,
            f"anybody may write to {folder}, and keep mailweir from starting or put operators'"
            " words there; make a folder for it alone",
            warning=True,
        )


def _session_log(config: Config, read: Iterable[str]) -> Iterator[Finding]:
    path, log = ("log", "sessions"), config.log.sessions
    taken = {os.path.realpath(file): what for file, what in _others(config, read)}
    if what := taken.get(os.path.realpath(log)):
        yield Finding(path, f"{log} is {what}: the log would be written into it")
        return
    folder = os.path.dirname(log)
    if not os.path.isdir(folder):
        yield Finding(path, f"mailweir won't start where there is no folder {folder}", warning=True)
        return
    found = _looked_at(Path(log))
    if found is None or stat.S_ISREG(found.st_mode) or stat.S_ISCHR(found.st_mode):
        return
    kinds = {stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe"}
    kind = kinds.get(stat.S_IFMT(found.st_mode), "a device")
    yield Finding(path, f"{log} is {kind}; write the path of a file")


def _of_checks(config: Config) -> Iterator[Finding]:
    """Files without which a check can't be made. They may come later: it is told of, no more."""
    for name, pool in config.pools.items():
        at: Place = ("pools", name)
        checks: list[tuple[Place, Check]] = [((*at, "check"), pool.check)]
        checks += [((*at, "more_checks", key), one) for key, one in pool.more_checks.items()]
        for path, check in checks:
            for key in ("ca", "client_certificate", "password_file"):
                file = getattr(check, key)
                if file and (why := _unusable(file, secret=key == "password_file")):
                    yield Finding((*path, key), f"{file} {why}", warning=True)
            if check.arrives and (maildir := check.arrives.maildir):
                yield from _maildir((*path, "arrives", "maildir"), maildir)


def _maildir(path: Place, maildir: Path) -> Iterator[Finding]:
    found = _looked_at(maildir / "new")
    if found is None or not stat.S_ISDIR(found.st_mode):
        yield Finding(
            path,
            f"there is no folder {maildir / 'new'}: the check says nothing of servers until a first"
            " mail has come there",
            warning=True,
        )


def _unusable(file: Path, *, secret: bool) -> str:
    found = _looked_at(file)
    if found is None:
        return "isn't there, or can't be looked at: the check can't be made"
    if not stat.S_ISREG(found.st_mode):
        return "is no file: the check can't be made"
    if secret and is_open_to_others(found, file):
        return "can be read by others than its owner, and isn't used: chmod 400"
    return ""


def _others(config: Config, read: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Files that aren't for a log, and what each is."""
    yield from ((file, "the configuration") for file in read)
    for name, listener in config.listeners.items():
        for prefixes in (listener.allow, listener.deny, listener.limits.per_source.exempt):
            for entry in prefixes.entries:
                if entry.is_file:
                    yield entry.written, f"a list of prefixes of listener `{name}`"
    yield str(config.state_dir / _LOCK), "the lock in `state_dir`"
    yield str(config.state_dir / _WORDS), "what operators said, in `state_dir`"
    yield str(config.admin.socket), "`admin.socket`"
    if config.ha:
        yield str(config.ha.socket), "`ha.socket`"
        yield from (
            (str(file), f"key {number} of `ha.keys`") for number, file in config.ha.keys.items()
        )


def _looked_at(path: Path) -> os.stat_result | None:
    """None where nothing is there, or it can't be looked at."""
    try:
        return path.stat()
    except (OSError, ValueError):
        return None
