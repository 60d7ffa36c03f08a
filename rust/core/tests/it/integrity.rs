//! Every byte arrives, in order, once, whatever the order of half-closes and sizes.

use mailweir_core::EndReason;
use mailweir_testkit::exchange::{Plan, hash_exchange_after_greeting};
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use mailweir_testkit::stall::StalledReader;
use tokio::task::JoinSet;

use crate::rig::{Rig, reasons};

const GREETING: &[u8] = b"220 exchange\r\n";
const MIB: u32 = 1 << 20;

/// Sessions at a time; each has buffers at both ends.
const PARALLEL: usize = 16;

async fn exchange(sessions: u64, max_bytes: u32) -> mailweir_core::Stats {
    let greeting = GREETING.to_vec();
    let server = ScriptedServer::start(Script::HashExchange { greeting })
        .await
        .unwrap();
    let rig = Rig::start(&[server.addr()]);
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
    if std::env::var_os("MAILWEIR_LONG").is_some() {
        1000
    } else {
        120
    }
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
