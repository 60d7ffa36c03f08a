//! Relays bytes through a buffer: for the small turns of a dialogue.
//!
//! The buffer belongs to the thread. A direction owns memory only for what the other side
//! didn't take at once, so that an idle session has none.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Broken;

/// As much as a session may have under way in one direction.
const BUFFER: usize = 64 * 1024;

thread_local! {
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Bytes that were read and aren't written yet.
#[derive(Debug)]
pub(super) struct Rest {
    bytes: Vec<u8>,
    written: usize,
}

/// Reads once and writes what came, as far as `to` takes it: the size of the read (0 at the
/// end of the stream) and what is left to be written. `hear` gets what came.
pub(super) fn poll_copy(
    cx: &mut Context<'_>,
    from: &mut TcpStream,
    to: &mut TcpStream,
    hear: impl FnOnce(&[u8]),
) -> Poll<Result<(usize, Option<Rest>), Broken>> {
    READ_BUFFER.with_borrow_mut(|buffer| {
        let mut buffer = ReadBuf::new(buffer);
        // poll_read and not try_read: a short read clears the readiness, which saves a call
        // that only says that there is nothing more.
        ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(|_| Broken::From)?;
        let bytes = buffer.filled();
        if !bytes.is_empty() {
            hear(bytes);
        }
        let written = write(cx, to, bytes).map_err(|error| Broken::to(&error))?;
        let rest = (written < bytes.len()).then(|| Rest::of(bytes[written..].to_vec()));
        Poll::Ready(Ok((bytes.len(), rest)))
    })
}

impl Rest {
    /// All of `bytes`.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { bytes, written: 0 }
    }

    /// Writes what is left; ready once that is nothing.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut TcpStream,
    ) -> Poll<io::Result<()>> {
        self.written += write(cx, to, &self.bytes[self.written..])?;
        if self.written < self.bytes.len() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

/// Writes until all is written or `to` takes no more; how much it took.
fn write(cx: &mut Context<'_>, to: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match Pin::new(&mut *to).poll_write(cx, &bytes[written..]) {
            Poll::Ready(size) => written += size?,
            Poll::Pending => break,
        }
    }
    Ok(written)
}
