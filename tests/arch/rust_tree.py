"""The data plane depends on neither Python nor YAML, not even through others.

    PYTHONPATH=tests python -m arch.rust_tree [WORKSPACE]

prints the packages of `mailweir-core`'s dependency tree that break this, and exits 1 then.
"""

import re
import subprocess
import sys
from pathlib import Path

WORKSPACE = Path(__file__).resolve().parents[2]
BANNED = re.compile(r"py(thon|o3)|ya?ml|saphyr|norway", re.IGNORECASE)


def packages(workspace: Path, lock: str = "--locked") -> set[str]:
    """Names of all that `mailweir-core` is built from, itself included."""
    argv = ["cargo", "tree", "--package=mailweir-core", "--edges=normal", "--prefix=none", lock]
    tree = subprocess.run(argv, cwd=workspace, check=True, capture_output=True, text=True)
    return {line.split()[0] for line in tree.stdout.splitlines() if line}


def banned(names: set[str]) -> list[str]:
    """Those that the data plane must not have."""
    return sorted(name for name in names if BANNED.search(name))


def main() -> int:
    """Prints and counts."""
    names = packages(Path(sys.argv[1]) if len(sys.argv) > 1 else WORKSPACE)
    found = banned(names)
    for name in found:
        print(f"mailweir-core depends on {name}")
    if not found:
        print(f"mailweir-core is built from {len(names)} packages, no Python or YAML among them")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
