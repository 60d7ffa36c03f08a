//! Any bytes as the start of a client's TLS.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailweir_core::fuzz;

fuzz_target!(|bytes: &[u8]| fuzz::client_hello(bytes));
