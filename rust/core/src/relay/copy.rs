//! Relays bytes through a buffer: for the small turns of a dialogue.
//!
//! The buffer belongs to the thread. A direction owns memory only for what the other side
//! didn't take at once, so that an idle session has none.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
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
/// end of the stream) and what is left to be written. `hear` gets what came, and says whether it
/// may be the last.
pub(super) fn poll_copy(
    cx: &mut Context<'_>,
    from: &mut TcpStream,
    to: &mut TcpStream,
    hear: impl FnOnce(&[u8]) -> bool,
) -> Poll<Result<(usize, Option<Rest>), Broken>> {
    READ_BUFFER.with_borrow_mut(|buffer| {
        let mut buffer = ReadBuf::new(buffer);
        // poll_read and not try_read: a short read clears the readiness, which saves a call
        // that only says that there is nothing more.
        ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer)).map_err(|_| Broken::From)?;
        let bytes = buffer.filled();
        let may_be_last = !bytes.is_empty() && hear(bytes);
        let written = if may_be_last && has_ended(cx, from) {
            write_last(cx, to, bytes)
        } else {
            write(cx, to, bytes)
        };
        let written = written.map_err(|error| Broken::to(&error))?;
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

/// Whether the end of the stream stands behind what was read, as far as the last event told.
fn has_ended(cx: &mut Context<'_>, from: &TcpStream) -> bool {
    let ready = pin!(from.ready(Interest::READABLE));
    matches!(ready.poll(cx), Poll::Ready(Ok(ready)) if ready.is_read_closed())
}

/// The same as `write` for bytes behind which the stream is ended at once: both leave in one
/// segment. One less is some 2 % of what a session of one small mail costs.
fn write_last(cx: &mut Context<'_>, to: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let more = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let sent = to.try_io(Interest::WRITABLE, || Ok(send(&*to, bytes, more)?));
    let written = match sent {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        sent => sent?,
    };
    Ok(written + write(cx, to, &bytes[written..])?)
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::yield_now;

    use crate::sys;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    /// What the kernel has counted: segments that came, and bytes that it has and didn't send yet
    /// (linux/tcp.h, `tcpi_segs_in` and `tcpi_notsent_bytes`).
    fn counted(socket: &TcpStream) -> [u32; 2] {
        let mut info = [0; 148];
        sys::option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).unwrap();
        [140, 144].map(|at| u32::from_ne_bytes(info[at..at + 4].try_into().unwrap()))
    }

    /// Copies a server's last word, whose end has come with it; how many segments that is for the
    /// client.
    async fn segments_of_a_last_word(may_be_last: bool) -> u32 {
        let ((mut server, mut from), (mut to, mut client)) = (pair().await, pair().await);
        send(&server, b"221 bye\r\n", SendFlags::MORE).unwrap();
        server.shutdown().await.unwrap();
        let [before, _] = counted(&client);
        to.writable().await.unwrap();
        let has_ended = async || {
            from.ready(Interest::READABLE)
                .await
                .unwrap()
                .is_read_closed()
        };
        while !has_ended().await {
            yield_now().await;
        }
        let copied = poll_fn(|cx| poll_copy(cx, &mut from, &mut to, |_| may_be_last)).await;
        assert!(matches!(copied, Ok((9, None))));
        to.shutdown().await.unwrap();
        let mut seen = vec![];
        client.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"221 bye\r\n");
        counted(&client)[0] - before
    }

    #[tokio::test]
    async fn a_last_word_and_the_end_behind_it_are_one_segment() {
        assert_eq!(segments_of_a_last_word(true).await, 1);
        assert_eq!(segments_of_a_last_word(false).await, 2);
    }

    #[tokio::test]
    async fn a_word_behind_which_nothing_ends_is_sent_at_once() {
        let ((mut server, mut from), (mut to, _client)) = (pair().await, pair().await);
        server.write_all(b"221 bye\r\n").await.unwrap();
        from.readable().await.unwrap();
        to.writable().await.unwrap();
        let copied = poll_fn(|cx| poll_copy(cx, &mut from, &mut to, |_| true)).await;
        assert!(matches!(copied, Ok((9, None))));
        assert_eq!(counted(&to)[1], 0);
        // As it would be otherwise.
        let kept = poll_fn(|cx| Poll::Ready(write_last(cx, &mut to, b"x"))).await;
        assert_eq!((kept.unwrap(), counted(&to)[1]), (1, 1));
    }
}
