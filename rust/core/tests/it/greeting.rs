//! Servers that accept and then don't greet as they should: the client never knows.

use std::time::Duration;

use mailweir_core::{EndReason, GreetingFailure, ServerStats};
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::{Script, Then};
use mailweir_testkit::server::ScriptedServer;
use mailweir_testkit::stall;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::rig::{Rig, reasons, spec};

const SOON: Duration = Duration::from_millis(100);

fn failures(server: &ServerStats) -> Vec<(GreetingFailure, u64)> {
    let failures = server.greeting_failures.iter();
    failures.filter(|(_, count)| *count > 0).copied().collect()
}

async fn servers(scripts: &[Script]) -> Vec<ScriptedServer> {
    let mut servers = vec![];
    for script in scripts {
        servers.push(ScriptedServer::start(script.clone()).await.unwrap());
    }
    servers
}

/// In front of these, with little patience for greetings.
fn rig(servers: &[ScriptedServer]) -> Rig {
    let addresses: Vec<_> = servers.iter().map(ScriptedServer::addr).collect();
    let mut spec = spec(&addresses);
    spec.listeners[0].timeouts.greeting = SOON;
    Rig::start_with(spec)
}

async fn mail(addr: std::net::SocketAddr) {
    let mut client = SmtpClient::connect(addr).await.unwrap();
    assert_eq!(
        client.greeting().await.unwrap().text,
        "220 scripted ESMTP\r\n"
    );
    assert_eq!(client.send_message(1000).await.unwrap().code, 250);
    assert_eq!(client.quit().await.unwrap().code, 221);
}

/// The full count with `MAILWEIR_LONG=1`.
fn sessions() -> u64 {
    if std::env::var_os("MAILWEIR_LONG").is_some() {
        10_000
    } else {
        300
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_greet_is_replaced() {
    let servers = servers(&[
        Script::RefuseWith421,
        Script::Silent,
        Script::ResetOnAccept,
        Script::CloseOnAccept,
        Script::greeting_then_close("554 no SMTP service here\r\n"),
        Script::greeting_then_close("SSH-2.0-nonsense\r\n"),
        Script::Smtp,
    ])
    .await;
    let rig = rig(&servers);
    let addr = rig.addr();
    let mut clients = JoinSet::new();
    for _ in 0..sessions() {
        if clients.len() == 50 {
            clients.join_next().await.unwrap().unwrap();
        }
        clients.spawn(mail(addr));
    }
    clients.join_all().await;
    let stats = rig.wait_for_ends().await;
    println!("{} sessions, 0 of them noticed", sessions());
    assert_eq!(stats.servers[6].sessions, sessions());
    let seen: Vec<_> = stats.servers.iter().map(failures).collect();
    for (server, cause) in [
        (0, GreetingFailure::RefusedNow),
        (1, GreetingFailure::Timeout),
        (3, GreetingFailure::Closed),
        (4, GreetingFailure::Refused),
        (5, GreetingFailure::Nonsense),
    ] {
        assert!(
            matches!(seen[server][..], [(only, _)] if only == cause),
            "{seen:?}"
        );
    }
    // A reset can come before the connect is known to have succeeded.
    let resets = seen[2].iter().map(|(cause, count)| {
        assert_eq!(*cause, GreetingFailure::Reset);
        *count
    });
    let refused = stats.servers[2].connect_failures.iter();
    let refused = refused.map(|(_, count)| *count);
    assert!(resets.chain(refused).sum::<u64>() > 0);
    assert_eq!(seen[6], []);
}

#[tokio::test]
async fn where_none_greets_the_client_is_told_to_come_back() {
    let servers = servers(&[Script::RefuseWith421, Script::Silent]).await;
    let addresses: Vec<_> = servers.iter().map(ScriptedServer::addr).collect();
    let mut spec = spec(&addresses);
    spec.listeners[0].timeouts.greeting = SOON;
    spec.listeners[0].timeouts.accept_total = SOON * 3;
    let rig = Rig::start_with(spec);
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    let refusal = client.greeting().await.unwrap();
    assert!(
        refusal.text.starts_with("421 4.3.2 mx.test "),
        "{refusal:?}"
    );
    drop(client);
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::GreetingFailed, 1)]);
    // The one that refused was left politely.
    let log = servers[0].wait_for_ends().await.unwrap();
    assert!(log.connections.iter().all(|one| one.end == Some(Ok(()))));
}

#[tokio::test]
async fn greetings_pass_however_they_are_cut() {
    for pieces in [
        vec!["220 mx.test ESMTP\r\n"],
        vec!["2", "20", " mx.test ESMTP\r", "\n"],
        vec!["220-one\r\n220-two\r\n220 three\r\n"],
        vec!["220-o", "ne\r\n220", "-two\r\n220 three\r\n"],
    ] {
        let server = ScriptedServer::start(Script::Greeting {
            pieces: pieces
                .iter()
                .map(|piece| piece.as_bytes().to_vec())
                .collect(),
            pause: Duration::from_millis(5),
            then: Then::Serve,
        })
        .await
        .unwrap();
        let rig = Rig::start(&[server.addr()]);
        let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
        assert_eq!(client.greeting().await.unwrap().text, pieces.concat());
        assert_eq!(client.send_message(1000).await.unwrap().code, 250);
        assert_eq!(client.quit().await.unwrap().code, 221);
        let server = &rig.wait_for_ends().await.servers[0];
        assert_eq!(
            server
                .times
                .as_ref()
                .unwrap()
                .greeting
                .counts
                .iter()
                .sum::<u64>(),
            1
        );
        assert_eq!(
            server.received_bytes,
            rig.plane.stats().listeners[0].sent_bytes
        );
    }
}

/// postscreen's teaser: the first line at once, the last one when its wait is over.
#[tokio::test]
async fn a_teaser_passes_before_the_rest_of_the_greeting() {
    let server = ScriptedServer::start(Script::Greeting {
        pieces: vec![b"220-teaser\r\n".into(), b"220 mx.test\r\n".into()],
        pause: SOON * 3,
        then: Then::Serve,
    })
    .await
    .unwrap();
    let rig = Rig::start(&[server.addr()]);
    let mut client = TcpStream::connect(rig.addr()).await.unwrap();
    let mut teaser = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut client, &mut teaser)
        .await
        .unwrap();
    assert_eq!(&teaser, b"220-teaser\r\n");
    let mut client = SmtpClient::over(client);
    assert_eq!(client.greeting().await.unwrap().text, "220 mx.test\r\n");
}

#[tokio::test]
async fn a_client_that_is_lost_meanwhile_ends_the_session() {
    let server = ScriptedServer::start(Script::Silent).await.unwrap();
    let rig = Rig::start(&[server.addr()]);
    let client = TcpStream::connect(rig.addr()).await.unwrap();
    server
        .wait_for(|log| log.connections.len() == 1)
        .await
        .unwrap();
    stall::reset(client).unwrap();
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::ClientLost, 1)]);
    // And the server is let go.
    server.wait_for_ends().await.unwrap();
}
