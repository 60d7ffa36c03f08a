"""Lists of prefixes and the files that they name: read once, and what is wrong has a place."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mailweir.config import prefixes
from mailweir.config.load import Loaded, load, parse
from mailweir.config.model import Config
from mailweir.config.words import Others
from mailweir.config.written import plain
from mailweir.errors import ConfigError
from unit.fakes import MINIMAL

_MANY = 100_000


def listening(keys: str) -> str:
    """A configuration whose listener has these keys too."""
    return MINIMAL.replace("pool: farm\n", f"pool: farm\n    {keys}\n", 1)


def loaded(keys: str) -> Loaded:
    return parse(listening(keys), "f.yaml")


def of_listener(found: Loaded) -> list[str]:
    """Its warnings, without their places."""
    warnings = [str(one).partition(": ")[2] for one in found.warnings]
    return [one for one in warnings if one.startswith("listeners.")]


def problems(keys: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(keys)
    return [str(one) for one in caught.value.problems]


def test_entries_and_files_are_one_list(tmp_path: Path) -> None:
    drop = tmp_path / "drop.txt"
    drop.write_bytes(
        b"\xef\xbb\xbf; Spamhaus DROP List \xa9\r\n192.0.2.0/24 ; SBL1\r\n"
        b"\n  # nothing\n\t2001:DB8::/32\n10.0.0.0/8#x\n192.0.2.0/24"
    )
    deny = loaded(f"deny: [10.0.0.0/8, {drop}, 192.0.2.1]").config.listeners["mx"].deny
    assert deny.every == ("10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "192.0.2.1/32")


def test_they_are_shown_as_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("192.0.2.0/24\n")
    running = loaded(
        f"allow: [10.0.0.1, {file}]\n    limits: {{per_source: {{rate: 5/s, exempt: [{file}]}}}}"
    ).config
    shown = plain(running)
    assert yaml.safe_dump(shown).count(str(file)) == 2
    assert shown["listeners"]["mx"]["allow"] == ["10.0.0.1", str(file)]  # type: ignore[index]
    assert parse(yaml.safe_dump(shown), "shown.yaml").config == running


def test_a_changed_file_is_a_changed_configuration(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("192.0.2.0/24\n")
    before = loaded(f"deny: [{file}]").config
    assert loaded(f"deny: [{file}]").config == before
    file.write_text("192.0.2.0/25\n")
    assert loaded(f"deny: [{file}]").config != before


def test_a_bad_line_has_its_place(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("192.0.2.0/24\n  10.1.0.0/8 ; x\n\n\x0bmx.example\n")
    # Named twice and told once; the main file's problems come first.
    assert problems(f"deny: [{file}]\n    allow: [{file}, 7]") == [
        f"f.yaml:6:{15 + len(str(file))}: listeners.mx.allow.1: must be a prefix or the absolute"
        " path of a file, not 7",
        f"{file}:2:3: 10.1.0.0/8 has bits behind its length; did you mean 10.0.0.0/8, or 10.1.0.0"
        " alone?",
        f"{file}:4:2: must be a prefix such as 10.0.0.0/8 or 2001:db8::/32",
    ]


def test_nothing_of_a_file_is_told_but_addresses(tmp_path: Path) -> None:
    """It may be one that only root may read, and be told to whoever may have root check a file."""
    file = tmp_path / "shadow"
    file.write_text(
        "root:$y$j9T$secret:19000:0:99999:7:::\nsecret/8\nsecret::1/8\nfe80::1%secret\n"
    )
    found = problems(f"deny: [{file}]")
    assert [line.removeprefix(f"{file}:") for line in found] == [
        "1:1: must be a prefix such as 10.0.0.0/8 or 2001:db8::/32",
        "2:1: must be a prefix such as 10.0.0.0/8 or 2001:db8::/32",
        "3:1: must be a prefix such as 10.0.0.0/8 or 2001:db8::/32",
        "4:1: addresses with a zone (%) can't be used",
    ]


def test_what_is_no_file_of_prefixes_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("nonsense\n" * 1000)
    found = problems(f"deny: [{file}]")
    assert len(found) == 11
    assert found[-1] == f"{file}:11:1: ... and more"


def test_files_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = "f.yaml:5:12: listeners.mx.deny.0: "
    assert problems("deny: [/no/such]") == [f"{place}there is no file /no/such"]
    assert problems(f"deny: [{tmp_path}]") == [
        f"{place}{tmp_path} can't be read: it is no regular file"
    ]
    assert problems('deny: ["/a\\0b"]') == [
        "f.yaml:5:12: a character that can't be seen (U+0000) can't be in this file",
        rf"{place}there is no file /a\x00b",
    ]
    os.mkfifo(tmp_path / "fifo")
    assert problems(f"deny: [{tmp_path}/fifo]") == [
        f"{place}{tmp_path}/fifo can't be read: it is no regular file"
    ]
    assert problems("deny: [drop.txt]") == [
        f"{place}must be a prefix such as 10.0.0.0/8 or 2001:db8::/32, not 'drop.txt';"
        " a file is named by its absolute path"
    ]
    (tmp_path / "large").write_text("192.0.2.0/24\n" * 10)
    monkeypatch.setattr(prefixes, "MAX_BYTES", 100)
    assert problems(f"deny: [{tmp_path}/large]") == [
        f"{place}{tmp_path}/large is too large: all files of prefixes may have 0 MiB"
    ]


def test_a_list_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "MAX_PREFIXES", 2)
    file = tmp_path / "list"
    file.write_text("192.0.2.1\n192.0.2.2\n192.0.2.1\n")
    assert loaded(f"deny: [{file}]").config.listeners["mx"].deny.every
    assert problems(f"deny: [{file}, 192.0.2.3]") == [
        "f.yaml:5:11: listeners.mx.deny: has 3 prefixes with its files; 2 is the most"
    ]


def test_they_are_for_load_alone() -> None:
    with pytest.raises(TypeError, match="by `load` alone"):
        Config.model_validate(yaml.safe_load(listening("deny: [10.0.0.0/8]")))


def test_a_prefix_that_both_lists_write() -> None:
    assert problems("allow: [10.0.0.0/8]\n    deny: [10.0.0.0/9, 10.0.0.0/8]") == [
        "f.yaml:6:24: listeners.mx.deny.1: 10.0.0.0/8 is in `allow` as well"
    ]


def test_a_file_does_not_undo_what_is_written(tmp_path: Path) -> None:
    file, other = tmp_path / "list", tmp_path / "other"
    file.write_text("".join(f"192.0.2.{number}\n" for number in range(6)))
    # Of both families, which can't be compared.
    other.write_text("198.51.100.0/24\n192.0.2.5\n2001:db8::/32\n")
    allow, deny = (
        f"[{file}, 198.51.100.0/24, '2001:db8::/32']",
        f"[192.0.2.0/24, 192.0.2.3, {other}]",
    )
    found = loaded(f"allow: {allow}\n    deny: {deny}\n    others: admit")
    allowed, denied = found.config.listeners["mx"].lists_in_effect
    assert allowed == (
        *(f"192.0.2.{number}/32" for number in (0, 1, 2, 4, 5)),
        "198.51.100.0/24",
        "2001:db8::/32",
    )
    assert denied == ("192.0.2.0/24", "192.0.2.3/32")
    assert of_listener(found) == [
        "listeners.mx.allow.0: 192.0.2.3/32 is in `deny` as well, and that counts",
        "listeners.mx.allow.2: no client has this address: the listener binds IPv4 alone",
        "listeners.mx.deny.2: 198.51.100.0/24, 192.0.2.5/32, 2001:db8::/32 are in `allow` as"
        " well, and that counts",
    ]


def test_a_file_with_nothing_in_it_is_told(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("# nothing yet\n")
    bad = tmp_path / "bad"
    bad.write_text("nothing good\n")
    with pytest.raises(ConfigError) as caught:
        loaded(f"deny: [192.0.2.1, {bad}]")
    assert "empty" not in str(caught.value.warnings)
    found = loaded(
        f"deny: [192.0.2.1, {file}]\n    limits: {{per_source: {{rate: 1/s, exempt: [{file}]}}}}"
    )
    assert of_listener(found) == [
        f"listeners.mx.{key}: {file} is empty: nobody is in it"
        for key in ("deny.1", "limits.per_source.exempt.0")
    ]


@pytest.mark.parametrize(
    ("lists", "place"),
    [
        ("allow: [10.0.0.0/8]\n    deny: [10.1.0.0/16]", "allow"),
        ("deny: ['::/0']", "deny"),
        ("others: refuse\n    allow: [10.0.0.0/8]", "others"),
    ],
)
def test_what_keeps_an_ip_version_out(lists: str, place: str) -> None:
    text = listening(lists).replace('["192.0.2.1:25"]', '["0.0.0.0:25", "[::]:25"]')
    found = parse(text, "f.yaml")
    assert of_listener(found) == [f"listeners.mx.{place}: no client of IPv6 is let in"]


def test_a_large_file_is_read_in_good_time(tmp_path: Path, counted: Callable[[str], None]) -> None:
    four = [f"{n >> 16}.{n >> 8 & 255}.{n & 255}.0/24" for n in range(1 << 16, (1 << 16) + _MANY)]
    six = [f"2001:{n >> 15:x}:{n % 32768 + 1:x}::/48" for n in range(1 << 15, (1 << 15) + _MANY)]
    for name, lines in (("IPv4", four), ("IPv6", six)):
        (tmp_path / name).write_text("".join(f"{line} ; SBL1\n" for line in lines))
        main = tmp_path / "mailweir.yaml"
        main.write_text(listening(f"deny: [{tmp_path / name}]"))
        began = time.process_time()
        deny = load(main).config.listeners["mx"].deny
        seconds = time.process_time() - began
        counted(f"{_MANY} prefixes of {name}: {seconds:.2f} s")
        assert list(deny.every) == lines
        assert seconds < 5


@pytest.mark.parametrize(
    ("lists", "others"),
    [
        ("deny: [192.0.2.0/24]", Others.ADMIT),
        ("allow: [10.0.0.0/8]", Others.REFUSE),
        # Exceptions of `deny`: of what it writes itself, whatever its files have.
        ("deny: [192.0.2.0/24, FILE], allow: [192.0.2.25, 192.0.2.64/26]", Others.ADMIT),
        ("deny: ['::/0', 0.0.0.0/0], allow: [192.0.2.25, '2001:db8::1']", Others.ADMIT),
        ("deny: [10.0.0.0/8, 10.1.2.0/24], allow: [10.1.0.0/16]", Others.ADMIT),
        # Holes in `allow`.
        ("allow: [10.0.0.0/8], deny: [10.1.0.0/16]", Others.REFUSE),
        ("allow: [10.0.0.0/8, 10.1.2.0/24], deny: [10.1.0.0/16]", Others.REFUSE),
        ("allow: [10.0.0.0/8, FILE], deny: [10.1.0.0/16]", Others.REFUSE),
        # Neither.
        ("allow: [192.0.2.25, 198.51.100.7], deny: [192.0.2.0/24]", None),
        ("allow: [10.0.0.0/8], deny: [192.0.2.0/24]", None),
        ("allow: [10.0.0.0/8], deny: [FILE]", None),
        ("allow: [FILE], deny: [192.0.2.0/24]", None),
        ("allow: ['2001:db8::1'], deny: [32.0.0.0/4]", None),
    ],
)
def test_what_becomes_of_clients_in_neither_list(
    tmp_path: Path, lists: str, others: Others | None
) -> None:
    file = tmp_path / "list"
    file.write_text("192.0.2.128/25\n10.1.3.0/24\n")
    keys = "\n    ".join(re.split(", (?=allow|deny)", lists.replace("FILE", str(file))))
    keys += "\n    limits: {dry_run: true}"  # where nobody is let in it is no error
    for word in Others:
        assert loaded(f"{keys}\n    others: {word}").config.listeners["mx"].others_in_effect is word
    if others is None:
        (problem,) = problems(keys)
        assert "listeners.mx.allow: together with `deny` this doesn't tell" in problem
    else:
        assert loaded(keys).config.listeners["mx"].others_in_effect is others
