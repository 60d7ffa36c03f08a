//! Which server a session gets, and what happens when that one can't be reached.

use std::time::Duration;

use mailweir_core::spec::ServerState;
use mailweir_core::{ConnectFailure, EndReason};
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::port::unbound_port;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Rig, reasons, spec};

async fn mail(rig: &Rig) {
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 220);
    assert_eq!(client.command("EHLO a").await.unwrap().code, 250);
    assert_eq!(client.send_message(1000).await.unwrap().code, 250);
    assert_eq!(client.quit().await.unwrap().code, 221);
}

#[tokio::test]
async fn weights_share_the_sessions() {
    let servers = [
        ScriptedServer::start(Script::Smtp).await.unwrap(),
        ScriptedServer::start(Script::Smtp).await.unwrap(),
    ];
    let mut spec = spec(&servers.each_ref().map(ScriptedServer::addr));
    spec.pools[0].servers[1].weight = 50;
    let rig = Rig::start_with(spec);
    for _ in 0..30 {
        mail(&rig).await;
    }
    let stats = rig.wait_for_ends().await;
    assert_eq!(
        [stats.servers[0].sessions, stats.servers[1].sessions],
        [20, 10]
    );
    assert_eq!(stats.listeners[0].accepted, 30);
    let times = &stats.servers[0].times.as_ref().unwrap().connect;
    assert_eq!(times.counts.iter().sum::<u64>(), 20);
}

#[tokio::test]
async fn a_dead_server_is_never_noticed_by_a_client() {
    let dead = unbound_port().unwrap();
    let alive = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start(&[dead.addr(), alive.addr()]);
    for _ in 0..10 {
        mail(&rig).await;
    }
    let stats = rig.wait_for_ends().await;
    // It has had its turns, and each of those sessions went on to the other.
    let refused = (ConnectFailure::Refused, 5);
    assert!(
        stats.servers[0].connect_failures.contains(&refused),
        "{:?}",
        stats.servers[0].connect_failures
    );
    assert_eq!(stats.servers[1].sessions, 10);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    // A listening socket whose queue is full drops what comes.
    let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    silent
        .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    silent.listen(0).unwrap();
    let silent_addr = silent.local_addr().unwrap().as_socket().unwrap();
    let _fills_the_queue = TcpStream::connect(silent_addr).await.unwrap();
    let alive = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = spec(&[silent_addr, alive.addr()]);
    spec.listeners[0].timeouts.connect = Duration::from_millis(100);
    let rig = Rig::start_with(spec);
    mail(&rig).await;
    let stats = rig.wait_for_ends().await;
    let timeout = (ConnectFailure::Timeout, 1);
    assert!(stats.servers[0].connect_failures.contains(&timeout));
}

#[tokio::test]
async fn states_decide_who_gets_new_sessions() {
    let servers = [
        ScriptedServer::start(Script::Smtp).await.unwrap(),
        ScriptedServer::start(Script::Smtp).await.unwrap(),
    ];
    let rig = Rig::start(&servers.each_ref().map(ScriptedServer::addr));
    for state in [ServerState::Down, ServerState::Drain, ServerState::Maint] {
        rig.plane.set_server_states(&[("farm", "0", state)]);
        mail(&rig).await;
        mail(&rig).await;
    }
    assert_eq!([servers[0].accepted(), servers[1].accepted()], [0, 6]);
    rig.plane
        .set_server_states(&[("farm", "0", ServerState::Up)]);
    rig.plane
        .set_server_states(&[("farm", "nobody", ServerState::Up)]);
    mail(&rig).await;
    mail(&rig).await;
    assert_eq!(servers[0].accepted(), 1);
}

/// A refused client reads the whole refusal, also when it talked before it listened.
#[tokio::test]
async fn without_a_server_the_client_is_told_to_come_back() {
    let dead = unbound_port().unwrap();
    let rig = Rig::start(&[dead.addr()]);
    for flood in [0, 64 * 1024] {
        let mut client = TcpStream::connect(rig.addr()).await.unwrap();
        client.write_all(&vec![b'x'; flood]).await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("421 4.3.2 mx.test "), "{said:?}");
        assert!(said.ends_with("\r\n"), "{said:?}");
    }
    rig.plane
        .set_server_states(&[("farm", "0", ServerState::Down)]);
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 421);
    drop(client);
    let ends = [(EndReason::NoServer, 1), (EndReason::ConnectFailed, 2)];
    assert_eq!(reasons(&rig.wait_for_ends().await), ends);
}

/// Nothing that we could say would be understood.
#[tokio::test]
async fn where_tls_comes_first_a_refusal_is_silent() {
    let dead = unbound_port().unwrap();
    let mut spec = spec(&[dead.addr()]);
    spec.listeners[0].protocol = mailweir_core::spec::Protocol::Smtps;
    spec.listeners[0].timeouts.accept_total = Duration::from_secs(1);
    let rig = Rig::start_with(spec);
    let mut client = TcpStream::connect(rig.addr()).await.unwrap();
    client.write_all(b"\x16\x03\x01").await.unwrap();
    let mut said = vec![];
    client.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"");
}
