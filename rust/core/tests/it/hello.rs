//! Where TLS comes first: the client's hello is kept, and said to the next server as long as
//! none has answered.

use std::time::Duration;

use mailweir_core::spec::Protocol;
use mailweir_core::{EndReason, GreetingFailure, ServerStats};
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Rig, reasons, spec};

const SOON: Duration = Duration::from_millis(100);

/// A hello as far as its form goes: what is in it is nobody's business here.
fn hello() -> Vec<u8> {
    let body = [0x55; 200];
    let message = [&[1, 0, 0, 200][..], &body].concat();
    [&[0x16, 3, 1, 0, 204][..], &message].concat()
}

async fn rig(scripts: &[Script]) -> (Rig, Vec<ScriptedServer>) {
    let mut servers = vec![];
    for script in scripts {
        servers.push(ScriptedServer::start(script.clone()).await.unwrap());
    }
    let addresses: Vec<_> = servers.iter().map(ScriptedServer::addr).collect();
    let mut spec = spec(&addresses);
    spec.listeners[0].protocol = Protocol::Smtps;
    spec.listeners[0].timeouts.greeting = SOON;
    (Rig::start_with(spec), servers)
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_hello_is_replaced() {
    let (rig, _servers) = rig(&[
        Script::Silent,
        Script::ResetOnAccept,
        Script::CloseOnAccept,
        Script::Echo,
    ])
    .await;
    for _ in 0..12 {
        let mut client = TcpStream::connect(rig.addr()).await.unwrap();
        // In two pieces: half a hello is nothing yet.
        let hello = hello();
        client.write_all(&hello[..77]).await.unwrap();
        tokio::task::yield_now().await;
        client.write_all(&hello[77..]).await.unwrap();
        let mut echo = vec![0; hello.len()];
        client.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, hello);
        client.write_all(b"more").await.unwrap();
        let mut more = [0; 4];
        client.read_exact(&mut more).await.unwrap();
        assert_eq!(&more, b"more");
        // Nobody waits for an answer any more.
        client.shutdown().await.unwrap();
        let mut rest = vec![];
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
    }
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::TlsClosed, 12)]);
    assert_eq!(stats.servers[3].sessions, 12);
    let listener = &stats.listeners[0];
    let bytes = 12 * (hello().len() as u64 + 4);
    assert_eq!(
        (listener.received_bytes, listener.sent_bytes),
        (bytes, bytes)
    );
    // A reset may come in any step.
    let is_blamed = |one: &ServerStats| one.spoiled.iter().any(|(_, count)| *count > 0);
    let blamed: Vec<bool> = stats.servers.iter().map(is_blamed).collect();
    assert_eq!(blamed, [true, true, true, false]);
    let silent = &stats.servers[0].greeting_failures;
    let timeouts =
        |(cause, count): &&(GreetingFailure, u64)| *cause == GreetingFailure::Timeout && *count > 0;
    assert!(silent.iter().any(|one| timeouts(&one)), "{silent:?}");
    // What checks hear of it, once for each server.
    let troubles = rig.plane.take_troubles();
    assert_eq!(troubles.len(), 3);
}

#[tokio::test]
async fn a_client_that_says_nothing_costs_no_server_a_place() {
    let (_, servers) = rig(&[Script::Echo]).await;
    let mut spec = spec(&[servers[0].addr()]);
    spec.listeners[0].protocol = Protocol::Smtps;
    spec.listeners[0].timeouts.accept_total = SOON;
    let rig = Rig::start_with(spec);
    let mut client = TcpStream::connect(rig.addr()).await.unwrap();
    let mut heard = vec![];
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"");
    drop(client);
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::IdleClient, 1)]);
    assert_eq!(servers[0].accepted(), 0);
}

#[tokio::test]
async fn where_none_answers_the_connection_is_closed_cleanly() {
    let (rig, _servers) = rig(&[Script::CloseOnAccept]).await;
    let mut client = TcpStream::connect(rig.addr()).await.unwrap();
    client.write_all(&hello()).await.unwrap();
    let mut heard = vec![];
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"");
    drop(client);
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::GreetingFailed, 1)]);
}
