//! An address that refuses connections for as long as a guard lives.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// Holds a port without listening on it: nobody else gets it, and connects are refused.
#[derive(Debug)]
pub struct UnboundPort {
    addr: SocketAddr,
    _held: Socket,
}

impl UnboundPort {
    /// The address that refuses.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Takes a port on which nothing listens.
///
/// # Errors
/// If no port is free.
pub fn unbound_port() -> io::Result<UnboundPort> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let addr = socket
        .local_addr()?
        .as_socket()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(UnboundPort {
        addr,
        _held: socket,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_every_time() {
        let port = unbound_port().unwrap();
        for _ in 0..3 {
            let error = std::net::TcpStream::connect(port.addr()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}
