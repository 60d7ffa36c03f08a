//! Dials one server.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use crate::server::ConnectFailure;

/// A connection to `address` within `limit`.
///
/// # Errors
/// Why there is none. A client never notices: nothing was sent to it yet.
pub(crate) async fn dial(
    address: SocketAddr,
    limit: Duration,
) -> Result<TcpStream, ConnectFailure> {
    match tokio::time::timeout(limit, connect(address)).await {
        Ok(connected) => connected.map_err(|error| cause(&error)),
        Err(_) => Err(ConnectFailure::Timeout),
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A dialogue of small turns: Nagle's algorithm would hold back every second one.
    socket.set_nodelay(true)?;
    let stream = socket.connect(address).await?;
    // The greeting is acknowledged with what answers it, not by a segment of its own. Not set
    // before: then the handshake's last segment would wait as well. Refused: as it was.
    let _ = stream.set_quickack(false);
    Ok(stream)
}

fn cause(error: &io::Error) -> ConnectFailure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
            ConnectFailure::Refused
        }
        io::ErrorKind::TimedOut => ConnectFailure::Timeout,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => ConnectFailure::Unreachable,
        _ => ConnectFailure::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_apart() {
        for (code, expected) in [
            (libc::ECONNREFUSED, ConnectFailure::Refused),
            (libc::ETIMEDOUT, ConnectFailure::Timeout),
            (libc::EHOSTUNREACH, ConnectFailure::Unreachable),
            (libc::ENETUNREACH, ConnectFailure::Unreachable),
            (libc::EMFILE, ConnectFailure::Other),
            (libc::EADDRNOTAVAIL, ConnectFailure::Other),
        ] {
            assert_eq!(cause(&io::Error::from_raw_os_error(code)), expected);
        }
    }
}
