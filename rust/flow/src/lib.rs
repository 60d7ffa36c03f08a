//! The kernel path's program and its tables: what carries a session once user space has handed it
//! over, and nothing that decides which one is.
//!
//! [`layout`] is what the tables hold, [`program`] loads `bpf/flow.bpf.c` and reaches them.

pub mod layout;
pub mod program;

pub use layout::{Flow, Key, Place, Said, State};
pub use program::{Counter, Program, Unavailable};
