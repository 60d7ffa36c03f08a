//! Servers that greet after their time-out: they are waited for beside the others, and who greets
//! first has the session. And those that say 5yz instead, which may be meant for the client.

use std::time::{Duration, Instant};

use mailweir_core::spec::{PlaneSpec, Protocol, ServerState};
use mailweir_core::{EndReason, GreetingFailure, ServerStats};
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::{Script, Then};
use mailweir_testkit::server::ScriptedServer;
use mailweir_testkit::stall;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Figures, Rig, ended, reasons, spec};

/// A server's time to greet, as far as it is one.
const SOON: Duration = Duration::from_millis(100);

/// Greets once its reverse look-up has failed, say.
fn after(time: Duration) -> Script {
    Script::Greeting {
        pieces: vec![b"220 late\r\n".into()],
        pause: time,
        then: Then::Serve,
    }
}

async fn farm(scripts: &[Script]) -> (Vec<ScriptedServer>, PlaneSpec) {
    let mut servers = vec![];
    for script in scripts {
        servers.push(ScriptedServer::start(script.clone()).await.unwrap());
    }
    let addresses: Vec<_> = servers.iter().map(ScriptedServer::addr).collect();
    let mut spec = spec(&addresses);
    spec.listeners[0].timeouts.greeting = SOON;
    (servers, spec)
}

fn failures(server: &ServerStats, cause: GreetingFailure) -> u64 {
    let of_cause = server
        .greeting_failures
        .iter()
        .filter(|(one, _)| *one == cause);
    of_cause.map(|(_, count)| count).sum()
}

fn taken(stats: &Figures) -> Vec<u64> {
    stats.servers.iter().map(|one| one.sessions).collect()
}

#[tokio::test]
async fn the_first_that_greets_has_the_session() {
    let (_servers, spec) = farm(&[after(SOON * 4), after(SOON * 20), Script::Silent]).await;
    let rig = Rig::start_with(spec);
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().text, "220 late\r\n");
    // Each of those that wait counts at its server; the one that won isn't alone yet for long.
    let stats = rig.wait_for(|stats| stats.servers[1].active == 0).await;
    assert_eq!(client.send_message(1000).await.unwrap().code, 250);
    assert_eq!(client.quit().await.unwrap().code, 221);
    assert_eq!(taken(&stats), [1, 0, 0]);
    assert_eq!(failures(&stats.servers[0], GreetingFailure::Timeout), 1);
    let stats = rig.wait_for_ends().await;
    assert_eq!(
        (stats.room.overdue, ended(&stats, EndReason::ServerClosed)),
        (0, 0)
    );
}

#[tokio::test]
async fn those_that_are_waited_for_count_at_their_servers() {
    let (_servers, spec) = farm(&[Script::Silent, Script::Silent, Script::Silent]).await;
    let rig = Rig::start_with(spec);
    let client = TcpStream::connect(rig.addr()).await.unwrap();
    let all = |stats: &Figures| stats.servers.iter().all(|one| one.active == 1);
    let stats = rig.wait_for(|stats| stats.room.overdue == 3).await;
    assert!(all(&stats), "{stats:?}");
    stall::reset(client).unwrap();
    let stats = rig.wait_for_ends().await;
    assert_eq!(stats.room.overdue, 0);
}

/// One server alone: it has all the time there is, and no more.
#[tokio::test]
async fn the_last_one_has_the_rest_of_the_time() {
    for (greets_after, total) in [(SOON * 5, SOON * 60), (SOON * 600, SOON * 6)] {
        let (_servers, mut spec) = farm(&[after(greets_after)]).await;
        spec.listeners[0].timeouts.accept_total = total;
        let rig = Rig::start_with(spec);
        let began = Instant::now();
        let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
        let code = client.greeting().await.unwrap().code;
        let expected = if greets_after < total { 220 } else { 421 };
        assert_eq!(code, expected);
        assert!(began.elapsed() >= greets_after.min(total));
    }
}

#[tokio::test]
async fn no_more_are_waited_for_than_there_is_room_for() {
    // The first one has the room, and says nothing.
    let servers = [Script::Silent, after(SOON * 4), Script::Silent];
    let (_servers, mut spec) = farm(&servers).await;
    spec.room.spare = 1;
    spec.listeners[0].timeouts.accept_total = SOON * 20;
    let rig = Rig::start_with(spec);
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 421);
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::GreetingFailed, 1)]);
}

/// However short the time-out: dozens of servers aren't waited for.
#[tokio::test]
async fn few_are_waited_for_at_a_time() {
    let silent = vec![Script::Silent; 12];
    let (_servers, mut spec) = farm(&silent).await;
    spec.listeners[0].timeouts.greeting = SOON / 4;
    let rig = Rig::start_with(spec);
    let client = TcpStream::connect(rig.addr()).await.unwrap();
    let most = std::cell::Cell::new(0);
    rig.wait_for(|stats| {
        most.set(most.get().max(stats.room.overdue));
        let timeouts = |one| failures(one, GreetingFailure::Timeout);
        stats.servers.iter().map(timeouts).sum::<u64>() == 12
    })
    .await;
    stall::reset(client).unwrap();
    assert!((3..=4).contains(&most.get()), "{most:?}");
}

#[tokio::test]
async fn where_tls_comes_first_it_is_the_same() {
    let late = Script::Greeting {
        pieces: vec![b"\x15\x03\x01\x00\x02\x02\x50".into()],
        pause: SOON * 4,
        then: Then::Close,
    };
    let (_servers, mut spec) = farm(&[late, Script::Silent]).await;
    spec.listeners[0].protocol = Protocol::Smtps;
    let rig = Rig::start_with(spec);
    let mut client = TcpStream::connect(rig.addr()).await.unwrap();
    let body = [0x55; 200];
    let hello = [&[0x16, 3, 1, 0, 204, 1, 0, 0, 200][..], &body].concat();
    client.write_all(&hello).await.unwrap();
    let mut answer = [0; 7];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"\x15\x03\x01\x00\x02\x02\x50");
    drop(client);
    assert_eq!(taken(&rig.wait_for_ends().await), [1, 0]);
}

/// What the client is told, and how the session ended.
async fn told(spec: PlaneSpec) -> (String, Figures) {
    let rig = Rig::start_with(spec);
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    let text = client.greeting().await.unwrap().text;
    drop(client);
    (text, rig.wait_for_ends().await)
}

fn blocked(text: &str) -> Script {
    Script::greeting_then_close(text)
}

#[tokio::test]
async fn two_servers_that_are_well_say_it_to_the_client() {
    let second = "554-5.7.1 you are\r\n554 5.7.1 blocked\r\n";
    let (servers, spec) = farm(&[blocked("554 no\r\n"), blocked(second), Script::Smtp]).await;
    let (text, stats) = told(spec).await;
    assert_eq!(text, second);
    assert_eq!(reasons(&stats), [(EndReason::Rejected, 1)]);
    let log = servers[2].wait_for_ends().await.unwrap();
    assert_eq!(log.connections.len(), 0, "a third isn't asked");
}

#[tokio::test]
async fn one_that_says_so_is_a_fault_of_its_own() {
    let (_servers, spec) = farm(&[blocked("554 no\r\n"), Script::RefuseWith421]).await;
    let (text, stats) = told(spec).await;
    assert!(text.starts_with("421 4.3.2 "), "{text}");
    assert_eq!(reasons(&stats), [(EndReason::GreetingFailed, 1)]);
    let (_servers, spec) = farm(&[blocked("554 no\r\n")]).await;
    assert!(told(spec).await.0.starts_with("421 4.3.2 "));
}

/// A misconfigured farm mustn't bounce the world: its checks fail.
#[tokio::test]
async fn those_that_fail_their_checks_have_no_say() {
    let (_servers, mut spec) = farm(&[blocked("554 no\r\n"), blocked("554 no\r\n")]).await;
    for server in &mut spec.pools[0].servers {
        server.state = ServerState::Panic;
    }
    let (text, stats) = told(spec).await;
    assert!(text.starts_with("421 4.3.2 "), "{text}");
    assert_eq!(reasons(&stats), [(EndReason::GreetingFailed, 1)]);
}

/// In a panic nobody is out of use for what they say to one client.
#[tokio::test]
async fn a_blocked_client_rests_no_server() {
    let (_servers, mut spec) = farm(&[blocked("554 no\r\n"), blocked("554 no\r\n")]).await;
    for server in &mut spec.pools[0].servers {
        server.state = ServerState::Panic;
    }
    let rig = Rig::start_with(spec);
    for _ in 0..3 {
        let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
        assert_eq!(client.greeting().await.unwrap().code, 421);
    }
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::GreetingFailed, 3)]);
    for server in &stats.servers {
        assert_eq!(failures(server, GreetingFailure::Refused), 3);
    }
}
