//! Hashed transfers: both ends send pseudo-random bytes and hash what they send and receive.
//!
//! The workhorse for byte-exactness. The client tells the server in a header of 24 bytes
//! what to send and in which order the two directions end; afterwards a test compares the
//! [`Outcome`]s of both ends with [`Outcome::mirrors`]. Works with
//! [`Script::HashExchange`](crate::script::Script::HashExchange) at the other end.

use std::io;
use std::net::SocketAddr;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::oneshot;

use crate::reply::ReplyReader;
use crate::wait::within_limit;

const MAGIC: [u8; 4] = *b"MWX1";
const HEADER: usize = 24;
const READ_SIZE: usize = 64 * 1024;
const WRITE_SIZE: u64 = 32 * 1024;

/// In which order the two directions end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Each end half-closes as soon as it has sent everything.
    Both,
    /// The client half-closes; the server sends the second half of its bytes after that.
    ClientFirst,
    /// The server half-closes; the client sends the second half of its bytes after that.
    ServerFirst,
    /// The server sends everything at once but half-closes only after the client.
    ServerWaits,
    /// The client sends everything at once but half-closes only after the server.
    ClientWaits,
}

impl Order {
    /// Every order there is.
    pub const ALL: [Self; 5] = [
        Self::Both,
        Self::ClientFirst,
        Self::ServerFirst,
        Self::ServerWaits,
        Self::ClientWaits,
    ];
}

/// What one session transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Decides the bytes; also the session's name at the server, so take a new one each time.
    pub seed: u64,
    /// Bytes from client to server, after the header.
    pub up: u32,
    /// Bytes from server to client.
    pub down: u32,
    /// How it ends.
    pub order: Order,
}

/// Bytes in one direction, as one end saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// How many.
    pub bytes: u64,
    /// Their hash.
    pub sha256: [u8; 32],
}

/// A finished session as one end saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What this end sent.
    pub sent: Transfer,
    /// What this end received up to the end of stream.
    pub received: Transfer,
}

impl Outcome {
    /// True if the other end sent what this end received, and the reverse.
    #[must_use]
    pub fn mirrors(&self, other: &Self) -> bool {
        self.sent == other.received && self.received == other.sent
    }
}

impl Plan {
    /// A plan drawn from `seed`: sizes from 1 to `max_bytes`, small ones as likely as large
    /// ones, and any order.
    #[must_use]
    pub fn random(seed: u64, max_bytes: u32) -> Self {
        let mut random = Random::new(seed);
        Self {
            seed,
            up: random.log_uniform(max_bytes),
            down: random.log_uniform(max_bytes),
            order: Order::ALL[random.below(Order::ALL.len() as u64) as usize],
        }
    }

    fn header(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let order = Order::ALL
            .iter()
            .position(|order| *order == self.order)
            .unwrap_or_default();
        header[..4].copy_from_slice(&MAGIC);
        header[4] = order as u8;
        header[8..16].copy_from_slice(&self.seed.to_be_bytes());
        header[16..20].copy_from_slice(&self.up.to_be_bytes());
        header[20..].copy_from_slice(&self.down.to_be_bytes());
        header
    }

    fn from_header(header: &[u8; HEADER]) -> Option<Self> {
        let word = |at: usize| {
            header[at..]
                .first_chunk()
                .map(|word| u32::from_be_bytes(*word))
        };
        let order = *Order::ALL.get(usize::from(header[4]))?;
        let seed = u64::from_be_bytes(*header[8..].first_chunk()?);
        let plan = Self {
            seed,
            up: word(16)?,
            down: word(20)?,
            order,
        };
        // Also catches damage to the unused bytes.
        (plan.header() == *header).then_some(plan)
    }

    fn client_part(&self) -> Part {
        let hold = match self.order {
            Order::ServerFirst => Hold::Bytes,
            Order::ClientWaits => Hold::End,
            Order::Both | Order::ClientFirst | Order::ServerWaits => Hold::Nothing,
        };
        Part {
            seed: self.seed,
            bytes: self.up,
            hold,
        }
    }

    fn server_part(&self) -> Part {
        let hold = match self.order {
            Order::ClientFirst => Hold::Bytes,
            Order::ServerWaits => Hold::End,
            Order::Both | Order::ServerFirst | Order::ClientWaits => Hold::Nothing,
        };
        Part {
            seed: !self.seed,
            bytes: self.down,
            hold,
        }
    }
}

/// The client's side, over a new connection.
///
/// # Errors
/// What the sockets say; `TimedOut` if it does not end within the limit.
pub async fn hash_exchange(addr: SocketAddr, plan: Plan) -> io::Result<Outcome> {
    let stream = within_limit("connect", TcpStream::connect(addr)).await?;
    hash_exchange_over(stream, plan).await
}

/// Like [`hash_exchange`] where the server greets first, as on a listener that speaks SMTP.
/// The greeting is in neither hash.
///
/// # Errors
/// As [`hash_exchange`], and `InvalidData` for a greeting that is not 220.
pub async fn hash_exchange_after_greeting(addr: SocketAddr, plan: Plan) -> io::Result<Outcome> {
    let mut stream = within_limit("connect", TcpStream::connect(addr)).await?;
    let mut replies = ReplyReader::default();
    let greeting = within_limit("greeting", replies.read(&mut stream)).await?;
    if greeting.code != 220 || !replies.surplus().is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, greeting.text));
    }
    hash_exchange_over(stream, plan).await
}

/// The client's side, over a connection that has carried nothing from the client yet.
///
/// # Errors
/// As [`hash_exchange`].
pub async fn hash_exchange_over(mut stream: TcpStream, plan: Plan) -> io::Result<Outcome> {
    stream.set_nodelay(true)?;
    within_limit("hash exchange, client", async {
        stream.write_all(&plan.header()).await?;
        transfer(&mut stream, plan.client_part()).await
    })
    .await
}

/// The server's side: reads the header and does its part. Has no limit of its own, since a
/// client may be slow on purpose.
pub(crate) async fn serve(stream: &mut TcpStream) -> io::Result<(Plan, Outcome)> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let plan = Plan::from_header(&header)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "damaged header"))?;
    Ok((plan, transfer(stream, plan.server_part()).await?))
}

/// What one end keeps back until the other end has half-closed.
#[derive(Clone, Copy, PartialEq)]
enum Hold {
    Nothing,
    Bytes,
    End,
}

struct Part {
    seed: u64,
    bytes: u32,
    hold: Hold,
}

async fn transfer(stream: &mut TcpStream, part: Part) -> io::Result<Outcome> {
    let (reader, writer) = stream.split();
    let (ended, other_ended) = oneshot::channel();
    let sending = send(writer, part, other_ended);
    let (sent, received) = tokio::try_join!(sending, receive(reader, ended))?;
    Ok(Outcome { sent, received })
}

async fn send(
    mut to: WriteHalf<'_>,
    part: Part,
    other_ended: oneshot::Receiver<()>,
) -> io::Result<Transfer> {
    let total = u64::from(part.bytes);
    let at_once = if part.hold == Hold::Bytes {
        total / 2
    } else {
        total
    };
    let mut random = Random::new(part.seed);
    let mut hash = Sha256::new();
    send_random(&mut to, &mut random, &mut hash, at_once).await?;
    if part.hold != Hold::Nothing {
        // An error here means that receiving failed, which is reported over there.
        let _ = other_ended.await;
    }
    send_random(&mut to, &mut random, &mut hash, total - at_once).await?;
    to.shutdown().await?;
    Ok(Transfer {
        bytes: total,
        sha256: hash.finalize().into(),
    })
}

async fn send_random(
    to: &mut WriteHalf<'_>,
    random: &mut Random,
    hash: &mut Sha256,
    mut bytes: u64,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    while bytes > 0 {
        let size = (1 + random.below(WRITE_SIZE)).min(bytes);
        random.fill(&mut buffer, size as usize);
        hash.update(&buffer);
        to.write_all(&buffer).await?;
        bytes -= size;
    }
    Ok(())
}

async fn receive(mut from: ReadHalf<'_>, ended: oneshot::Sender<()>) -> io::Result<Transfer> {
    let mut buffer = vec![0; READ_SIZE];
    let mut hash = Sha256::new();
    let mut bytes = 0;
    loop {
        let size = from.read(&mut buffer).await?;
        if size == 0 {
            // The sender does not listen if it holds nothing back.
            let _ = ended.send(());
            return Ok(Transfer {
                bytes,
                sha256: hash.finalize().into(),
            });
        }
        hash.update(&buffer[..size]);
        bytes += size as u64;
    }
}

/// splitmix64: the same bytes for the same seed, on every machine.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn log_uniform(&mut self, max: u32) -> u32 {
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (f64::from(max).powf(unit).round() as u32).clamp(1, max.max(1))
    }

    fn fill(&mut self, buffer: &mut Vec<u8>, size: usize) {
        buffer.clear();
        while buffer.len() < size {
            buffer.extend_from_slice(&self.next().to_le_bytes());
        }
        buffer.truncate(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_and_damage_shows() {
        for seed in 0..100 {
            let plan = Plan::random(seed, 1 << 20);
            let header = plan.header();
            assert_eq!(Plan::from_header(&header), Some(plan));
            for at in (0..4).chain(5..8) {
                let mut damaged = header;
                damaged[at] ^= 1;
                assert_eq!(Plan::from_header(&damaged), None);
            }
        }
    }

    #[test]
    fn plans_are_small_and_large_and_of_every_order() {
        let plans: Vec<Plan> = (0..500).map(|seed| Plan::random(seed, 1 << 20)).collect();
        assert!(
            plans.iter().any(|plan| plan.up < 16) && plans.iter().any(|plan| plan.up > 1 << 19)
        );
        assert!(plans.iter().all(|plan| (1..=1 << 20).contains(&plan.down)));
        for order in Order::ALL {
            assert!(plans.iter().any(|plan| plan.order == order));
        }
    }
}
