"""A certificate authority of a test's own, and certificates that are as a test wants them. Needs
openssl.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.needs import program
from harness.process import run

_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """Who trusts `root` trusts its certificates."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.root = folder / "root.pem"
        self._key = folder / "root.key"
        _openssl("req", "-x509", *_EC, "-days", "2", "-subj", "/CN=A root of a test", "-keyout",
                 self._key, "-out", self.root)  # fmt: skip

    def certificate(self, name: str, days: int) -> tuple[Path, Path]:
        """A certificate for a host, and its key, for so many days from now; negative: it has
        ended.
        """
        stem = f"{name}.{days}"
        cert, key, asked = (self._folder / f"{stem}.{suffix}" for suffix in ("pem", "key", "csr"))
        names = self._folder / f"{stem}.ext"
        names.write_text(f"subjectAltName=DNS:{name}\n")
        _openssl("req", "-new", *_EC, "-subj", f"/CN={name}", "-keyout", key, "-out", asked)
        _openssl("x509", "-req", "-in", asked, "-CA", self.root, "-CAkey", self._key, "-days", days,
                 "-CAcreateserial", "-extfile", names, "-out", cert)  # fmt: skip
        key.chmod(0o644)  # servers have users of their own
        return cert, key


@contextmanager
def authority() -> Iterator[Authority]:
    """One, in a folder that every user can read."""
    folder = Path(tempfile.mkdtemp(prefix="mailweir-authority-"))
    try:
        folder.chmod(0o755)
        yield Authority(folder)
    finally:
        shutil.rmtree(folder)


def _openssl(*arguments: object) -> None:
    done = run([program("openssl"), *map(str, arguments)])
    assert done.returncode == 0, done.stderr
