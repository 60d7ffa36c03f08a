//! `foreign`: SMTP clients and servers on a TCP stack that isn't Linux's (smoltcp), with habits that
//! Linux hasn't.
//!
//! It takes an interface by AF_PACKET and has addresses there of its own, which the kernel doesn't
//! know: so the kernel answers nothing in its name.

mod args;
mod client;
mod delay;
mod habits;
mod segment;
mod sink;
mod speech;
mod stack;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Mode};

fn main() -> ExitCode {
    let Args { place, mode } = Args::parse();
    let result = match &mode {
        Mode::Client(args) => client::run(&place, args),
        Mode::Sink(args) => sink::run(&place, args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("foreign: {error}");
        ExitCode::from(2)
    })
}

/// One line of JSON.
fn say(line: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
