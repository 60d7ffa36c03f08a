"""Debian's Postfix: an instance of its own in a folder, and its smtp-sink.

Needs the packages postfix and openssl.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.machine.proc import listening_ports
from harness.needs import missing, program
from harness.process import Running, run, running
from harness.waiting import LIMIT, until

DOMAIN = "farm.test"
# Debian's nobody, who owns the mail that is delivered.
_NOBODY = 65534

_MAIN = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/mail.log
maillog_file_prefixes = {home}
myhostname = mx.{domain}
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
message_size_limit = 104857600
mailbox_size_limit = 0
virtual_mailbox_limit = 0
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {home}/mail
virtual_mailbox_maps = static:box/
virtual_uid_maps = static:{nobody}
virtual_gid_maps = static:{nobody}
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_cert_file = {home}/cert.pem
smtpd_tls_key_file = {home}/key.pem
smtpd_tls_loglevel = 1
"""

# Port 0: the kernel's choice, read from /proc afterwards.
SMTPD = "127.0.0.1:0 inet  n - n - -     smtpd"
# A postscreen in its place, which waits for who talks early; where it learns of clients by PROXY.
POSTSCREEN = (
    "127.0.0.1:0 inet  n - n - 1     postscreen",
    "smtpd      pass   - - n - -     smtpd",
    "tlsproxy   unix   - - n - 0     tlsproxy",
    "dnsblog    unix   - - n - 0     dnsblog",
)
POSTSCREEN_SETTINGS = {
    "postscreen_upstream_proxy_protocol": "haproxy",
    "postscreen_greet_banner": "wait for it",
    "postscreen_greet_wait": "6s",
    "postscreen_greet_action": "enforce",
    # Its own networks, which loopback is in, are let through unseen otherwise.
    "postscreen_access_list": "",
    "smtpd_peername_lookup": "no",
}

_MASTER = """\
pickup     unix   n - n 60 1    pickup
cleanup    unix   n - n - 0     cleanup
qmgr       unix   n - n 300 1   qmgr
tlsmgr     unix   - - n 1000? 1 tlsmgr
rewrite    unix   - - n - -     trivial-rewrite
bounce     unix   - - n - 0     bounce
defer      unix   - - n - 0     bounce
trace      unix   - - n - 0     bounce
error      unix   - - n - -     error
retry      unix   - - n - -     error
proxymap   unix   - - n - -     proxymap
smtp       unix   - - n - -     smtp
virtual    unix   - n n - -     virtual
anvil      unix   - - n - 1     anvil
postlog    unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """The instance while it runs."""

    def __init__(self, home: Path, process: Running, services: int) -> None:
        self._home = home

        def listening() -> list[int]:
            found = listening_ports(process.pid)
            return found if len(found) == services else []

        # In the order of its services.
        self.ports = process.until(listening, "Postfix to listen")
        self.address = f"127.0.0.1:{self.ports[0]}"

    @property
    def log(self) -> str:
        """Its mail log so far."""
        return (self._home / "mail.log").read_text()

    @property
    def box(self) -> Path:
        """The maildir that mails for DOMAIN are delivered to; made for the first one."""
        return self._home / "mail" / "box"

    def flush(self) -> None:
        """Try to deliver everything that waits, now."""
        done = run([program("postqueue"), "-c", str(self._home), "-f"])
        assert done.returncode == 0, done.stderr

    def delivered(self, number: int) -> list[bytes]:
        """The mails in the box, in the order of arrival, once there are `number`."""
        box = self.box / "new"

        def arrived() -> list[Path]:
            files = sorted(box.glob("*"), key=lambda file: file.stat().st_mtime_ns)
            return files if len(files) >= number else []

        return [file.read_bytes() for file in until(arrived, f"{number} mails in the box")]


@contextmanager
def postfix(
    directory: Path,
    *,
    services: Sequence[str] = (SMTPD,),
    settings: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
) -> Iterator[Postfix]:
    """A Postfix with STARTTLS that delivers mail for DOMAIN to one box.

    `services` are the lines of master.cf that take mail; `settings` go over those of main.cf;
    `before` begins the command, and goes on as the same process.
    """
    if os.geteuid() != 0:
        missing("needs root, to run Postfix")
    # Not below pytest's folder: the users that Postfix becomes can't enter that.
    home = Path(tempfile.mkdtemp(prefix="mailweir-postfix-"))
    try:
        home.chmod(0o755)
        _prepare(home, services, settings or {}, before)
        master = [*before, program_of_postfix("master"), "-c", str(home), "-s"]
        with running(master, directory, "postfix") as process:
            listening = [line for line in services if line.split()[1] == "inet"]
            yield Postfix(home, process, len(listening))
    finally:
        shutil.rmtree(home)


@contextmanager
def smtp_sink(directory: Path, name: str) -> Iterator[str]:
    """Postfix's own test server; yields its address."""
    user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to be root
    sink = [program("smtp-sink"), *user, "127.0.0.1:0", "1000"]
    with running(sink, directory, name) as process:
        ports = process.until(lambda: listening_ports(process.pid), "smtp-sink to listen")
        yield f"127.0.0.1:{ports[0]}"


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for `name` and its key."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    made = run(
        [
            *(program("openssl"), "req", "-x509", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", key, "-out", cert),
        ]
    )
    assert made.returncode == 0, made.stderr
    return cert, key


def program_of_postfix(name: str) -> str:
    """The path of one of Postfix's daemons."""
    folder = run([program("postconf"), "-d", "-h", "daemon_directory"]).stdout.strip()
    path = Path(folder, name)
    return str(path) if path.exists() else missing(f"needs {path}")


def _prepare(
    home: Path, services: Sequence[str], settings: Mapping[str, str], before: Sequence[str]
) -> None:
    certificate(home, f"mx.{DOMAIN}")
    lines = _MAIN.format(home=home, domain=DOMAIN, nobody=_NOBODY).splitlines()
    # It warns of a setting that is given twice.
    kept = [line for line in lines if line.partition(" ")[0] not in settings]
    given = [f"{name} = {value}" for name, value in settings.items()]
    (home / "main.cf").write_text("\n".join([*kept, *given, ""]))
    (home / "master.cf").write_text("\n".join([*services, _MASTER]))
    for name, owner in (("queue", "root"), ("data", "postfix"), ("mail", "nobody")):
        (home / name).mkdir()
        shutil.chown(home / name, owner)
    checked = run([*before, program("postfix"), "-c", str(home), "check"], limit=2 * LIMIT)
    assert checked.returncode == 0, checked.stderr
