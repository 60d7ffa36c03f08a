//! Ends a connection with a last word, so that the other end reads what it is told.

use std::io::Write;
use std::net::{Shutdown, TcpStream as StdStream};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest that the other end is waited for.
const LINGER: Duration = Duration::from_secs(5);
/// The most that is read of what it sends.
const LINGER_BYTES: usize = 1 << 20;

/// Sends `line` (perhaps nothing) and an end of stream, then reads until the other end's.
///
/// Closing with unread data would send a reset, which can overtake the line and erase it
/// from the other end's socket before it was read.
pub(crate) async fn say(mut peer: TcpStream, line: &[u8]) {
    // A peer that went away, or takes too long, is closed all the same.
    let _ = timeout(LINGER, async {
        peer.write_all(line).await?;
        peer.shutdown().await?;
        // On the heap: it would make every session's future as large.
        let mut buffer = vec![0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match peer.read(&mut buffer).await? {
                0 => break,
                size => left = left.saturating_sub(size),
            }
        }
        std::io::Result::Ok(())
    })
    .await;
}

/// Says `line` and closes, without waiting for anything: where a descriptor is worth more than
/// the certainty that the line arrives.
pub(crate) fn hurry_away(mut client: StdStream, line: &[u8]) {
    // Whoever went away meanwhile needs no answer.
    let _ = client
        .write_all(line)
        .and_then(|()| client.shutdown(Shutdown::Write));
}
