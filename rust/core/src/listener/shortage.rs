//! Out of descriptors or memory: accepting pauses without a spin, and those who wait too long
//! are told so by means of one descriptor that was kept back.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};

/// Trying again at once would only burn the CPU.
pub(super) const PAUSE: Duration = Duration::from_millis(100);
/// For so long those in the queue may still get a place. Then they are turned away: a client
/// that hears 421 tries elsewhere, one that hears nothing waits for minutes.
const PATIENCE: Duration = Duration::from_secs(1);
/// Clients turned away at a time.
const MOST: usize = 64;

/// What is known of a shortage at one socket.
#[derive(Debug)]
pub(super) struct Shortage {
    since: Option<Instant>,
    /// Given up for a client that is turned away, and had again afterwards.
    spare: Option<File>,
}

impl Shortage {
    pub(super) fn new() -> Self {
        Self {
            since: None,
            spare: spare(),
        }
    }

    /// A client was accepted as usual.
    pub(super) fn is_over(&mut self) {
        self.since = None;
    }

    /// Accepting failed for want of something; whether it has for so long that those who wait
    /// are to be turned away.
    pub(super) fn is_long(&mut self, now: Instant) -> bool {
        now.duration_since(*self.since.get_or_insert(now)) >= PATIENCE
    }

    /// Accepts who is in the queue by means of the spare descriptor; `turn_away` is given one
    /// after the other and has to close each.
    pub(super) async fn shed(
        &mut self,
        socket: &TcpListener,
        turn_away: impl Fn(TcpStream, SocketAddr),
    ) {
        for _ in 0..MOST {
            if self.spare.take().is_none() {
                break;
            }
            // Not even a moment's wait: who comes later may well get a place.
            let accepted = poll_fn(|context| match socket.poll_accept(context) {
                Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
                Poll::Pending => Poll::Ready(None),
            });
            if let Some((client, address)) = accepted.await {
                turn_away(client, address);
                self.spare = spare();
            } else {
                break;
            }
        }
        self.spare = self.spare.take().or_else(spare);
    }
}

/// Whether accepting again at once would fail again: no descriptor or memory is left.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_begins_with_the_first_failure_of_a_row() {
        let mut shortage = Shortage::new();
        let start = Instant::now();
        assert!(!shortage.is_long(start));
        assert!(!shortage.is_long(start + PATIENCE / 2));
        assert!(shortage.is_long(start + PATIENCE));
        shortage.is_over();
        assert!(!shortage.is_long(start + PATIENCE));
    }
}
