//! The data plane with real sockets: scripted servers behind it, scripted clients before it.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test ends by the one and reports by the other
mod closing;
mod greeting;
mod integrity;
mod listening;
mod reload;
mod rig;
mod selection;
mod shortage;
