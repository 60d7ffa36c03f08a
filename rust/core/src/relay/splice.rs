//! Relays bytes through a pipe, without bringing them into user space: for bulk.
//!
//! A pipe is filled only when it is empty and drained before it is filled again, so that it
//! is always clear which end said `WouldBlock`. Taking a full pipe for an empty socket loses
//! the wake-up; taking an empty socket for a full pipe spins.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pipes::Pipe;

/// Fills an empty pipe as far as `from` has something; 0 at the end of the stream.
pub(super) fn poll_fill(
    cx: &mut Context<'_>,
    from: &TcpStream,
    pipe: &mut Pipe,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(from.poll_read_ready(cx))?;
        match from.try_io(Interest::READABLE, || pipe.fill(from)) {
            Err(error) if is_transient(&error) => {}
            result => return Poll::Ready(result),
        }
    }
}

/// Drains a pipe; ready once it is empty.
pub(super) fn poll_drain(
    cx: &mut Context<'_>,
    pipe: &mut Pipe,
    to: &TcpStream,
) -> Poll<io::Result<()>> {
    while pipe.held() > 0 {
        ready!(to.poll_write_ready(cx))?;
        match to.try_io(Interest::WRITABLE, || pipe.drain(to)) {
            Err(error) if is_transient(&error) => {}
            result => drop(result?),
        }
    }
    Poll::Ready(Ok(()))
}

/// Whether the system has no splice(2) for these sockets, or forbids it (a sandbox, say).
pub(super) fn is_refused(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EOPNOTSUPP)
    )
}

/// `WouldBlock` has told the reactor by now, so that the next look waits.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
