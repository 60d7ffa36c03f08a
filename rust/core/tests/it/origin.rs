//! Who servers think a session is from: PROXY headers and source addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mailweir_core::spec::{Protocol, ProxyVersion};
use mailweir_core::{ConnectFailure, EndReason};
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::proxy::Accept;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;

use crate::rig::{Rig, ended, reasons, spec};

async fn server_with_header(at: &str, accept: Accept) -> ScriptedServer {
    ScriptedServer::start_at(at.parse().unwrap(), Script::Smtp, Some(accept))
        .await
        .unwrap()
}

#[tokio::test]
async fn servers_are_told_who_the_client_is() {
    for (version, accept) in [
        (ProxyVersion::V1, Accept::V1),
        (ProxyVersion::V2, Accept::V2),
    ] {
        for (host, at) in [("127.0.0.1", "127.0.0.1:0"), ("::1", "[::1]:0")] {
            // The families of the two legs needn't agree.
            let server = server_with_header("127.0.0.1:0", accept).await;
            let mut spec = spec(&[server.addr()]);
            spec.listeners[0].bind = vec![at.parse().unwrap()];
            spec.pools[0].servers[0].proxy = version;
            let rig = Rig::start_with(spec);
            let source: IpAddr = host.parse().unwrap();
            let mut client = SmtpClient::connect_from(source, rig.addr()).await.unwrap();
            assert_eq!(client.greeting().await.unwrap().code, 220);
            let stream = client.into_stream();
            let header = server.log().connections[0].proxy.unwrap();
            let pair = (stream.local_addr().unwrap(), rig.addr());
            assert_eq!(header.addresses, Some(pair));
        }
    }
}

#[tokio::test]
async fn sources_take_turns() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = spec(&[server.addr()]);
    let sources = [2, 3, 4].map(|last| IpAddr::from(Ipv4Addr::new(127, 0, 0, last)));
    spec.pools[0].servers[0].source = sources.into();
    let rig = Rig::start_with(spec);
    for _ in 0..9 {
        let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
        assert_eq!(client.greeting().await.unwrap().code, 220);
        client.quit().await.unwrap();
    }
    let log = server.log();
    for source in sources {
        let from = log.connections.iter().filter(|one| one.peer.ip() == source);
        assert_eq!(from.count(), 3);
    }
}

/// 192.0.2.1 (RFC 5737) isn't ours, which the kernel says as it says that no port is left.
#[tokio::test]
async fn a_source_that_cannot_be_had_is_passed_over() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let absent: IpAddr = "192.0.2.1".parse().unwrap();
    let mut spec = spec(&[server.addr(), server.addr()]);
    spec.pools[0].servers[0].source = vec![absent, "127.0.0.9".parse().unwrap()];
    let rig = Rig::start_with(spec.clone());
    for _ in 0..6 {
        let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
        assert_eq!(client.greeting().await.unwrap().code, 220);
        client.quit().await.unwrap();
    }
    let stats = rig.wait_for_ends().await;
    assert_eq!(stats.servers[0].sessions, 3);

    // None is left for one server: another one takes the session, and nobody is blamed.
    spec.pools[0].servers[0].source = vec![absent];
    rig.plane.apply(&spec).unwrap();
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 220);
    client.quit().await.unwrap();
    let stats = rig.wait_for_ends().await;
    let local = |(cause, _): &&(ConnectFailure, u64)| *cause == ConnectFailure::Local;
    let failures = &stats.servers[0].connect_failures;
    assert_eq!(failures.iter().find(local).unwrap().1, 1);
    assert!(rig.plane.take_troubles().is_empty());

    // None is left at all: the client is told.
    spec.pools[0].servers[1].source = vec![absent];
    rig.plane.apply(&spec).unwrap();
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    assert!(
        client
            .greeting()
            .await
            .unwrap()
            .text
            .contains("out of resources")
    );
    drop(client);
    let stats = rig.wait_for_ends().await;
    assert_eq!(ended(&stats, EndReason::OutOfDescriptors), 1);
}

/// The header comes before the client's hello too.
#[tokio::test]
async fn on_smtps_the_header_comes_before_the_hello() {
    let server = ScriptedServer::start_at(
        SocketAddr::from(([127, 0, 0, 1], 0)),
        Script::Echo,
        Some(Accept::V2),
    )
    .await
    .unwrap();
    let mut spec = spec(&[server.addr()]);
    spec.listeners[0].protocol = Protocol::Smtps;
    spec.pools[0].servers[0].proxy = ProxyVersion::V2;
    let rig = Rig::start_with(spec);
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    client.send(b"not TLS\r\n").await.unwrap();
    let mut stream = client.into_stream();
    let mut echo = [0; 9];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut echo)
        .await
        .unwrap();
    assert_eq!(&echo, b"not TLS\r\n");
    drop(stream);
    assert_eq!(
        reasons(&rig.wait_for_ends().await),
        [(EndReason::ClientClosed, 1)]
    );
    assert!(server.log().connections[0].proxy.is_some());
}
