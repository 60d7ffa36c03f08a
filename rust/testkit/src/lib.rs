//! Scripted SMTP servers and clients for tests of the data plane.
//!
//! A test puts a [`server::ScriptedServer`] behind the balancer, a client from [`client`],
//! [`exchange`] or [`stall`] in front of it, and compares what both ends saw. Everything
//! listens on port 0 of loopback, stops when dropped and waits for events, never for a
//! fixed time.
//!
//! | module | what for |
//! |---|---|
//! | [`server`], [`script`] | servers that behave or misbehave by a script |
//! | [`client`] | a small SMTP client |
//! | [`exchange`] | hashed transfers in both directions, in every order of half-closes |
//! | [`stall`] | clients that read nothing, read a little, or send a reset |
//! | [`frames`] | an interface's frames, for peers that need no socket of the kernel's |
//! | [`port`] | an address that refuses connections |
//! | [`wait`] | the limit after which a step that waits gives up |
//! | [`smtp`], [`data`], [`digest`] | the server's side of SMTP as a state machine without sockets |
//! | [`reply`], [`message`] | the client's side: replies and messages |
//! | [`proxy`] | a PROXY header reader, independent of the balancer's own |
//!
//! The binary `smtpload` (sink and source of load) is built from the same pieces.

pub mod client;
pub mod data;
pub mod digest;
pub mod exchange;
pub mod frames;
pub mod message;
pub mod port;
pub mod proxy;
pub mod reply;
pub mod script;
pub mod server;
pub mod smtp;
pub mod stall;
pub mod wait;
