//! Every byte arrives, in order, once, whatever the order of half-closes and sizes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mailweir_core::EndReason;
use mailweir_testkit::exchange::{Plan, hash_exchange_after_greeting};
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use mailweir_testkit::stall::{self, StalledReader};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::ReadHalf;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::rig::{Figures, Rig, ended, reasons};

const GREETING: &[u8] = b"220 exchange\r\n";
const MIB: u32 = 1 << 20;

/// Sessions at a time; each has buffers at both ends.
const PARALLEL: usize = 16;

async fn exchange(sessions: u64, max_bytes: u32) -> Figures {
    let greeting = GREETING.to_vec();
    let server = ScriptedServer::start(Script::HashExchange { greeting })
        .await
        .unwrap();
    let rig = Rig::start_raw(&[server.addr()]);
    let addr = rig.addr();
    let mut running = JoinSet::new();
    let mut results = Vec::new();
    for seed in 0..sessions {
        if running.len() == PARALLEL {
            results.push(running.join_next().await.unwrap().unwrap());
        }
        let plan = Plan::random(seed, max_bytes);
        running.spawn(async move { (plan, hash_exchange_after_greeting(addr, plan).await) });
    }
    results.extend(running.join_all().await);
    for (plan, outcome) in results {
        let outcome = outcome.unwrap_or_else(|error| panic!("{plan:?}: {error}"));
        let other = server.outcome(plan.seed).await.unwrap();
        assert!(outcome.mirrors(&other), "{plan:?}: {outcome:?} {other:?}");
    }
    let stats = rig.wait_for_ends().await;
    println!(
        "{sessions} sessions up to {max_bytes} bytes: {} bytes copied, {} spliced, ends {:?}",
        stats.relay.copied_bytes,
        stats.relay.spliced_bytes,
        reasons(&stats)
    );
    let orderly = [EndReason::ClientClosed, EndReason::ServerClosed];
    assert!(reasons(&stats).iter().all(|(why, _)| orderly.contains(why)));
    let carried = stats.relay.copied_bytes + stats.relay.spliced_bytes;
    let (listener, server) = (&stats.listeners[0], &stats.servers[0]);
    assert_eq!(listener.received_bytes + listener.sent_bytes, carried);
    assert_eq!(server.received_bytes + server.sent_bytes, carried);
    stats
}

/// The full count with `MAILWEIR_LONG=1`.
fn sessions() -> u64 {
    if is_long() { 1000 } else { 120 }
}

fn is_long() -> bool {
    std::env::var_os("MAILWEIR_LONG").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_half_closes_and_sizes_spliced() {
    let stats = exchange(sessions(), 8 * MIB).await;
    assert!(stats.relay.spliced_bytes > stats.relay.copied_bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_half_closes_and_sizes_copied() {
    // Below what a direction carries before it splices.
    let stats = exchange(sessions(), 32 * 1024 - GREETING.len() as u32 - 64).await;
    assert_eq!(stats.relay.spliced_bytes, 0);
}

#[tokio::test]
async fn a_reader_that_stalls_gets_everything_in_the_end() {
    let server = ScriptedServer::start(Script::Echo).await.unwrap();
    let rig = Rig::start_raw(&[server.addr()]);
    let mut client = StalledReader::connect(rig.addr()).await.unwrap();
    let pattern: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
    // More than all buffers on the way hold would never be taken: read as it goes.
    let mut seen = Vec::new();
    for piece in pattern.chunks(100_000) {
        client.send(piece).await.unwrap();
        seen.extend(client.read(piece.len() / 2).await.unwrap());
    }
    seen.extend(client.finish().await.unwrap());
    assert!(seen == pattern, "{} of {} bytes", seen.len(), pattern.len());
    assert_eq!(
        reasons(&rig.wait_for_ends().await),
        [(EndReason::ClientClosed, 1)]
    );
}

/// Line ends of any kind, dots where they end nothing, bytes that aren't text: whatever a client
/// makes of these, the server that reads them has to decide (SMTP smuggling, CVE-2023-51764).
#[tokio::test]
async fn odd_bytes_arrive_as_they_were_said() {
    const ODD: &[u8] =
        b"DATA\r\na\n.\r\nb\r\n.\nc\n.\nd\r.\re\r\n.\r\r\nf\r\n..\r\n\0\xff\xfe\r\n.\r\nQUIT\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [listener.local_addr().unwrap()];
    // Once copied, and once so much that most of it is spliced, which it is where nobody reads it.
    for (rig, times) in [
        (Rig::start(&addresses), 1),
        (Rig::start_raw(&addresses), 20_000),
    ] {
        let client = TcpStream::connect(rig.addr());
        let (client, server) = tokio::join!(client, listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
        server.write_all(GREETING).await.unwrap();
        let sent = tokio::spawn(async move {
            client.write_all(&ODD.repeat(times)).await.unwrap();
            client.shutdown().await.unwrap();
            client
        });
        let mut seen = vec![];
        server.read_to_end(&mut seen).await.unwrap();
        assert!(seen == ODD.repeat(times));
        drop((sent.await.unwrap(), server));
        let spliced = rig.wait_for_ends().await.relay.spliced_bytes;
        let much = 10_000 * ODD.len() as u64;
        assert_eq!(spliced > much, times > 1, "{spliced} of {much}");
    }
}

/// Sessions that are reset while bytes are on their way leave none for the next ones: each has a
/// pattern of its own, both ways, and no end ever sees another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resets_leave_no_bytes_for_others() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::start_raw(&[listener.local_addr().unwrap()]);
    let foreign = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&foreign);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer_in_kind(stream, Arc::clone(&seen)));
        }
    });
    // 10 000 of them with MAILWEIR_LONG=1.
    let sessions = if is_long() { 10_000 } else { 240 };
    let mut running = JoinSet::new();
    for number in 0..sessions {
        if running.len() == PARALLEL {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(insist(rig.addr(), number, Arc::clone(&foreign)));
    }
    running.join_all().await;
    let stats = rig.wait_for_ends().await;
    println!("{sessions} sessions, ends {:?}", reasons(&stats));
    assert!(ended(&stats, EndReason::ClientLost) > sessions / 2);
    assert!(stats.relay.spliced_bytes > stats.relay.copied_bytes);
    assert_eq!(foreign.load(Ordering::Relaxed), 0);
}

/// What a client says, and the most that it reads.
const WORDS: usize = 64 * 1024;
/// What its server says: more than all the buffers on the way to a client hold that reads slowly,
/// so that there is something in the pipe when it resets.
const ANSWER: usize = 1024 * 1024;
/// Small, so that the client reads slowly.
const RECEIVE_BUFFER: u32 = 4096;

/// Says and reads its number again and again; three of four sessions are reset half-way.
async fn insist(addr: SocketAddr, number: u64, foreign: Arc<AtomicU64>) {
    let whole = number.is_multiple_of(4);
    let socket = TcpSocket::new_v4().unwrap();
    if !whole {
        socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    }
    let mut stream = socket.connect(addr).await.unwrap();
    let most = if whole {
        ANSWER
    } else {
        (number as usize * 7919) % WORDS
    };
    let (reader, mut writer) = stream.split();
    let say = async {
        // Where the server ends first, that is none of this test's business.
        let _ = writer.write_all(&number.to_le_bytes().repeat(WORDS)).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = say => {}
        () = read(reader, number, most, &foreign) => {}
    }
    if !whole {
        stall::reset(stream).unwrap();
    }
}

/// A server that answers in the word that it is told first.
async fn answer_in_kind(mut stream: TcpStream, foreign: Arc<AtomicU64>) {
    // A client that leaves before its first word is none to be answered.
    if let Ok(number) = stream.read_u64_le().await {
        let (reader, mut writer) = stream.split();
        let words = number.to_le_bytes().repeat(ANSWER);
        let _ = tokio::join!(
            writer.write_all(&words),
            read(reader, number, WORDS, &foreign)
        );
    }
}

/// Reads words as long as they come, `most` of them; counts those that aren't `number`.
async fn read(reader: ReadHalf<'_>, number: u64, most: usize, foreign: &AtomicU64) {
    let mut reader = BufReader::new(reader);
    for _ in 0..most {
        match reader.read_u64_le().await {
            Ok(word) if word == number => {}
            Ok(_) => _ = foreign.fetch_add(1, Ordering::Relaxed),
            Err(_) => break,
        }
    }
}

/// Urgent data stops splice(2): the byte itself is left out, as a server's own reads leave it out,
/// and all that stands behind it arrives, also where the stream ends there.
#[tokio::test]
async fn what_stands_behind_urgent_data_arrives() {
    const LENGTH: usize = 1 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::start_raw(&[listener.local_addr().unwrap()]);
    for ends in [false, true] {
        let client = TcpStream::connect(rig.addr());
        let (client, server) = tokio::join!(client, listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
        // Read all the time, so that it comes in large pieces and is spliced.
        let reading = tokio::spawn(async move {
            let mut seen = vec![0; LENGTH + 5];
            server.read_exact(&mut seen).await.unwrap();
            server.write_all(b"!").await.unwrap();
            let mut rest = vec![];
            server.read_to_end(&mut rest).await.unwrap();
            (seen, rest)
        });
        client.write_all(&vec![b'x'; LENGTH]).await.unwrap();
        rig.wait_for(|stats| stats.relay.spliced_bytes > 0).await;
        SockRef::from(&client).send_out_of_band(b"u").unwrap();
        client.write_all(b"after").await.unwrap();
        if ends {
            client.shutdown().await.unwrap();
        }
        assert_eq!(client.read_u8().await.unwrap(), b'!');
        drop(client);
        let (seen, rest) = reading.await.unwrap();
        assert!(seen[..LENGTH].iter().all(|byte| *byte == b'x'));
        assert_eq!((&seen[LENGTH..], &rest[..]), (&b"after"[..], &b""[..]));
    }
    rig.wait_for_ends().await;
}
