"""What `include` names: one configuration from many files, and every way that can go wrong."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mailweir.config import include
from mailweir.config.load import Loaded, load
from mailweir.config.reading import MAX_BYTES
from mailweir.config.whole import whole
from mailweir.errors import ConfigError
from unit.fakes import config

Farm = Callable[..., Path]

_POOL = "pools: {%s: {servers: {a: {address: 10.0.0.1:25, proxy: v2}}}}\n"
_LISTENER = "listeners: {%s: {bind: [192.0.2.1:%d], pool: %s}}\n"


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    """Writes files, by their names; the main one's path."""

    def write(main: str, **others: str) -> Path:
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        for name, content in others.items():
            (tmp_path / "conf.d" / f"{name}.yaml").write_text(content)
        file = tmp_path / "mailweir.yaml"
        file.write_text(main)
        return file

    return write


def problems(file: Path) -> list[str]:
    """What is said of it, with the folder left out."""
    with pytest.raises(ConfigError) as caught:
        load(file)
    return [str(one).replace(f"{file.parent}/", "") for one in caught.value.problems]


def test_a_folder_that_we_may_not_read_is_not_empty(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a reload would take its listeners away."""
    main = "include: [conf.d/*.yaml]\n" + _LISTENER % ("mx", 25, "farm") + _POOL % "farm"
    file = farm(main, a=_LISTENER % ("a", 26, "farm"))

    def refused(_: object) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "listdir", refused)
    assert problems(file) == [
        "mailweir.yaml:1:11: include.0: the folder conf.d can't be read: Permission denied"
    ]


def test_parts_of_many_files_are_one_configuration(farm: Farm) -> None:
    file = farm(
        "include: [conf.d/*.yaml, conf.d/b.yaml]\n" + _POOL % "first",
        b=_LISTENER % ("b", 26, "second") + _POOL % "second",
        a=_LISTENER % ("a", 25, "first"),
        empty="# nothing yet\n",
    )
    loaded = load(file)
    assert loaded.warnings == ()
    assert list(loaded.config.listeners) == ["a", "b"]
    assert list(loaded.config.pools) == ["first", "second"]
    # What is printed of it is one file.
    printed = whole(loaded.config)
    assert "include" not in printed
    assert config(json.dumps(printed)).listeners == loaded.config.listeners


def test_each_problem_is_where_it_stands(farm: Farm) -> None:
    file = farm(
        "workers: 0\ninclude: [conf.d/*.yaml]\n" + _POOL % "farm",
        a="pools:\n  other: {servers: {x: nohost:25}}\nlisteners: {}\n",
        b=_LISTENER % ("mx", 25, "frm") + "pools: {x: {balance: best}}\n",
    )
    assert [line.partition(": ")[0] for line in problems(file)] == [
        "mailweir.yaml:1:10",
        "conf.d/a.yaml:2:24",
        "conf.d/b.yaml:1:46",
        "conf.d/b.yaml:2:9",
        "conf.d/b.yaml:2:22",
    ]


def place_of(loaded: Loaded, path: tuple[str, ...]) -> str:
    problem = loaded.problem(path, "odd")
    return f"{os.path.basename(problem.file)}:{problem.line}"


def test_later_problems_are_placed_too(farm: Farm) -> None:
    file = farm(
        "include: [conf.d/a.yaml]\nstate_dir: /tmp/s\n" + _POOL % "farm",
        a="# first\n" + _LISTENER % ("mx", 25, "farm"),
    )
    loaded = load(file)
    assert place_of(loaded, ("state_dir",)) == "mailweir.yaml:2"
    # What is in listeners and pools isn't kept: of a large farm it is too much.
    assert place_of(loaded, ("listeners", "mx", "pool")) == "mailweir.yaml:1"


@pytest.mark.parametrize(
    ("included", "line"),
    [
        (
            "\n" + _POOL % "farm",
            "conf.d/a.yaml:2:9: pools.farm: is written twice, first at mailweir.yaml:3:9",
        ),
        (
            "workers: 2\n",
            "conf.d/a.yaml:1:1: workers: belongs in mailweir.yaml; an included file has"
            " `listeners` and `pools` alone",
        ),
        (
            "include: [b.yaml]\n",
            "conf.d/a.yaml:1:1: include: belongs in mailweir.yaml; an included file has"
            " `listeners` and `pools` alone",
        ),
        ("pool: {}\n", "conf.d/a.yaml:1:1: pool: unknown key; did you mean `pools`?"),
        ("pools: [a]\n", "conf.d/a.yaml:1:8: pools: must be a mapping (`name: value` lines)"),
        (
            "- a\n",
            "conf.d/a.yaml:1:1: an included file must be a mapping that begins with `listeners:`"
            " or `pools:`",
        ),
        ("pools: {a: b: c}\n", "conf.d/a.yaml:1:13: not valid YAML: "),
    ],
)
def test_what_an_included_file_can_not_have(farm: Farm, included: str, line: str) -> None:
    main = "include: [conf.d/a.yaml]\n" + _LISTENER % ("mx", 25, "farm") + _POOL % "farm"
    (found,) = problems(farm(main, a=included))
    assert found.startswith(line)


@pytest.mark.parametrize(
    ("patterns", "lines"),
    [
        ("[conf.d/none-*.yaml]", []),
        (
            "[none.d/*.yaml]",
            ["1:11: include.0: the folder none.d can't be read: No such file or directory"],
        ),
        ("[conf.d/none.yaml]", ["1:11: include.0: there is no file conf.d/none.yaml"]),
        ("[conf.d]", ["1:11: include.0: conf.d is no regular file"]),
        (
            "[conf.d/*.yaml, mailweir.yaml]",
            [
                "1:26: include.1: mailweir.yaml is this file itself; keep what it includes in"
                " another folder"
            ],
        ),
        (
            '["*.yaml"]',
            [
                "1:11: include.0: mailweir.yaml is this file itself; keep what it includes in"
                " another folder"
            ],
        ),
        (
            "[/*/*.yaml]",
            ["1:11: include.0: a wildcard can only be in the file's name, as in conf.d/*.yaml"],
        ),
        (
            '[7, "", "a\\0*"]',
            [
                "1:11: include.0: must be a file or a pattern such as conf.d/*.yaml, not 7",
                "1:14: include.1: must be a file or a pattern such as conf.d/*.yaml, not ''",
                "1:18: a character that can't be seen (U+0000) can't be in this file",
                r"1:18: include.2: must be a file or a pattern such as conf.d/*.yaml, not 'a\x00*'",
            ],
        ),
        ("conf.d", ['1:10: include: must be a list, as in ["one", "another"], not \'conf.d\'']),
    ],
)
def test_patterns(farm: Farm, patterns: str, lines: list[str]) -> None:
    file = farm(f"include: {patterns}\n" + _LISTENER % ("mx", 25, "farm") + _POOL % "farm", a="")
    if lines:
        assert problems(file) == [f"mailweir.yaml:{line}" for line in lines]
    else:
        assert load(file).warnings == ()


def test_a_folder_with_wildcards_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "it's [odd]*"
    folder.mkdir()
    (folder / "part.yaml").write_text(_POOL % "farm")
    file = folder / "main"
    file.write_text('include: ["*.yaml"]\n' + _LISTENER % ("mx", 25, "farm"))
    assert list(load(file).config.pools) == ["farm"]


def test_what_can_not_be_read(farm: Farm, tmp_path: Path) -> None:
    main = "include: [conf.d/*.yaml]\n" + _LISTENER % ("mx", 25, "farm") + _POOL % "farm"
    file = farm(main)
    os.mkfifo(tmp_path / "conf.d/fifo.yaml")
    assert problems(file) == ["mailweir.yaml:1:11: include.0: conf.d/fifo.yaml is no regular file"]
    (tmp_path / "conf.d/fifo.yaml").unlink()
    (tmp_path / "conf.d/bytes.yaml").write_bytes(b"pools:\n  \xff: 1\n")
    assert problems(file) == ["conf.d/bytes.yaml:2:3: isn't UTF-8 text"]


def test_all_files_share_one_limit(farm: Farm) -> None:
    main = "include: [conf.d/*.yaml]\n" + _LISTENER % ("mx", 25, "farm") + _POOL % "farm"
    most = f"# {'x' * 78}\n" * (MAX_BYTES * 3 // 5 // 81)
    assert load(farm(main, a=most)).warnings == ()
    assert problems(farm(main, a=most, b=most, c=most)) == [
        "conf.d/b.yaml: the configuration is larger than 4 MiB",
        "conf.d/c.yaml: the configuration is larger than 4 MiB",
    ]


def test_more_files_than_anybody_has(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(include, "MAX_INCLUDES", 2)
    main = "include: [conf.d/*.yaml]\n" + _LISTENER % ("mx", 25, "farm") + _POOL % "farm"
    assert load(farm(main, a="", b="")).warnings == ()
    assert problems(farm(main, a="", b="", c="")) == [
        "mailweir.yaml:1:11: include.0: more than 2 files; join some of them"
    ]


def test_an_alias_of_what_is_added_to_stays(farm: Farm) -> None:
    file = farm(
        "include: [conf.d/a.yaml]\nlisteners: &x {}\npools: *x\n",
        a=_LISTENER % ("mx", 25, "farm") + _POOL % "farm",
    )
    loaded = load(file)
    assert (list(loaded.config.listeners), list(loaded.config.pools)) == (["mx"], ["farm"])


@pytest.mark.parametrize(
    "secret",
    [
        "[client]\npassword: hunter2\n",
        "password: hunter2\npassword: hunter3\n",
        "root:$y$hunter2:19000:0:99999:7:::\n",
        "key: !hunter2 x\n",
        "key: *hunter2\n",
        "hunter2: {a: b: c}\n",
    ],
)
def test_nothing_is_told_of_a_file_that_is_no_part_of_a_configuration(
    farm: Farm, secret: str
) -> None:
    """It may be one that only root may read, and be told to whoever may have root check a file."""
    main = "include: [conf.d/a.yaml]\n" + _LISTENER % ("mx", 25, "farm") + _POOL % "farm"
    (found,) = problems(farm(main, a=secret))
    assert found.startswith("conf.d/a.yaml:")
    assert "hunter" not in found
    assert "password" not in found
