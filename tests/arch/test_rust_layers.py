"""The rules for Rust: kept by this checkout, and read right by our reader of Rust."""

import pytest

from arch import rust_layers, rust_tree
from arch.rust_source import tokens, uses


def test_this_checkout_keeps_the_rules() -> None:
    assert rust_layers.problems(rust_layers.RUST) == []


def test_the_data_plane_has_neither_python_nor_yaml() -> None:
    names = rust_tree.packages(rust_tree.WORKSPACE)
    assert {"mailweir-core", "tokio"} <= names
    assert rust_tree.banned(names) == []


@pytest.mark.parametrize(
    "name", ["pyo3", "pyo3-ffi", "python3-sys", "serde_yaml", "yaml-rust2", "serde_yml", "saphyr"]
)
def test_banned_names(name: str) -> None:
    assert rust_tree.banned({"tokio", name, "toml"}) == [name]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("use crate::server::Server;", ["server::Server"]),
        ("pub(crate) use crate::spec::{self, A as B};", ["spec", "spec::A"]),
        ("use crate::{\n    sys,\n    relay::{copy::*, splice},\n};", ["sys", "relay::copy::*"]),
        ("fn f(a: &crate::record::Record) -> u8 { crate::sys::f(1) }", ["record::Record"]),
        ("use super::plane::X;", ["plane::X"]),
        ("use self::inner::X;", ["select::inner::X"]),
        ("mod tests { use super::*; use super::super::plane; }", ["select::*", "plane"]),
        ("mod a { mod b {} use super::x; } use super::y;", ["select::x", "y"]),
        ("use r#crate::x; use tokio::net; pub(super) fn f(&self) {}", []),
        ("// crate::plane::X\n/// [`crate::plane`]\n//! crate::plane", []),
        ("/* crate::a::b /* crate::c::d */ crate::e::f */", []),
        ('let a = ("crate::a::b", r#"crate::"c"::d"#, b"\\"crate::e::f", b\'"\');', []),
        ("fn f<'a>(a: &'a str) { let b = '\"'; let c = '\\''; crate::sys::g(\"\") }", ["sys::g"]),
        ("macro_rules! m { () => { $crate::plane::x() } }", []),
    ],
)
def test_paths(source: str, expected: list[str]) -> None:
    found = ["::".join(use.path) for use in uses(source, ("select",))]
    assert found[: len(expected)] == expected
    assert bool(found) == bool(expected)


def test_paths_of_a_nested_module() -> None:
    found = uses("use super::pipes::Pipe;\n\nuse super::super::connect;", ("relay", "copy"))
    assert [(use.path, use.line) for use in found] == [
        (("relay", "pipes", "Pipe"), 1),
        (("connect",), 3),
    ]


def test_unsafe_is_a_word_of_its_own() -> None:
    source = '// unsafe\n#![deny(unsafe_op_in_unsafe_fn)]\nlet unsafety = "unsafe";\nunsafe {}'
    assert [token.line for token in tokens(source) if token.text == "unsafe"] == [4]
