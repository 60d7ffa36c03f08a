//! Ends a connection with a last word, so that the other end reads what it is told.

use std::io::Write;
use std::net::{Shutdown, TcpStream as StdStream};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::holdings::Holdings;
use crate::sys;

/// The longest that the other end is waited for.
const LINGER: Duration = Duration::from_secs(5);
/// The most that is read of what it sends.
const LINGER_BYTES: usize = 1 << 20;

/// Sends `line` (perhaps nothing) and an end of stream, then reads until the other end's.
///
/// Closing with unread data would send a reset, which can overtake the line and erase it
/// from the other end's socket before it was read. Where too many are waited for, that is risked:
/// each has a descriptor, and who is refused may come as often as it likes.
pub(crate) async fn say(mut peer: TcpStream, line: &[u8], holdings: &Holdings) {
    let Some(_place) = holdings.farewell() else {
        if let Ok(peer) = peer.into_std() {
            hurry_away(peer, line);
        }
        return;
    };
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
pub(crate) fn hurry_away(mut peer: StdStream, line: &[u8]) {
    // Whoever went away meanwhile needs no answer.
    let _ = peer
        .write_all(line)
        .and_then(|()| peer.shutdown(Shutdown::Write));
}

/// Has the connection reset once it is closed.
pub(crate) fn reset(client: impl AsFd) {
    // Refused, it is closed.
    let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
}

/// Has the connection forgotten once it is closed: the client isn't told, and waits for as long as
/// it likes. Where that isn't allowed (CAP_NET_ADMIN), it is reset.
pub(crate) fn forget(client: impl AsFd) {
    if sys::set_option(&client, libc::IPPROTO_TCP, sys::TCP_REPAIR, 1).is_err() {
        reset(client);
    }
}
