//! `smtpload`: a source of SMTP load and a sink that takes it, to put a balancer between.

mod args;
mod open_files;
mod record;
mod session;
mod sink;
mod source;
mod tally;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Mode};

fn main() -> ExitCode {
    let Args { mode, json } = Args::parse();
    open_files::raise_limit();
    let result = match mode {
        Mode::Sink(args) => sink::run(&args, json),
        Mode::Source(args) => source::run(args, json),
    };
    result.unwrap_or_else(|error| {
        eprintln!("smtpload: {error}");
        ExitCode::from(2)
    })
}
