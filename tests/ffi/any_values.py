"""Any value of a type that is told across: what tests of both sides are filled with."""

import typing
from enum import Enum
from types import NoneType, UnionType
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import Struct

_IPS = st.ip_addresses(v=4) | st.ip_addresses(network="2001:db8::/32")
_PORTS = st.integers(0, 65535)
_ADDRESSES = st.builds(
    lambda ip, port: f"{ip}:{port}" if ip.version == 4 else f"[{ip}]:{port}", _IPS, _PORTS
)
_PREFIXES = st.sampled_from(["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::/0", "::1/128"])
# Names of the fields that take less than their type says.
_BY_NAME: dict[tuple[str, type], SearchStrategy[Any]] = {
    ("bind", str): _ADDRESSES,
    ("address", str): _ADDRESSES,
    ("source", str): _IPS.map(str),
    ("allow", str): _PREFIXES,
    ("deny", str): _PREFIXES,
    ("exempt", str): _PREFIXES,
    ("denied", str): _PREFIXES,
    ("sessions", str): st.sampled_from(["off", "stderr", "syslog", "/var/log/a b"]),
    ("deny_code", int): st.sampled_from([554, 421]),
    ("source_ports", int): _PORTS,
    ("prefix4", int): st.integers(0, 255),
    ("prefix6", int): st.integers(0, 255),
}
_BY_TYPE: dict[type, SearchStrategy[Any]] = {
    str: st.text(max_size=8),
    bool: st.booleans(),
    int: st.integers(0, 2**32 - 1),
    # Whole nanoseconds, and exact.
    float: st.integers(0, 2**30).map(lambda number: number / 512),
}


def values(kind: Any, name: str = "", *, full: bool = False) -> SearchStrategy[Any]:
    """Those of a type, in a field of that name; with `full` without None or empty lists."""
    if kind in _BY_TYPE:
        return _BY_NAME.get((name, kind), _BY_TYPE[kind])
    if isinstance(kind, type) and issubclass(kind, Struct):
        hints = typing.get_type_hints(kind).items()
        return st.builds(kind, **{name: values(hint, name, full=full) for name, hint in hints})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    parts = typing.get_args(kind)
    first = values(parts[0], name, full=full)
    if typing.get_origin(kind) is UnionType:
        assert parts[1:] == (NoneType,), kind
        return first if full else st.none() | first
    assert typing.get_origin(kind) is tuple, kind
    if parts[1:] != (Ellipsis,):
        return st.tuples(*[values(part, name, full=full) for part in parts])
    if issubclass(parts[0], Enum):
        # A set, in the order of its words.
        words = st.sets(first, min_size=full)
        return words.map(lambda some: tuple(word for word in parts[0] if word in some))
    return st.lists(first, min_size=full, max_size=3).map(tuple)
