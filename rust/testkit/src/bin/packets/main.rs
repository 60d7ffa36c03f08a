//! `packets`: SMTP clients and servers that are packets alone, for as many sessions as sockets could
//! never be.
//!
//! Each takes an interface by AF_PACKET, and has addresses there that no kernel has. A server knows
//! nothing of its sessions: what comes in says what to answer. A client keeps some bytes of each.

mod args;
mod clients;
mod frame;
mod serve;
mod stop;
mod table;
mod tally;
mod wire;
mod words;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Args, Mode};

fn main() -> ExitCode {
    let result = match Args::parse().mode {
        Mode::Serve(args) => serve::run(&args),
        Mode::Clients(args) => clients::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("packets: {error}");
        ExitCode::from(2)
    })
}

/// One line of JSON.
fn say(line: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
