"""A copy of the sources that is a later version: with one field more in the specification, in a
session's record, in the table that has it, and in what processes say to each other.

    python tests/installed/later_version.py FOLDER

`.ci/installed` builds a package of it, for an upgrade and the way back.
"""

import shutil
import subprocess
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).parents[2]
_EARLIER, VERSION = "0.1.0", "0.2.0"

# By file: what there is, once, and what comes behind it in the later version.
_ADDED: dict[str, list[tuple[str, str]]] = {
    "python/mailweir/spec.py": [("    half_closed: float\n", "    later: float = 1.0\n")],
    "rust/core/src/spec/mod.rs": [
        (
            "    pub half_closed: Duration,\n",
            '    #[serde(with = "wire::seconds")]\n    pub later: Duration,\n',
        )
    ],
    "rust/core/src/kernel_path/note.rs": [
        ("    tries: u8,\n", "    later: u32,\n"),
        ("outline.tried.len()).unwrap_or(u8::MAX),\n", "            later: 1,\n"),
        ("        let mut bytes = vec![];\n", "        bytes.extend(self.later.to_ne_bytes());\n"),
        (
            "        let mut rest = &bytes[..];\n",
            "        let later = u32::from_ne_bytes(take(&mut rest));\n",
        ),
        ("            tries,\n", "            later,\n"),
    ],
    "python/mailweir/upgrade/channel.py": [
        ("    stored: tuple[str, ...] = ()", "\n    later: int = 1"),
        ("    overrides: str\n", "    later: int = 1\n"),
        ("    version: str\n", "    later: int = 1\n"),
        # A message that the earlier version has never heard of.
        (
            '    """The session log\'s file was moved away."""\n',
            '\n\nclass Later(Struct, frozen=True, tag="later"):\n    pass\n',
        ),
        ("Message = Prepared | Go | Serves | Released | Remaining | End | Reopen", " | Later"),
        (
            "            sock=self._socket, limit=_LONGEST\n        )\n",
            "        self.say(Later())\n",
        ),
    ],
    "python/mailweir/state/overrides.py": [
        ("    version: Literal[1] = 1\n", "    later: int = 1\n"),
    ],
}
# What stands for it there.
_CHANGED: dict[str, list[tuple[str, str]]] = {
    "Cargo.toml": [(f'\nversion = "{_EARLIER}"\n', f'\nversion = "{VERSION}"\n')],
    "Cargo.lock": [
        (f'"mailweir-{part}"\nversion = "{_EARLIER}"', f'"mailweir-{part}"\nversion = "{VERSION}"')
        for part in ("core", "ffi", "flow", "testkit")
    ],
    "rust/flow/src/layout.rs": [
        ("pub const SCHEMA: u32 = 9;", "pub const SCHEMA: u32 = 10;"),
        ("pub const NOTE_SIZE: usize = 64;", "pub const NOTE_SIZE: usize = 72;"),
    ],
    "rust/flow/bpf/tables.h": [
        ("__u8 note[64];", "__u8 note[72];"),
        ("sizeof(struct flow) == 256", "sizeof(struct flow) == 264"),
    ],
}
FILES = (*_ADDED, *_CHANGED)


def later(file: str) -> str:
    """A file as the later version has it."""
    text = (_REPOSITORY / file).read_text()
    added = [(before, before + more) for before, more in _ADDED.get(file, [])]
    for before, after in added + _CHANGED.get(file, []):
        found = text.count(before)
        assert found == 1, f"{file} has {found} of {before!r}"
        text = text.replace(before, after)
    return text


def _copy(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "-C", _REPOSITORY, "ls-files", "-z"], capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split("\0")[:-1]:
        there = folder / name
        there.parent.mkdir(parents=True, exist_ok=True)
        if name in FILES:
            there.write_text(later(name))
        else:
            shutil.copy2(_REPOSITORY / name, there, follow_symlinks=False)


if __name__ == "__main__":
    _copy(Path(sys.argv[1]))
