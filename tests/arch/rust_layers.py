"""The rules for Rust sources: who may use whom in the data plane, where `unsafe` may stand,
how files begin and end.

    PYTHONPATH=tests python -m arch.rust_layers [RUST-FOLDER]

prints what breaks them and exits 1 if anything does. A module may use those of the layers
below its own, and none beside it.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from arch.rust_source import tokens, uses

RUST = Path(__file__).resolve().parents[2] / "rust"

LAYERS = (
    "plane fuzz bench",
    "worker",
    "listener",
    "session",
    "seek stats",
    "admission select connect greet hello proxy_header farewell relay kernel_path",
    "limits smtp snapshot",
    "registry troubles",
    "roster",
    "server",
    "ports record holdings",
    "conduct",
    "metrics",
    "client",
    "spec sources",
    "scales answers",
    "sys moment occupancy doors tls hashing prefixes bounded panics",
)
HEIGHT = {module: -depth for depth, layer in enumerate(LAYERS) for module in layer.split()}
UNSAFE = ("core/src/sys.rs", "flow/src/sys.rs")
MAX_LINES = 500


def problems(rust: Path) -> list[str]:
    """What breaks the rules below `rust`, one line each."""
    found = []
    for file in sorted(rust.rglob("*.rs")):
        name = file.relative_to(rust).as_posix()
        source = file.read_text()
        found += [f"{name}: {problem}" for problem in _of_file(source)]
        if name not in UNSAFE:
            found += [
                f"{name}:{token.line}: `unsafe` outside sys.rs"
                for token in tokens(source)
                if token.text in ("unsafe", "unsafe_code")
            ]
        if name.startswith("core/src/") and name != "core/src/lib.rs":
            path = file.relative_to(rust / "core/src").with_suffix("").parts
            module = path[:-1] if path[-1] == "mod" else path
            found += [f"{name}:{problem}" for problem in _of_layers(source, module)]
    return found


def _of_file(source: str) -> Iterator[str]:
    if not source.startswith("//!"):
        yield "doesn't begin with what it is for (`//!`)"
    if (lines := source.count("\n")) > MAX_LINES:
        yield f"has {lines} lines, more than {MAX_LINES}"


def _of_layers(source: str, module: tuple[str, ...]) -> Iterator[str]:
    own = module[0]
    if own not in HEIGHT:
        yield f"1: {own} is in no layer; give it one in {Path(__file__).name}"
        return
    for use in uses(source, module):
        other = use.path[0] if use.path else "the crate's root"
        if other == own:
            continue
        if other not in HEIGHT:
            yield f"{use.line}: {own} uses {other}, which is in no layer"
        elif HEIGHT[other] >= HEIGHT[own]:
            where = "above" if HEIGHT[other] > HEIGHT[own] else "beside"
            yield f"{use.line}: {own} uses {other}, which is {where} it"


def main() -> int:
    """Prints and counts."""
    rust = Path(sys.argv[1]) if len(sys.argv) > 1 else RUST
    found = problems(rust)
    print("\n".join(found) or f"{len(list(rust.rglob('*.rs')))} Rust files keep the rules")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
