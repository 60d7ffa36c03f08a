"""The page of every key of the configuration, out of the model (`mailweir.config.keys`)."""

from collections.abc import Iterator

from generator import markdown
from generator.markdown import code
from mailweir.config.keys import Key, KeyGroup, parts
from mailweir.reload import FIXED, FIXED_BY_KERNEL_PATH

_ABOUT = """\
Every key of the configuration file, in the order of the file. To find a key, search this page for
its name. `*` stands for a name of your own, or for an entry of a list. Times are `500ms`, `30s`,
`5m`, `4h` or `1d`. Names have letters, digits and `.`, `_`, `-`, at most 64. A key that isn't known
is an error."""
_ELSEWHERE = """\
The same is in the manual page (`mailweir man mailweir.yaml`), in a whole file with every key
(`mailweir config sample`), and in a JSON Schema for editors (`mailweir config schema`).
[Configuring](../configuring.md) explains how the parts belong together."""
# Parts that have the keys of another part, and which.
_LIKE = {
    "pools.*.more_checks.*": "pools.*.check",
    "pools.*.more_checks.*.arrives": "pools.*.check.arrives",
}
# Keys that a reload can't change.
_RELOADS = {
    **{".".join(path): " Needs a restart." for path in FIXED},
    **{
        ".".join(path): " Needs a restart where there is a kernel path."
        for path in FIXED_BY_KERNEL_PATH
    },
}


def page() -> str:
    """As Markdown."""
    groups = {group.name: group for group in parts()}
    return markdown.page(
        "Configuration", _ABOUT, markdown.paragraph(_ELSEWHERE), *_sections(groups)
    )


def _sections(groups: dict[str, KeyGroup]) -> Iterator[str]:
    for name, group in groups.items():
        keys = [*_own(group, groups)]
        if keys:
            yield markdown.section(code(name) if name else "The process", group.about)
            yield from map(_entry, keys)


def _own(group: KeyGroup, groups: dict[str, KeyGroup]) -> Iterator[Key]:
    """The keys of a part; of one that is like another, those that differ."""
    like = _LIKE.get(group.name)
    others = {_said(key, like) for key in groups[like].keys} if like else set()
    return (key for key in group.keys if _said(key, group.name) not in others)


def _said(key: Key, part: str) -> tuple[str, ...]:
    return key.path.removeprefix(f"{part}."), key.values, key.default, key.what


def _entry(key: Key) -> str:
    head = f"**{code(key.path)}**: {key.values}. {key.default}{_RELOADS.get(key.path, '')}"
    return f"{markdown.item(head)}\n\n{markdown.indented(key.what)}"
