"""`ssh` and `scp` for machines of a test, as far as a page of `docs` uses them; without secrets.

remote.py serve: runs what comes over TCP, on the machine that it runs on. By the name of ssh or scp
it is the other end: `ssh HOST COMMAND...`, `scp -p FILE... HOST:FOLDER/`. Standard library only.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

_HOSTS = {"a": "198.51.100.1", "b": "198.51.100.2"}
_PORT = 22


def serve() -> None:
    """Until it is killed; one command after the other."""
    with socket.create_server(("0.0.0.0", _PORT)) as door:  # noqa: S104 - a network of the test's
        print("ready", flush=True)
        while True:
            stream = door.accept()[0]
            with stream, stream.makefile("rwb") as lines:
                asked = json.loads(lines.readline())
                done = subprocess.run(
                    ["sh", "-c", asked["command"]],
                    input=bytes.fromhex(asked["told"]),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
                said = {"code": done.returncode, "said": done.stdout.decode()}
                lines.write(json.dumps(said).encode() + b"\n")


def call(host: str, command: str, told: bytes = b"") -> None:
    """Run it there; end as it ends, where that isn't well."""
    with socket.create_connection((_HOSTS[host], _PORT)) as stream, stream.makefile("rwb") as lines:
        lines.write(json.dumps({"command": command, "told": told.hex()}).encode() + b"\n")
        lines.flush()
        answer = json.loads(lines.readline())
    sys.stdout.write(answer["said"])
    if answer["code"]:
        sys.exit(answer["code"])


def copy(options: str, *arguments: str) -> None:
    """Files to a folder of another machine, with their modes."""
    assert options == "-p", options
    *files, there = arguments
    host, _, folder = there.partition(":")
    for file in map(Path, files):
        mode = oct(file.stat().st_mode & 0o777).removeprefix("0o")
        place = f"{folder}{file.name}"
        os.umask(0o077)
        call(host, f"umask 077; cat >{place} && chmod {mode} {place}", file.read_bytes())


if __name__ == "__main__":
    if Path(sys.argv[0]).name == "ssh":
        call(sys.argv[1], " ".join(sys.argv[2:]))
    elif Path(sys.argv[0]).name == "scp":
        copy(*sys.argv[1:])
    else:
        serve()
