//! A finished session as the log gets it: plain values, made once, at its end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::listener::TriedOut;
use super::reason::End;

/// A session's number: unique for this process and, by a random beginning, very likely among
/// all of them. Written as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(crate) u64);

impl fmt::Display for SessionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", self.0)
    }
}

impl SessionId {
    /// As it is written.
    pub(crate) fn text(self) -> [u8; 16] {
        let nibble = |at: usize| (self.0 >> (60 - 4 * at)) as usize & 0xf;
        std::array::from_fn(|at| b"0123456789abcdef"[nibble(at)])
    }

    /// The reverse of its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok())?;
        number.map(Self)
    }
}

/// One end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who connected to us.
    Client,
    /// Whom we connected to.
    Server,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// As logs write it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// How most of a session's bytes went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Through a buffer alone.
    Copy,
    /// Through a pipe as well.
    Splice,
    /// Through the kernel alone, once the client was greeted.
    Kernel,
}

impl Path {
    /// As logs write it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Splice => "splice",
            Self::Kernel => "kernel",
        }
    }
}

/// A server as sessions know it: by its pool's name and its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taker {
    pub(crate) pool: Arc<str>,
    pub(crate) server: Arc<str>,
}

impl Taker {
    /// As the log has it among those that were tried: with its pool, where that isn't `own`.
    pub(crate) fn name(&self, own: &str) -> Arc<str> {
        if *self.pool == *own {
            Arc::clone(&self.server)
        } else {
            format!("{}/{}", self.pool, self.server).into()
        }
    }
}

/// A server that was tried in vain.
#[derive(Debug, Clone)]
pub(crate) struct FailedAttempt {
    pub(crate) server: Arc<str>,
    /// As `connect refused` or `greeting 4xx`.
    pub(crate) step: &'static str,
    pub(crate) cause: &'static str,
}

/// Everything that the log says of a session.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) id: SessionId,
    /// When it was accepted, by the wall clock.
    pub(crate) accepted: SystemTime,
    pub(crate) listener: Arc<str>,
    pub(crate) client: SocketAddr,
    /// Of the server that took it, or the listener's.
    pub(crate) pool: Arc<str>,
    /// The listener's, where that is another one.
    pub(crate) overflow_of: Option<Arc<str>>,
    /// The one that took it.
    pub(crate) server: Option<Arc<str>>,
    /// Those before it.
    pub(crate) tried: Vec<FailedAttempt>,
    /// From the accept to the first byte for the client, or to the refusal.
    pub(crate) wait: Duration,
    /// The part of that while every server was full.
    pub(crate) queued: Option<Duration>,
    /// Of the server that took it.
    pub(crate) connect: Option<Duration>,
    /// Of the server that took it, after the connect.
    pub(crate) greeting: Option<Duration>,
    /// From the accept to the end.
    pub(crate) total: Duration,
    /// From the client.
    pub(crate) received: u64,
    /// To the client.
    pub(crate) sent: u64,
    /// 220, say.
    pub(crate) greeting_code: Option<u16>,
    pub(crate) tls: bool,
    pub(crate) path: Path,
    /// Whether it ended between a 354 and the answer to the message; none where that isn't known.
    pub(crate) in_data: Option<bool>,
    pub(crate) spoke_last: Option<Side>,
    pub(crate) end: End,
    /// None where another process let it in.
    pub(crate) tried_out: Option<TriedOut>,
}
