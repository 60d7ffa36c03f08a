//! Ends a connection that gets no server, so that the client reads what it is told.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest that a refused client is waited for.
const LINGER: Duration = Duration::from_secs(5);
/// The most that is read of what a refused client sends.
const LINGER_BYTES: usize = 1 << 20;

/// Sends `line` (perhaps nothing) and an end of stream, then reads until the client ends too.
///
/// Closing with unread data would send a reset, which can overtake the line and erase it
/// from the client's socket before it was read.
pub(crate) async fn refuse(mut client: TcpStream, line: &[u8]) {
    // A client that went away, or takes too long, is closed all the same.
    let _ = timeout(LINGER, async {
        client.write_all(line).await?;
        client.shutdown().await?;
        // On the heap: it would make every session's future as large.
        let mut buffer = vec![0; 4096];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match client.read(&mut buffer).await? {
                0 => break,
                size => left = left.saturating_sub(size),
            }
        }
        std::io::Result::Ok(())
    })
    .await;
}
