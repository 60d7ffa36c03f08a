//! Addresses: had or not had, left without losing anybody, never shared by accident.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mailweir_core::{ApplyError, DataPlane, EndReason, Parting};
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use socket2::{Domain, Socket, Type};
use tokio::task::JoinSet;

use crate::rig::{Rig, ended, spec};

async fn server() -> ScriptedServer {
    ScriptedServer::start(Script::Smtp).await.unwrap()
}

/// An address that was free a moment ago.
fn free_address() -> SocketAddr {
    let probe = StdListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap()
}

#[tokio::test]
async fn an_address_that_is_taken_changes_nothing() {
    let server = server().await;
    let rig = Rig::start(&[server.addr()]);
    let before = rig.addr();
    // Also by one that would share: SO_REUSEPORT, as another mailweir has it.
    for reuse_port in [false, true] {
        let taken = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        taken.set_reuse_port(reuse_port).unwrap();
        taken
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        taken.listen(1).unwrap();
        let mut spec = rig.spec.clone();
        let address = taken.local_addr().unwrap().as_socket().unwrap();
        spec.listeners[0].bind = vec![free_address(), address];
        let error = rig.plane.apply(&spec).unwrap_err();
        let wanted = format!("listener mx: {address} can't be bound: ");
        assert!(error.to_string().starts_with(&wanted), "{error}");
        assert!(matches!(error, ApplyError::Bind { .. }));
    }
    assert_eq!(rig.plane.stats().generation, 1);
    assert_eq!(rig.addr(), before);
    let mut client = SmtpClient::connect(before).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 220);
}

#[tokio::test]
async fn contradictions_are_named_and_change_nothing() {
    let server = server().await;
    let rig = Rig::start(&[server.addr()]);
    let mut bad = rig.spec.clone();
    bad.listeners[0].pool = "nowhere".into();
    let error = rig.plane.apply(&bad).unwrap_err();
    assert_eq!(error.to_string(), "listeners.mx: there is no pool nowhere");
    let mut bad = rig.spec.clone();
    bad.hostname = "mx.test\r\n250 hello".into();
    let error = rig.plane.apply(&bad).unwrap_err();
    assert!(error.to_string().starts_with("hostname: "), "{error}");
    let mut bad = rig.spec.clone();
    let twin = bad.pools[0].servers[0].clone();
    bad.pools[0].servers.push(twin);
    assert!(matches!(rig.plane.apply(&bad), Err(ApplyError::Spec(_))));
    assert_eq!(rig.plane.stats().generation, 1);
}

/// Listens anew at the same address, under another name and wider: nobody is turned away,
/// and the sockets of an unchanged address stay what they are.
#[tokio::test]
async fn a_listener_can_be_renamed_and_widened() {
    let server = server().await;
    let mut narrow = spec(&[server.addr()]);
    let address = free_address();
    narrow.listeners[0].bind = vec![address];
    let rig = Rig::start_with(narrow.clone());
    let mut renamed = narrow.clone();
    renamed.listeners[0].name = "other".into();
    rig.plane.apply(&renamed).unwrap();
    assert_eq!(rig.addr(), address);
    let mut wide = renamed.clone();
    wide.listeners[0].bind = vec![([0, 0, 0, 0], address.port()).into()];
    rig.plane.apply(&wide).unwrap();
    let mut client = SmtpClient::connect(address).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 220);
    assert_eq!(rig.plane.stats().listeners[0].name, "other");
    assert_eq!(rig.plane.stats().listeners[0].accepted, 1);
}

/// Clients keep connecting while the listener leaves: each is either served or finds nobody.
/// Nobody is taken in and dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_leaves_serves_its_queue_first() {
    for drain in [false, true] {
        let server = server().await;
        let mut both = spec(&[server.addr()]);
        let mut leaving = both.listeners[0].clone();
        leaving.name = "leaving".into();
        leaving.bind = vec![free_address()];
        both.listeners.push(leaving);
        let rig = Rig::start_with(both);
        let addr = rig.spec.listeners[1].bind[0];
        let mut clients = JoinSet::new();
        for _ in 0..4 {
            clients.spawn(connect_until_refused(addr));
        }
        rig.wait_for(|stats| stats.listeners[1].accepted > 200)
            .await;
        if drain {
            rig.plane.drain(Parting::ForGood);
        } else {
            let mut left = rig.spec.clone();
            left.listeners.truncate(1);
            rig.plane.apply(&left).unwrap();
        }
        let served: u64 = clients.join_all().await.into_iter().sum();
        println!("{served} sessions were served before the listener left");
        let stats = rig.wait_for_ends().await;
        assert_eq!(ended(&stats, EndReason::Panicked), 0);
    }
}

/// One short session after the other; how many were served until a connect was refused.
async fn connect_until_refused(addr: SocketAddr) -> u64 {
    let mut served = 0;
    loop {
        let mut client = match SmtpClient::connect(addr).await {
            Ok(client) => client,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
                return served;
            }
        };
        let greeting = client.greeting().await.expect("taken in, so served");
        assert_eq!(greeting.code, 220);
        assert_eq!(client.quit().await.unwrap().code, 221);
        served += 1;
    }
}

#[tokio::test]
async fn after_a_drain_sessions_go_on_and_nobody_new_comes_in() {
    let server = server().await;
    let mut spec = spec(&[server.addr()]);
    // Its turn doesn't come while this runs.
    spec.drain.spread = Duration::from_secs(3600);
    let rig = Rig::start_with(spec);
    let addr = rig.addr();
    let mut client = SmtpClient::connect(addr).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 220);
    rig.plane.drain(Parting::ForGood);
    let error = SmtpClient::connect(addr).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(matches!(
        rig.plane.apply(&rig.spec),
        Err(ApplyError::Draining)
    ));
    assert_eq!(client.send_message(100_000).await.unwrap().code, 250);
    assert_eq!(client.quit().await.unwrap().code, 221);
    let stats = rig.wait_for_ends().await;
    assert!(stats.draining && stats.listeners[0].addresses.is_empty());
}

/// Whoever comes between two processes waits, and is served by the next one, however many
/// workers each has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_between_two_processes_is_served() {
    for (before, after) in [(2, 2), (3, 1), (1, 3)] {
        let server = server().await;
        let mut spec = spec(&[server.addr()]);
        let (stays, left) = (free_address(), free_address());
        spec.listeners[0].bind = vec![stays, left];
        let first = DataPlane::start(before, &[]).unwrap();
        first.apply(&spec).unwrap();
        let kept = first.listening().unwrap();
        assert_eq!(kept.len(), 2 * before);
        first.drain(Parting::ToSuccessor);
        let mut waiting = vec![];
        for _ in 0..32 {
            waiting.push(SmtpClient::connect(stays).await.unwrap());
        }
        first.stop();
        waiting.push(SmtpClient::connect(stays).await.unwrap());

        spec.listeners[0].bind = vec![stays];
        let numbers: Vec<_> = kept.iter().map(AsRawFd::as_raw_fd).collect();
        let second = DataPlane::start(after, &numbers).unwrap();
        second.apply(&spec).unwrap();
        for client in &mut waiting {
            assert_eq!(client.greeting().await.unwrap().code, 220);
        }
        let mut late = SmtpClient::connect(stays).await.unwrap();
        assert_eq!(late.greeting().await.unwrap().code, 220);
        // Also where somebody still has descriptors of them.
        let error = SmtpClient::connect(left).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        second.drain(Parting::ForGood);
        let error = SmtpClient::connect(stays).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

#[tokio::test]
async fn ipv6_is_listened_at_and_dialled() {
    let server = ScriptedServer::start_at("[::1]:0".parse().unwrap(), Script::Smtp, None)
        .await
        .unwrap();
    let mut spec = spec(&[server.addr()]);
    spec.listeners[0].bind = vec!["[::1]:0".parse().unwrap()];
    let rig = Rig::start_with(spec);
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 220);
}

#[test]
fn a_plane_that_never_ran_ends_quietly() {
    let plane = DataPlane::start(1, &[]).unwrap();
    assert_eq!(plane.stats().generation, 0);
    plane.drain(Parting::ForGood);
    plane.stop();
}
