//! Sessions that can't go on cost nothing while they wait, and lose nothing once they can.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mailweir_core::EndReason;
use mailweir_testkit::stall::StalledReader;
use rustix::time::{ClockId, clock_gettime};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::alone::{alone, in_a_process};
use crate::rig::{Rig, reasons};

/// Of one core, for all of them.
const MOST: f64 = 0.05;

/// Pieces that servers said. They fill the buffers before us when nothing is carried any more.
static SAID: AtomicU64 = AtomicU64::new(0);

#[test]
fn stalled_sessions_burn_no_cpu() {
    in_a_process("stalls::no_cpu");
}

/// What a server does to its client, which reads nothing for a while.
#[derive(Debug, Clone, Copy)]
enum Stall {
    /// Segments of 536 bytes, each with a slot of the pipe to itself, more than all the
    /// buffers on the way hold.
    SmallSegments,
    /// An end of stream right behind a last block that can't be delivered.
    LastBlock,
    /// An end of stream; the client keeps its own direction open.
    HalfClosed,
}

impl Stall {
    fn sessions(self) -> usize {
        match self {
            Self::SmallSegments => 20,
            Self::LastBlock => 50,
            Self::HalfClosed => 200,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::SmallSegments => 8 << 20,
            Self::LastBlock => 3 << 20,
            Self::HalfClosed => 100,
        }
    }
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn no_cpu() {
    alone();
    for stall in [Stall::SmallSegments, Stall::LastBlock, Stall::HalfClosed] {
        let rig = served(stall).await;
        let sessions = stall.sessions();
        let mut clients = Vec::with_capacity(sessions);
        for _ in 0..sessions {
            clients.push(StalledReader::connect(rig.addr()).await.unwrap());
        }
        rig.wait_for(|stats| stats.active == sessions as u64).await;
        let (share, carried) = share_of_cpu(&rig).await;
        println!("{stall:?}: {sessions} sessions, {carried} bytes carried, {share:.3} of a core");
        assert!(share < MOST, "{stall:?}: {share:.3} of a core");

        let mut reading = JoinSet::new();
        for client in clients {
            reading.spawn(client.finish());
        }
        while let Some(read) = reading.join_next().await {
            let read = read.unwrap().unwrap();
            assert_eq!(read.len(), stall.bytes());
            assert!(
                read.iter()
                    .enumerate()
                    .all(|(at, byte)| *byte == pattern(at))
            );
        }
        let stats = rig.wait_for_ends().await;
        let ends: u64 = reasons(&stats).iter().map(|(_, number)| number).sum();
        assert_eq!(ends, sessions as u64, "{:?}", reasons(&stats));
        assert!(
            reasons(&stats).iter().all(|(why, _)| {
                matches!(why, EndReason::ClientClosed | EndReason::ServerClosed)
            })
        );
    }
}

/// A byte that tells where it belongs.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

/// A data plane before a server that treats every client so.
async fn served(stall: Stall) -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, stall));
        }
    });
    Rig::start_raw(&[address])
}

async fn serve(mut stream: TcpStream, stall: Stall) -> io::Result<()> {
    let bytes: Vec<u8> = (0..stall.bytes()).map(pattern).collect();
    if matches!(stall, Stall::SmallSegments) {
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_mss(536)?;
    }
    for piece in bytes.chunks(if matches!(stall, Stall::SmallSegments) {
        536
    } else {
        65536
    }) {
        stream.write_all(piece).await?;
        SAID.fetch_add(1, Relaxed);
    }
    stream.shutdown().await?;
    stream.read_to_end(&mut vec![]).await?;
    Ok(())
}

/// What of a core this process uses once nothing moves any more, and what moved until then.
async fn share_of_cpu(rig: &Rig) -> (f64, u64) {
    let moved = || {
        let relay = rig.plane.stats().relay;
        let carried = relay.copied_bytes + relay.spliced_bytes;
        (carried, SAID.load(Relaxed))
    };
    let (mut before, mut still) = ((0, 0), 0);
    while still < 5 {
        sleep(Duration::from_millis(200)).await;
        let now = moved();
        still = if now == before && now.0 > 0 {
            still + 1
        } else {
            0
        };
        before = now;
    }
    let (began, used) = (Instant::now(), cpu_time());
    sleep(Duration::from_secs(1)).await;
    let used = cpu_time() - used;
    assert_eq!(moved(), before, "stalled");
    (used.as_secs_f64() / began.elapsed().as_secs_f64(), before.0)
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// More or less than a segment, a page, a pipe; and an end of stream right behind it.
#[tokio::test]
async fn what_comes_before_an_end_of_stream_arrives_before_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::start_raw(&[listener.local_addr().unwrap()]);
    for tail in [
        1,
        2,
        1447,
        4096,
        65535,
        65536,
        65537,
        1 << 20,
        (1 << 20) + 1,
        3 << 20,
    ] {
        for from_client in [true, false] {
            let (client, server) = both(rig.addr(), &listener).await;
            let (sender, reader) = if from_client {
                (client, server)
            } else {
                (server, client)
            };
            let sent = tokio::spawn(send(sender, tail));
            assert_eq!(read_slowly(reader).await, tail);
            sent.await.unwrap();
        }
    }
}

async fn both(addr: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let (client, server) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

async fn send(mut stream: TcpStream, tail: usize) {
    let bytes: Vec<u8> = (0..tail).map(pattern).collect();
    stream.write_all(&bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut vec![]).await.unwrap();
}

/// Reads in pieces of all sizes, with a rest after each; how much there was to the end.
async fn read_slowly(mut stream: TcpStream) -> usize {
    let mut buffer = vec![0; 100_000];
    let mut seen = 0;
    loop {
        let most = 1 + seen % buffer.len();
        let size = stream.read(&mut buffer[..most]).await.unwrap();
        if size == 0 {
            return seen;
        }
        let right = buffer[..size].iter().enumerate();
        assert!(
            right
                .into_iter()
                .all(|(at, byte)| *byte == pattern(seen + at))
        );
        seen += size;
        tokio::task::yield_now().await;
    }
}
