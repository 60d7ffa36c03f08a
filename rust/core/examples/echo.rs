//! Says again what it is told, by tests that keep the values of Python and Rust the same.
//!
//! A line is a specification as JSON; the answer is the same line, as Rust writes it, or
//! `error: ...`.

use std::error::Error;
use std::io::{Write, stdin, stdout};

use mailweir_core::spec::{PlaneSpec, decode};

fn main() -> Result<(), Box<dyn Error>> {
    for line in stdin().lines() {
        let answer = match decode::<PlaneSpec>(line?.as_bytes()) {
            Ok(spec) => serde_json::to_string(&spec)?,
            Err(error) => format!("error: {error}"),
        };
        writeln!(stdout(), "{answer}")?;
    }
    Ok(())
}
