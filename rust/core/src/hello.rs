//! Reads a client's TLS hello and keeps it, so that it can be said to more than one server.

use std::time::Duration;

use tokio::time::timeout;

use crate::client::Client;
use crate::record::{End, EndReason};
use crate::tls::{Hello, Reader};

/// Enough for the hellos that clients send.
const USUAL: usize = 2048;

/// What the client said first: a whole ClientHello and whatever came with it. Where it isn't
/// TLS, whatever it is: a server will know what to say to that.
///
/// # Errors
/// How the session ended without one.
pub(crate) async fn client_hello(client: &Client, limit: Duration) -> Result<Vec<u8>, End> {
    let mut said = Vec::with_capacity(USUAL);
    let mut reader = Reader::default();
    let read = async {
        loop {
            let before = said.len();
            match client.read(&mut said).await {
                Ok(0) => return Err(End::by_client(EndReason::ClientClosed)),
                Ok(_) => {}
                Err(_) => return Err(End::by_client(EndReason::ClientLost)),
            }
            if reader.read(&said[before..]) != Hello::Incomplete {
                return Ok(());
            }
        }
    };
    match timeout(limit, read).await {
        Ok(result) => result.map(|()| said),
        Err(_) => Err(End::ours(EndReason::IdleClient)),
    }
}
