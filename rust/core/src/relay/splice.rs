//! Relays bytes through a pipe, without bringing them into user space: for bulk.
//!
//! A pipe is filled only when it is empty and drained before it is filled again, so that it
//! is always clear which end said `WouldBlock`. Taking a full pipe for an empty socket loses
//! the wake-up; taking an empty socket for a full pipe spins.
//!
//! splice(2) stops before a byte of urgent data (MSG_OOB) and never passes it: it says that the socket
//! is empty, or at its end. A read passes it, and leaves that byte out, as the other end's own would.

use std::io;
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pipes::Pipe;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// So many bytes; 0 at the end of the stream.
    Bytes(usize),
    /// Nothing, and there is something behind urgent data: a read gets it.
    Stopped,
}

/// Fills an empty pipe as far as `from` has something, with `most` bytes at most.
pub(super) fn poll_fill(
    cx: &mut Context<'_>,
    from: &TcpStream,
    pipe: &mut Pipe,
    most: usize,
) -> Poll<io::Result<Filled>> {
    loop {
        ready!(from.poll_read_ready(cx))?;
        match from.try_io(Interest::READABLE, || fill(from, pipe, most)) {
            Err(error) if is_transient(&error) => {}
            result => return Poll::Ready(result),
        }
    }
}

fn fill(from: &TcpStream, pipe: &mut Pipe, most: usize) -> io::Result<Filled> {
    match pipe.fill(from, most) {
        Ok(0) if has_something(from) => Ok(Filled::Stopped),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && has_something(from) => {
            Ok(Filled::Stopped)
        }
        result => result.map(Filled::Bytes),
    }
}

/// Whether a read would bring something. One more call where a sender is waited for, which is
/// little beside what is carried between two waits.
fn has_something(from: &TcpStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    recv(from, &mut [0_u8; 1], flags).is_ok_and(|(_, size)| size > 0)
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
