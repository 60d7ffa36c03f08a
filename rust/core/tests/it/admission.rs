//! Who is let in, and how the others are turned away.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use mailweir_core::spec::{DenyCode, DryRun, PerSourceSpec, Prefix, RateSpec, Refuse, SourceSpec};
use mailweir_core::{EndReason, WouldRefuse};
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::rig::{Rig, ended, reasons, spec};

fn prefix(text: &str) -> Prefix {
    Prefix::parse(text).unwrap()
}

fn per_source(sessions: Option<u32>, rate: Option<u32>) -> PerSourceSpec {
    PerSourceSpec {
        source: SourceSpec::ADDRESS,
        sessions,
        rate: rate.map(|count| RateSpec {
            count,
            period: Duration::from_secs(3600),
            burst: count,
        }),
        exempt: vec![],
    }
}

/// A connection from an address of loopback.
async fn connect(source: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(to).await
}

/// The code of what is said first, from this address.
async fn greeted(source: [u8; 4], to: SocketAddr) -> (String, TcpStream) {
    let mut stream = connect(source, to).await.unwrap();
    let mut said = vec![0; 512];
    let size = stream.read(&mut said).await.unwrap();
    said.truncate(size);
    let said = String::from_utf8(said).unwrap();
    (said, stream)
}

async fn code(source: [u8; 4], to: SocketAddr) -> String {
    greeted(source, to).await.0[..3].to_owned()
}

#[tokio::test]
async fn the_longest_prefix_decides() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = spec(&[server.addr()]);
    spec.listeners[0].access.deny = vec![prefix("127.1.0.0/16"), prefix("127.1.2.3")];
    spec.listeners[0].access.allow = vec![prefix("127.0.0.0/8"), prefix("127.1.2.0/24")];
    let mut rig = Rig::start_with(spec);
    let at = rig.addr();
    for (source, expected) in [
        ([127, 0, 0, 1], "220"),
        ([127, 1, 0, 1], "554"),
        ([127, 1, 2, 1], "220"),
        ([127, 1, 2, 3], "554"),
    ] {
        assert_eq!(code(source, at).await, expected, "{source:?}");
        let admission = rig.plane.admission("mx", source.into());
        assert_eq!(admission.refused.is_some(), expected == "554");
        assert_eq!(admission.would_refuse, []);
    }
    let (said, _) = greeted([127, 1, 0, 1], at).await;
    assert_eq!(
        said,
        "554 5.7.1 mx.test your address may not send mail here\r\n"
    );
    // What an operator says counts before that.
    rig.spec.denied = vec![prefix("127.0.0.1")];
    rig.plane.apply(&rig.spec).unwrap();
    assert_eq!(code([127, 0, 0, 1], at).await, "554");
    // Who is in no list is let in or isn't, as it is said.
    rig.spec.denied = vec![];
    rig.spec.listeners[0].access.allow = vec![prefix("127.1.2.0/24")];
    rig.plane.apply(&rig.spec).unwrap();
    assert_eq!(code([127, 0, 0, 1], at).await, "220");
    rig.spec.listeners[0].access.admits_others = false;
    rig.spec.listeners[0].access.deny_code = DenyCode::NotNow;
    rig.plane.apply(&rig.spec).unwrap();
    let (said, _) = greeted([127, 0, 0, 1], at).await;
    assert_eq!(
        said,
        "421 4.7.1 mx.test your address may not send mail here\r\n"
    );
    rig.spec.listeners[0].dry_run.access = true;
    rig.plane.apply(&rig.spec).unwrap();
    assert_eq!(code([127, 0, 0, 1], at).await, "220");
    let stats = rig.wait_for_ends().await;
    assert_eq!(ended(&stats, EndReason::Denied), 5);
    let counted = &stats.listeners[0].would_refuse;
    assert!(counted.contains(&(WouldRefuse::Access, 1)), "{counted:?}");
}

#[tokio::test]
async fn a_source_has_as_many_sessions_as_it_may() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = spec(&[server.addr()]);
    spec.listeners[0].per_source = Some(per_source(Some(3), None));
    let mut rig = Rig::start_with(spec);
    let at = rig.addr();
    let source = [127, 0, 0, 2];
    let mut held = vec![];
    for _ in 0..3 {
        held.push(greeted(source, at).await);
    }
    let (said, _) = greeted(source, at).await;
    assert!(
        said.starts_with("421 4.7.0 mx.test too many sessions"),
        "{said}"
    );
    assert_eq!(code([127, 0, 0, 3], at).await, "220");
    // A reload forgets none of them.
    rig.plane.apply(&rig.spec).unwrap();
    assert_eq!(code(source, at).await, "421");
    held.pop();
    rig.wait_for(|stats| stats.active == 2).await;
    held.push(greeted(source, at).await);
    assert!(held.iter().all(|(said, _)| said.starts_with("220")));
    assert_eq!(code(source, at).await, "421");
    let exempt = vec![prefix("127.0.0.2")];
    rig.spec.listeners[0].per_source.as_mut().unwrap().exempt = exempt;
    rig.plane.apply(&rig.spec).unwrap();
    assert_eq!(code(source, at).await, "220");
    drop(held);
    let stats = rig.wait_for_ends().await;
    assert_eq!(ended(&stats, EndReason::SourceSessions), 3);
    assert_eq!(stats.listeners[0].sources.unwrap().entries, 0);
}

/// Half of what comes is beyond the rate, from one source of two.
#[tokio::test]
async fn a_source_comes_as_quickly_as_it_may() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = spec(&[server.addr()]);
    spec.listeners[0].per_source = Some(per_source(None, Some(10)));
    let mut rig = Rig::start_with(spec);
    let at = rig.addr();
    let mut codes = vec![];
    for _ in 0..20 {
        codes.push(code([127, 0, 0, 2], at).await);
    }
    assert_eq!(codes.iter().filter(|code| *code == "220").count(), 10);
    assert_eq!(code([127, 0, 0, 3], at).await, "220");
    // A reload gives nothing back.
    rig.plane.apply(&rig.spec).unwrap();
    assert_eq!(code([127, 0, 0, 2], at).await, "421");
    let before = rig.wait_for_ends().await;
    assert_eq!(ended(&before, EndReason::SourceRate), 11);
    // Only tried out it refuses nobody and counts the same.
    rig.spec.listeners[0].dry_run.source_rate = true;
    rig.plane.apply(&rig.spec).unwrap();
    for _ in 0..20 {
        assert_eq!(code([127, 0, 0, 4], at).await, "220");
    }
    let stats = rig.wait_for_ends().await;
    let counted = &stats.listeners[0].would_refuse;
    assert!(
        counted.contains(&(WouldRefuse::SourceRate, 10)),
        "{counted:?}"
    );
}

/// A limit that is only tried out takes nothing from one that holds, and each counts by itself.
#[tokio::test]
async fn a_dry_run_leaves_other_limits_as_they_are() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let (sessions, rate) = (3, 5);
    for tries_sessions in [true, false] {
        let mut spec = spec(&[server.addr()]);
        spec.listeners[0].per_source = Some(per_source(Some(sessions), Some(rate)));
        spec.listeners[0].dry_run = DryRun {
            source_sessions: tries_sessions,
            source_rate: !tries_sessions,
            ..DryRun::default()
        };
        let rig = Rig::start_with(spec);
        let at = rig.addr();
        if !tries_sessions {
            // The rate is used up, and holds nobody up.
            for _ in 0..7 {
                assert_eq!(code([127, 0, 0, 2], at).await, "220");
            }
            rig.wait_for_ends().await;
        }
        let mut held = vec![];
        for _ in 0..8 {
            held.push(greeted([127, 0, 0, 2], at).await);
        }
        let served = held.iter().filter(|(said, _)| said.starts_with("220"));
        let (what, number, most) = if tries_sessions {
            // Of 8 the 5 came that the rate lets in; 5 of 8 were beyond the sessions.
            (WouldRefuse::SourceSessions, 5, rate)
        } else {
            (WouldRefuse::SourceRate, 2 + 8, sessions)
        };
        assert_eq!(served.count(), most as usize);
        let counted = rig.plane.stats().listeners[0].would_refuse.clone();
        assert!(counted.contains(&(what, number)), "{counted:?}");
    }
}

/// What is only tried out takes no place either: it counts what would be refused.
#[tokio::test]
async fn a_dry_run_counts_what_would_be_refused() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = spec(&[server.addr()]);
    spec.listeners[0].per_source = Some(per_source(Some(2), None));
    spec.listeners[0].max_sessions = Some(3);
    spec.listeners[0].dry_run = DryRun {
        source_sessions: true,
        sessions: true,
        ..DryRun::default()
    };
    let rig = Rig::start_with(spec);
    let at = rig.addr();
    let mut held = vec![];
    for _ in 0..5 {
        held.push(greeted([127, 0, 0, 2], at).await);
    }
    assert!(held.iter().all(|(said, _)| said.starts_with("220")));
    let counted = rig.plane.stats().listeners[0].would_refuse.clone();
    let expected = [(WouldRefuse::SourceSessions, 3), (WouldRefuse::Sessions, 2)];
    assert!(
        expected.iter().all(|one| counted.contains(one)),
        "{counted:?}"
    );
    let admission = rig.plane.admission("mx", [127, 0, 0, 2].into());
    assert_eq!(admission.refused, None);
    let would_refuse = expected.map(|(what, _)| what);
    assert_eq!(admission.would_refuse, would_refuse);
}

#[tokio::test]
async fn who_is_unwelcome_may_be_reset_or_forgotten() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = spec(&[server.addr()]);
    spec.listeners[0].access.deny = vec![prefix("127.0.0.2")];
    spec.listeners[0].refuse = Refuse::Reset;
    let mut rig = Rig::start_with(spec);
    // It may be as quick as the connect.
    let broke = match connect([127, 0, 0, 2], rig.addr()).await {
        Ok(mut stream) => stream.read(&mut [0]).await.unwrap_err(),
        Err(broke) => broke,
    };
    assert_eq!(broke.kind(), ErrorKind::ConnectionReset);
    rig.spec.listeners[0].refuse = Refuse::Drop;
    rig.plane.apply(&rig.spec).unwrap();
    let mut stream = connect([127, 0, 0, 2], rig.addr()).await.unwrap();
    let stats = rig
        .wait_for(|stats| ended(stats, EndReason::Denied) == 2)
        .await;
    assert_eq!(stats.active, 0);
    let heard = timeout(Duration::from_millis(200), stream.read(&mut [0])).await;
    // As whom one may, a session is forgotten; else it is reset.
    assert!(heard.is_err() || heard.unwrap().is_err());
    // Anybody else is told.
    rig.plane
        .set_server_states(&[("farm", "0", mailweir_core::spec::ServerState::Down)]);
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 421);
}

#[tokio::test]
async fn sessions_of_a_prefix_are_ended_at_once() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start(&[server.addr()]);
    let mut held = vec![];
    for last in [2, 2, 3] {
        held.push(greeted([127, 0, 0, last], rig.addr()).await);
    }
    assert_eq!(rig.plane.kill_from(prefix("127.0.0.2")), 2);
    let stats = rig.wait_for(|stats| stats.active == 1).await;
    assert_eq!(reasons(&stats), [(EndReason::Killed, 2)]);
}
