//! The SMTP that the balancer itself understands and speaks. Bytes only, no sockets.
//!
//! A refusal takes the place of the server's greeting (RFC 5321, 3.1 and 3.8): 421 says that
//! the service isn't there now and that the client is to come back, which keeps the mail in
//! its queue. Once a byte of a server has reached the client nothing is said any more, but at
//! the cut of a drain between two commands.

pub(crate) mod codes;
pub(crate) mod dialogue;
pub(crate) mod greeting;
pub(crate) mod words;
