//! The kernel path's program and its tables: what carries a session once user space has handed it
//! over, and nothing that decides which one is.
//!
//! [`layout`] is what the tables hold, [`tables`] reaches them, [`program`] loads `bpf/flow.bpf.c`
//! (and `attach` puts it on interfaces), [`self_test`] sees whether it works here. [`segment`] is what is said in a peer's name,
//! [`earlier`] what other versions left, [`without`] what SYNs may not offer. `sys` has what aya lacks.

mod attach;
pub mod earlier;
pub mod layout;
pub mod program;
pub mod segment;
mod self_test;
mod sys;
pub mod tables;
pub mod without;

pub use attach::Framing;
pub use aya::maps::MapError as TableError;
pub use earlier::Earlier;
pub use layout::{
    Direction, Flow, Gate, Key, Late, Place, Reserved, SCHEMA, State, Translation, Word, ticks,
};
pub use program::{Program, Unavailable, flush, is_built};
pub use segment::Segment;
pub use self_test::self_test;
pub use tables::{Counter, MOST_FLOWS, SYN_WORDS, Tables};
pub use without::Without;
