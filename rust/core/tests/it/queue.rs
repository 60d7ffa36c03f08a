//! Sessions that wait because every server is full.

use std::time::Duration;

use mailweir_core::spec::{Protocol, QueueSpec};
use mailweir_core::{EndReason, QueueEnd};
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Rig, ended, spec};

/// One server that has one session, and a queue.
async fn start(wait: Duration) -> (ScriptedServer, Rig) {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = spec(&[server.addr()]);
    spec.pools[0].servers[0].max_sessions = Some(1);
    spec.pools[0].queue = Some(QueueSpec { length: 3, wait });
    let rig = Rig::start_with(spec);
    (server, rig)
}

async fn waiting(rig: &Rig, number: u64) {
    rig.wait_for(|stats| stats.pools[0].waiting == number).await;
}

#[tokio::test]
async fn who_comes_first_is_served_first() {
    let (_server, rig) = start(Duration::from_secs(60)).await;
    let mut first = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(first.greeting().await.unwrap().code, 220);
    let mut second = SmtpClient::connect(rig.addr()).await.unwrap();
    waiting(&rig, 1).await;
    let gone = TcpStream::connect(rig.addr()).await.unwrap();
    waiting(&rig, 2).await;
    let mut third = SmtpClient::connect(rig.addr()).await.unwrap();
    waiting(&rig, 3).await;
    // There is no room for more.
    let mut refused = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(refused.greeting().await.unwrap().code, 421);
    drop(gone);
    waiting(&rig, 2).await;
    first.quit().await.unwrap();
    assert_eq!(second.greeting().await.unwrap().code, 220);
    waiting(&rig, 1).await;
    second.quit().await.unwrap();
    assert_eq!(third.greeting().await.unwrap().code, 220);
    third.quit().await.unwrap();
    let stats = rig.wait_for_ends().await;
    let ends = &stats.pools[0].queue_ends;
    for expected in [
        (QueueEnd::Served, 2),
        (QueueEnd::ClientGone, 1),
        (QueueEnd::Full, 1),
        (QueueEnd::Timeout, 0),
    ] {
        assert!(ends.contains(&expected), "{ends:?}");
    }
    assert_eq!(stats.pools[0].queued, 3);
    assert_eq!(ended(&stats, EndReason::Full), 1);
}

#[tokio::test]
async fn a_wait_has_its_end() {
    let (_server, rig) = start(Duration::from_millis(50)).await;
    let mut first = SmtpClient::connect(rig.addr()).await.unwrap();
    first.greeting().await.unwrap();
    let mut second = TcpStream::connect(rig.addr()).await.unwrap();
    let mut said = String::new();
    second.read_to_string(&mut said).await.unwrap();
    assert_eq!(
        said,
        "421 4.3.2 mx.test all mail servers are busy, try again later\r\n"
    );
    first.quit().await.unwrap();
    let stats = rig.wait_for_ends().await;
    assert_eq!(ended(&stats, EndReason::QueueTimeout), 1);
}

/// A change of the configuration that makes room serves those who wait, under their own.
#[tokio::test]
async fn a_reload_serves_who_waits() {
    let (_server, mut rig) = start(Duration::from_secs(60)).await;
    let mut first = SmtpClient::connect(rig.addr()).await.unwrap();
    first.greeting().await.unwrap();
    let mut second = SmtpClient::connect(rig.addr()).await.unwrap();
    waiting(&rig, 1).await;
    rig.spec.pools[0].servers[0].max_sessions = None;
    rig.spec.pools[0].queue = None;
    rig.plane.apply(&rig.spec).unwrap();
    assert_eq!(second.greeting().await.unwrap().code, 220);
}

/// An end of stream may be all that somebody has to say, where anything is spoken.
#[tokio::test]
async fn what_ends_its_stream_may_still_wait() {
    let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut spec = spec(&[server.local_addr().unwrap()]);
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = server.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = peer.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    spec.listeners[0].protocol = Protocol::Tcp;
    spec.pools[0].servers[0].max_sessions = Some(1);
    spec.pools[0].queue = Some(QueueSpec {
        length: 3,
        wait: Duration::from_secs(60),
    });
    let rig = Rig::start_with(spec);
    let first = TcpStream::connect(rig.addr()).await.unwrap();
    rig.wait_for(|stats| stats.servers[0].sessions == 1).await;
    let mut second = TcpStream::connect(rig.addr()).await.unwrap();
    waiting(&rig, 1).await;
    second.write_all(b"all").await.unwrap();
    second.shutdown().await.unwrap();
    drop(first);
    let mut heard = String::new();
    second.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "all");
}
