//! What is kept back whatever clients do: connections that linger are few, and what there is room
//! for isn't exceeded, however many sessions there may be. And no session comes back to us.

use std::net::Ipv4Addr;

use mailweir_core::spec::Prefix;
use mailweir_core::{ConnectFailure, EndReason};
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::rig::{Rig, ended, reasons, spec};

/// Clients that are refused and never close: some are waited for, the others are closed at once;
/// all hear why.
#[tokio::test]
async fn few_of_those_that_are_refused_are_waited_for() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = spec(&[server.addr()]);
    spec.room.spare = 3;
    spec.listeners[0].access.deny = vec![Prefix::parse("127.0.0.0/8").unwrap()];
    let rig = Rig::start_with(spec);
    let mut clients = vec![];
    for _ in 0..20 {
        let mut client = TcpStream::connect(rig.addr()).await.unwrap();
        let mut told = String::new();
        client.read_to_string(&mut told).await.unwrap();
        assert!(told.starts_with("554 5.7.1 "), "{told}");
        clients.push(client);
    }
    let stats = rig.wait_for(|stats| stats.room.hurried == 17).await;
    assert_eq!(stats.room.lingering, 3);
    drop(clients);
    let stats = rig.wait_for_ends().await;
    assert_eq!((stats.room.lingering, stats.room.hurried), (0, 17));
    assert_eq!(ended(&stats, EndReason::Denied), 20);
}

#[tokio::test]
async fn what_there_is_room_for_counts_whatever_is_configured() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = spec(&[server.addr()]);
    spec.room.sessions = 2;
    let rig = Rig::start_with(spec);
    let mut clients = vec![];
    for expected in [220, 220, 421] {
        let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
        assert_eq!(client.greeting().await.unwrap().code, expected);
        clients.push(client);
    }
    drop(clients);
    let stats = rig.wait_for_ends().await;
    assert_eq!(ended(&stats, EndReason::Full), 1);
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 220);
}

/// By every address that it listens at: one connect made thousands of sessions.
#[tokio::test]
async fn a_server_that_is_ourselves_is_not_dialled() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut first = spec(&[server.addr()]);
    first.listeners[0].bind = vec![(Ipv4Addr::UNSPECIFIED, 0).into()];
    let rig = Rig::start_with(first.clone());
    let port = rig.addr().port();
    // Only now it is known which port that is.
    first.pools[0].servers[0].address = (Ipv4Addr::new(127, 0, 0, 3), port).into();
    rig.plane.apply(&first).unwrap();
    let mut client = SmtpClient::connect((Ipv4Addr::LOCALHOST, port).into())
        .await
        .unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 421);
    drop(client);
    let stats = rig.wait_for_ends().await;
    assert_eq!(stats.listeners[0].accepted, 1);
    assert_eq!(reasons(&stats), [(EndReason::ConnectFailed, 1)]);
    let seen = stats.servers[0]
        .connect_failures
        .iter()
        .filter(|(_, n)| *n > 0);
    assert_eq!(
        seen.copied().collect::<Vec<_>>(),
        [(ConnectFailure::Loop, 1)]
    );
}
