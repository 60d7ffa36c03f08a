//! How sessions end: half-closes, resets, silence, and the end of the plane.

use std::io::ErrorKind;
use std::time::Duration;

use mailweir_core::EndReason;
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use mailweir_testkit::stall;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Rig, raw, reasons, spec};

/// A session that is being relayed, with both ends in the test's hands.
async fn both_ends(rig: &Rig, server: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(rig.addr());
    let (client, server) = tokio::join!(client, server.accept());
    let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
    server.write_all(b"!").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'!');
    (client, server)
}

async fn rig() -> (Rig, TcpListener) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::start_raw(&[server.local_addr().unwrap()]);
    (rig, server)
}

#[tokio::test]
async fn a_half_close_leaves_the_other_direction_open() {
    let (rig, listener) = rig().await;
    let (mut client, mut server) = both_ends(&rig, &listener).await;
    client.write_all(b"QUIT\r\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut seen = String::new();
    server.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "QUIT\r\n");
    server.write_all(b"221 bye\r\n").await.unwrap();
    drop(server);
    let mut seen = String::new();
    client.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "221 bye\r\n");
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::ClientClosed, 1)]);
}

#[tokio::test]
async fn a_reset_travels_as_a_reset() {
    let (rig, listener) = rig().await;
    let (client, mut server) = both_ends(&rig, &listener).await;
    stall::reset(client).unwrap();
    let error = server.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    rig.wait_for_ends().await;

    let (mut client, server) = both_ends(&rig, &listener).await;
    stall::reset(server).unwrap();
    let error = client.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let ends = [(EndReason::ClientLost, 1), (EndReason::ServerLost, 1)];
    assert_eq!(reasons(&rig.wait_for_ends().await), ends);
}

/// A server that closes with unread input resets the connection; its last word came before.
#[tokio::test]
async fn the_last_word_of_a_server_that_hangs_up_arrives() {
    let (rig, listener) = rig().await;
    for _ in 0..50 {
        let (mut client, mut server) = both_ends(&rig, &listener).await;
        client.write_all(&[b'x'; 4000]).await.unwrap();
        server.read_u8().await.unwrap();
        server.write_all(b"554 go away\r\n").await.unwrap();
        drop(server);
        let mut seen = [0; 13];
        client.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"554 go away\r\n");
    }
}

/// However much of it there is, and however slowly the client takes it.
#[tokio::test]
async fn a_long_goodbye_arrives_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::start_with(spec(&[listener.local_addr().unwrap()]));
    for lines in [1, 200_000] {
        let client = TcpStream::connect(rig.addr());
        let (client, server) = tokio::join!(client, listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
        server.write_all(b"220 hi\r\n").await.unwrap();
        let mut greeting = [0; 8];
        client.read_exact(&mut greeting).await.unwrap();
        client.write_all(b"QUIT\r\n").await.unwrap();
        let mut asked = [0; 6];
        server.read_exact(&mut asked).await.unwrap();
        let goodbye = "221-bye\r\n".repeat(lines) + "221 bye\r\n";
        let said = goodbye.clone();
        let saying = tokio::spawn(async move {
            server.write_all(said.as_bytes()).await.unwrap();
            server.shutdown().await.unwrap();
        });
        let mut seen = String::new();
        client.read_to_string(&mut seen).await.unwrap();
        assert!(seen == goodbye, "{} of {} bytes", seen.len(), goodbye.len());
        saying.await.unwrap();
        drop(client);
    }
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::ClientQuit, 2)]);
}

async fn silent_session(change: impl FnOnce(&mut mailweir_core::spec::Timeouts)) -> Rig {
    let server = ScriptedServer::start(Script::Silent).await.unwrap();
    let mut spec = raw(&[server.addr()]);
    change(&mut spec.listeners[0].timeouts);
    let rig = Rig::start_with(spec);
    let mut client = TcpStream::connect(rig.addr()).await.unwrap();
    client.write_all(b"EHLO a\r\n").await.unwrap();
    let mut rest = vec![];
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"", "nothing is ever made up");
    rig
}

const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_server_that_owes_an_answer_is_waited_for_and_then_cut() {
    let rig = silent_session(|timeouts| timeouts.idle_server = SOON).await;
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::IdleServer, 1)]);
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_by_its_own_limit() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = spec(&[server.addr()]);
    spec.listeners[0].timeouts.idle_client = SOON;
    let rig = Rig::start_with(spec);
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 220);
    assert_eq!(
        client.reply("nothing").await.unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::IdleClient, 1)]);
}

#[tokio::test]
async fn a_half_closed_session_that_is_silent_is_cut() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut spec = raw(&[silent.local_addr().unwrap()]);
    spec.listeners[0].timeouts.half_closed = SOON;
    let rig = Rig::start_with(spec);
    let (mut client, mut other) = both_ends(&rig, &silent).await;
    other.write_all(b"220 hello\r\n").await.unwrap();
    other.shutdown().await.unwrap();
    let mut seen = String::new();
    client.read_to_string(&mut seen).await.unwrap();
    assert_eq!(seen, "220 hello\r\n");
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::HalfClosed, 1)]);
    drop((client, other, server));
}

#[tokio::test]
async fn stopping_ends_every_session_and_counts_it() {
    let (rig, listener) = rig().await;
    let (mut client, _server) = both_ends(&rig, &listener).await;
    rig.wait_for(|stats| stats.active == 1).await;
    rig.plane.stop();
    assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let stats = rig.figures();
    assert_eq!((stats.active, stats.draining), (0, true));
    assert_eq!(reasons(&stats), [(EndReason::Stopped, 1)]);
    rig.plane.stop();
    assert!(rig.plane.apply(&rig.spec).is_err());
}
