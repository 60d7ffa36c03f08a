//! Builds the program with clang. Without clang the crate builds all the same: cargo warns, `make
//! setup` says so, and the program says so when it is asked to load.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "bpf/flow.bpf.c";
/// What all is made with, as `.ci/venv` notes it: another clang may be an older file.
const TOOLS: &str = "../../.venv/.tools";

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    // A file that is missing counts as changed each time.
    if Path::new(TOOLS).exists() {
        println!("cargo::rerun-if-changed={TOOLS}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("flow.o");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let Some(program) = found(&clang) else {
        println!("cargo::warning=NO KERNEL PATH in this build: {clang} isn't there");
        // That file is missing: clang is looked for again each time.
        println!("cargo::rerun-if-changed={clang}");
        return fs::write(&out, b"");
    };
    println!("cargo::rerun-if-changed={}", program.display());
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let done = Command::new(&program)
        .args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf"])
        // The first with atomics that give what was there before (Linux 5.12; on arm64 5.18).
        .arg("-mcpu=v3")
        // Debian keeps asm/types.h there.
        .arg(format!("-I/usr/include/{arch}-linux-gnu"))
        .args(["-c", SOURCE, "-o"])
        .arg(&out)
        .output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(std::io::Error::other(format!("{clang} {SOURCE}: {said}")))
}

/// Where a program is; a name is looked for in PATH, a path is taken as it is.
fn found(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
