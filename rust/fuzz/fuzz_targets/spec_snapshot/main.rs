//! Any specification: what can run is built, what can't is refused, and nothing panics.
#![no_main]

mod choose;
mod spec;

use choose::Choices;
use libfuzzer_sys::fuzz_target;
use mailweir_core::fuzz;

fuzz_target!(|bytes: &[u8]| {
    let mut choices = Choices::new(bytes);
    let spec = spec::plane(&mut choices);
    assert_eq!(fuzz::snapshot(&spec), !choices.wrong(), "{spec:#?}");
});
