//! Any bytes as a server's greeting.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailweir_core::fuzz;

fuzz_target!(|bytes: &[u8]| fuzz::greeting(bytes));
