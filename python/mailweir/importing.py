"""What libraries do while they are imported, and no process of ours has a use for: left out.

The command line imports within `cheaply()` what a process is made of. Everything is imported before
the process is ready, here too: an upgrade takes files away beneath one that lives.
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Seen by the libraries alone, and while they are imported.
_TOLD = {
    # OpenSSL: aiohttp's client reads the machine's certificates. Who uses it gives it a context of
    # its own.
    "SSL_CERT_FILE": os.devnull,
    "SSL_CERT_DIR": os.devnull,
    # pydantic looks for plugins among all that is installed. None belongs into a balancer.
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
}
# structlog imports it where it is there, for tracebacks that we don't show.
_NOT_WANTED = "rich"


@contextmanager
def cheaply() -> Iterator[None]:
    """For imports alone, while the process has one thread: the environment is another one within.

    What is imported stays until the process ends. It is looked through for garbage neither
    meanwhile, which is a tenth of the time, nor later.
    """
    before = {name: os.environ.get(name) for name in _TOLD}
    known = _NOT_WANTED in sys.modules
    gc.disable()
    os.environ.update(_TOLD)
    if not known:
        sys.modules[_NOT_WANTED] = None  # type: ignore[assignment]  # as if it weren't installed
    try:
        yield
    finally:
        if not known:
            del sys.modules[_NOT_WANTED]
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        gc.freeze()
        gc.enable()
