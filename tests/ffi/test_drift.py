"""Python's values and Rust's are the same ones: no field, no word on one side alone."""

import json
import re
import subprocess
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import UnionType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.json import decode, encode

from ffi.any_values import values
from harness.mailweir.rust_example import rust_example
from mailweir import _dataplane
from mailweir.spec import DesiredState
from mailweir.stats import (
    Admission,
    PoolConduct,
    RefusedSource,
    ServerStats,
    ServerTrouble,
    Session,
    Stats,
)

Echo = Callable[[bytes], str]


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    """What Rust makes of a line."""
    with _talking() as said:
        yield said


@contextmanager
def _talking() -> Iterator[Echo]:
    with subprocess.Popen(
        [rust_example("echo")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin
        assert stdout

        def said(line: bytes) -> str:
            stdin.write(line + b"\n")
            stdin.flush()
            return stdout.readline().decode()

        yield said
        stdin.close()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values(DesiredState))
def test_a_specification_comes_back_as_it_went(echo: Echo, state: DesiredState) -> None:
    line = encode(state)
    answer = echo(b"spec " + line)
    assert answer.startswith("{"), answer
    # The same fields on each side: one that Python lacks would be lost in the next step.
    assert json.loads(answer) == json.loads(line)
    assert decode(answer, type=DesiredState) == state


Told = tuple[
    Stats,
    list[ServerStats],
    list[PoolConduct],
    list[Session],
    list[ServerTrouble],
    Admission,
    list[RefusedSource],
]


@settings(deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_what_is_told_is_read_as_it_is(echo: Echo, number: int) -> None:
    answer = echo(f"told {number}".encode())
    assert answer.startswith("["), answer
    # Of a field that one side lacks, reading fails, or it isn't written again.
    assert json.loads(encode(decode(answer, type=Told))) == json.loads(answer)


Place = tuple[str | int, ...]


def _fields(kind: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every field of a type and of its parts, with its type; of a list the first."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        for name, hint in typing.get_type_hints(kind).items():
            yield (*place, name), hint
            yield from _fields(hint, (*place, name))
    elif typing.get_origin(kind) is UnionType:
        yield from _fields(typing.get_args(kind)[0], place)
    elif typing.get_origin(kind) is tuple:
        member = typing.get_args(kind)[0]
        if _is_enum(member):
            yield (*place, 0), member
        yield from _fields(member, (*place, 0))


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _told(place: Place) -> str:
    """As an error has it."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)[1:]


FIELDS = dict(_fields(DesiredState))
NAMED = [place for place in FIELDS if isinstance(place[-1], str)]
WORDS = {place: kind for place, kind in FIELDS.items() if _is_enum(kind)}


@pytest.fixture(scope="module")
def full() -> bytes:
    """A specification in which nothing is empty."""
    once = settings(phases=[Phase.generate], database=None, deadline=None)
    return encode(find(values(DesiredState, full=True), lambda _: True, settings=once))


def _parent(plain: Any, place: Place) -> Any:
    for step in place[:-1]:
        plain = plain[step]
    return plain


def _refusal(plain: Any) -> str:
    with pytest.raises(_dataplane.SpecError) as caught:
        _dataplane.check(spec=json.dumps(plain).encode())
    return str(caught.value)


@pytest.mark.parametrize("place", NAMED, ids=_told)
def test_a_field_is_needed_and_no_other_is_known(full: bytes, place: Place) -> None:
    name = place[-1]
    plain = json.loads(full)
    parent = _parent(plain, place)
    parent[f"{name}s"] = parent[name]
    assert f"unknown field `{name}s`" in _refusal(plain)
    del parent[f"{name}s"], parent[name]
    assert f"missing field `{name}`" in _refusal(plain)


@pytest.mark.parametrize("place", WORDS, ids=_told)
def test_both_know_the_same_words(full: bytes, place: Place) -> None:
    plain = json.loads(full)
    _parent(plain, place)[place[-1]] = "nonsense"
    refusal = _refusal(plain)
    assert refusal.startswith(f"{_told(place)}: unknown variant `nonsense`, expected ")
    known = re.findall("`([^`]*)`", refusal.partition("expected")[2])
    assert sorted(known) == sorted(WORDS[place])


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (("listeners", 0, "bind", 0), "localhost:25"),
        (("listeners", 0, "access", "deny", 0), "10.0.0.1/8"),
        (("listeners", 0, "access", "deny_code"), 550),
        (("listeners", 0, "timeouts", "connect"), -1.0),
        (("listeners", 0, "max_age"), 1e300),
        (("pools", 0, "servers", 0, "source", 0), "10.0.0.1:25"),
        (("pools", 0, "servers", 0, "weight"), "heavy"),
        (("log", "sessions"), "relative/path"),
    ],
    ids=str,
)
def test_a_refusal_names_the_place(full: bytes, place: Place, wrong: object) -> None:
    plain = json.loads(full)
    _parent(plain, place)[place[-1]] = wrong
    refusal = _refusal(plain)
    assert refusal.startswith(f"{_told(place)}: ")
    assert "line 1" not in refusal


def test_what_is_no_specification_is_refused(full: bytes) -> None:
    for wrong in (b"", b"{}", b"[]", full[:-1], full + b"x"):
        with pytest.raises(_dataplane.SpecError):
            _dataplane.check(spec=wrong)
