//! The program in the kernel, and the tables as both sides have them.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test ends by the one and reports by the other
mod any;
mod btf;
mod clocks;
mod cost;
mod hand_over;
mod heard;
mod late;
mod layout;
mod rig;
mod segment;
mod syn;
mod too_big;
mod vectors;
