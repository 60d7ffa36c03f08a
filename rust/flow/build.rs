//! Builds the program with clang. Without clang the crate builds all the same: it says so when it
//! is asked to load.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "bpf/flow.bpf.c";

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("flow.o");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let build = Command::new(&clang)
        .args(["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf"])
        // The first with atomics that give what was there before (Linux 5.12; on arm64 5.18).
        .arg("-mcpu=v3")
        // Debian keeps asm/types.h there.
        .arg(format!("-I/usr/include/{arch}-linux-gnu"))
        .args(["-c", SOURCE, "-o"])
        .arg(&out)
        .output();
    match build {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr);
            Err(std::io::Error::other(format!("{clang} {SOURCE}: {said}")))
        }
        Err(error) => {
            println!("cargo::warning=no kernel path: {clang} can't be run ({error})");
            // A file that is missing counts as changed: clang is looked for again.
            println!("cargo::rerun-if-changed={clang}");
            fs::write(&out, b"")
        }
    }
}
