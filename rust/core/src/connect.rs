//! Dials one server, from one of the addresses that it is to be dialled from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::server::ConnectFailure;
use crate::snapshot::Member;
use crate::sys;

/// A connection to `member` within `limit`: by `bound`, which has a source address and a port,
/// or by a socket of its own.
///
/// # Errors
/// Why there is none. A client never notices: nothing was sent to it yet.
pub(crate) async fn dial(
    member: &Member,
    bound: Option<Socket>,
    limit: Duration,
) -> Result<TcpStream, ConnectFailure> {
    let connecting = async {
        match bound {
            Some(socket) => connect(socket, member.address).await,
            None => from_any_source(member).await,
        }
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(connected) => connected.map_err(|error| cause(&error)),
        Err(_) => Err(ConnectFailure::Timeout),
    }
}

/// Tries the source addresses in turn, as long as what fails is that one has no port left.
async fn from_any_source(member: &Member) -> io::Result<TcpStream> {
    let sources = &member.source;
    if sources.is_empty() {
        return connect(socket(member.address)?, member.address).await;
    }
    let first = member.server.next_source(sources.len());
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for turn in 0..sources.len() {
        let source = sources[(first + turn) % sources.len()];
        result = from_source(member.address, source).await;
        match &result {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
            _ => break,
        }
    }
    result
}

async fn from_source(address: SocketAddr, source: IpAddr) -> io::Result<TcpStream> {
    let socket = socket(address)?;
    sys::bind_without_port(&socket)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    connect(socket, address).await
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    // A dialogue of small turns: Nagle's algorithm would hold back every second one.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

async fn connect(socket: Socket, address: SocketAddr) -> io::Result<TcpStream> {
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    let ready = stream.ready(Interest::WRITABLE).await?;
    // Only a connection that failed has an error to be asked for; tokio's own connect asks always.
    if ready.is_write_closed() {
        stream.take_error()?.map_or(Ok(()), Err)?;
    }
    // The greeting is acknowledged with what answers it, not by a segment of its own. Not set
    // before: then the handshake's last segment would wait as well. Refused: as it was.
    let _ = stream.set_quickack(false);
    Ok(stream)
}

fn cause(error: &io::Error) -> ConnectFailure {
    if let Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) = error.raw_os_error() {
        return ConnectFailure::Local;
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectFailure::Refused,
        io::ErrorKind::TimedOut => ConnectFailure::Timeout,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown => ConnectFailure::Unreachable,
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => ConnectFailure::Local,
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
            (libc::EMFILE, ConnectFailure::Local),
            (libc::EADDRNOTAVAIL, ConnectFailure::Local),
            (libc::ECONNRESET, ConnectFailure::Other),
            (libc::EACCES, ConnectFailure::Other),
        ] {
            assert_eq!(cause(&io::Error::from_raw_os_error(code)), expected);
        }
    }
}
