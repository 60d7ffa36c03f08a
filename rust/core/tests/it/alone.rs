//! Tests that need a process of their own, since what they change or measure is the process's.

use std::process::Command;

const IN_CHILD: &str = "MAILWEIR_TEST_ALONE";

/// Runs an ignored test in a process where nothing else runs.
pub(crate) fn in_a_process(test: &str) {
    let own = std::env::current_exe().unwrap();
    let child = Command::new(own)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(IN_CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let errors = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "{said}");
    println!("{said}");
}

/// To begin such a test with.
pub(crate) fn alone() {
    assert!(
        std::env::var_os(IN_CHILD).is_some(),
        "run by the test beside it"
    );
}
