//! Codes of replies by which it is told how a session goes on, and how it ended.

/// The answer to QUIT, and to nothing else (RFC 5321, 4.2.3).
pub(crate) const GOODBYE: u16 = 221;
/// The server waits for the message (RFC 5321, 4.2.3).
pub(crate) const START_MAIL_INPUT: u16 = 354;
/// The service ends the session (RFC 5321, 3.8).
pub(crate) const CLOSING: u16 = 421;
