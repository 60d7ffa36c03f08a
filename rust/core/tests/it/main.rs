//! The data plane with real sockets: scripted servers behind it, scripted clients before it.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test ends by the one and reports by the other
mod admission;
mod alone;
mod caps;
mod closing;
mod conduct;
mod drain;
mod due;
mod failpoints;
mod greeting;
mod hello;
mod integrity;
mod late;
mod listening;
mod origin;
mod queue;
mod reload;
mod rig;
mod room;
mod selection;
mod shortage;
mod stalls;
