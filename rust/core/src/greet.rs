//! Waits for a server's greeting, so that one that refuses is replaced before the client knows.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::GreetingFailure;
use crate::smtp::{Greeting, QUIT};

/// Enough for the greetings that servers use.
const USUAL: usize = 256;

/// What the server said, from its first byte to at least the end of its first line; that
/// line takes the session. Everything is to be passed on.
///
/// # Errors
/// Why the session needs another server. This one was told QUIT if it speaks SMTP.
pub(crate) async fn greeting(
    server: &mut TcpStream,
    limit: Duration,
) -> Result<Vec<u8>, GreetingFailure> {
    let Ok(greeting) = timeout(limit, read(server)).await else {
        return Err(GreetingFailure::Timeout);
    };
    if let Err(GreetingFailure::RefusedNow | GreetingFailure::Refused) = greeting {
        // It may have closed already; and what it answers, nobody waits for.
        let _ = server.try_write(QUIT);
    }
    greeting
}

async fn read(server: &mut TcpStream) -> Result<Vec<u8>, GreetingFailure> {
    let mut bytes = Vec::with_capacity(USUAL);
    loop {
        match server.read_buf(&mut bytes).await {
            Ok(0) => return Err(GreetingFailure::Closed),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(GreetingFailure::Reset);
            }
            Err(_) => return Err(GreetingFailure::Closed),
        }
        match Greeting::parse(&bytes) {
            Greeting::Incomplete => {}
            Greeting::Accepts => return Ok(bytes),
            Greeting::RefusesNow => return Err(GreetingFailure::RefusedNow),
            Greeting::Refuses => return Err(GreetingFailure::Refused),
            Greeting::Nonsense => return Err(GreetingFailure::Nonsense),
        }
    }
}
