"""Certificates that end when a test says. Needs the package openssl."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from harness.needs import program
from harness.process import run

_CA = """\
[ca]
default_ca = own
[own]
database = {home}/index.txt
new_certs_dir = {home}
serial = {home}/serial
default_md = sha256
policy = any
x509_extensions = own_extensions
unique_subject = no
[any]
commonName = supplied
[own_extensions]
subjectAltName = DNS:{name}
basicConstraints = critical, CA:TRUE
"""


class Certificate(NamedTuple):
    """PEM files; who trusts the first one trusts it alone."""

    cert: Path
    key: Path


def certificate(directory: Path, name: str, *, days: float) -> Certificate:
    """A self-signed one for `name`, which ends in so many days, or ended as many ago."""
    home = directory / f"{name}-{days:g}"
    home.mkdir()
    (home / "index.txt").touch()
    (home / "serial").write_text("01\n")
    (home / "ca.cnf").write_text(_CA.format(home=home, name=name))
    cert, key, request = home / "cert.pem", home / "key.pem", home / "request.pem"
    now = datetime.now(UTC)
    begin, end = now - timedelta(days=400), now + timedelta(days=days)
    _openssl(
        *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request)),
    )
    _openssl(
        *("ca", "-batch", "-selfsign", "-notext", "-config", str(home / "ca.cnf")),
        *("-keyfile", str(key), "-in", str(request), "-out", str(cert)),
        *("-startdate", f"{begin:%Y%m%d%H%M%SZ}", "-enddate", f"{end:%Y%m%d%H%M%SZ}"),
    )
    return Certificate(cert, key)


def _openssl(*arguments: str) -> None:
    done = run([program("openssl"), *arguments])
    assert done.returncode == 0, done.stderr
