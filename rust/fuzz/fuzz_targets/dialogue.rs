//! Any session, cut into pieces in any way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mailweir_core::fuzz;

fuzz_target!(|choices: &[u8]| fuzz::dialogue(choices));
