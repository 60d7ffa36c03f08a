//! What is held against a server, and what isn't: it is evidence for taking it out of use.

use std::time::Duration;

use mailweir_core::spec::PlaneSpec;
use mailweir_core::{EndReason, GreetingFailure, ServerConduct, ServerStats, Spoiled};
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::port::unbound_port;
use mailweir_testkit::script::{Script, Then};
use mailweir_testkit::server::ScriptedServer;
use mailweir_testkit::stall;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Rig, ended, spec};

const SOON: Duration = Duration::from_millis(100);

async fn farm(scripts: &[Script]) -> (Vec<ScriptedServer>, PlaneSpec) {
    let mut servers = vec![];
    for script in scripts {
        servers.push(ScriptedServer::start(script.clone()).await.unwrap());
    }
    let addresses: Vec<_> = servers.iter().map(ScriptedServer::addr).collect();
    (servers, spec(&addresses))
}

fn spoiled(server: &ServerStats) -> Vec<(Spoiled, u64)> {
    server
        .spoiled
        .iter()
        .copied()
        .filter(|(_, n)| *n > 0)
        .collect()
}

fn conduct(rig: &Rig) -> Vec<ServerConduct> {
    rig.plane.conduct().remove(0).servers
}

async fn mail(rig: &Rig) {
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 220);
    assert_eq!(client.send_message(1000).await.unwrap().code, 250);
    assert_eq!(client.quit().await.unwrap().code, 221);
}

#[tokio::test]
async fn a_server_is_blamed_for_what_another_one_does() {
    let cases = [
        (Script::RefuseWith421, GreetingFailure::RefusedNow),
        (
            Script::greeting_then_close("554 mx no\r\n"),
            GreetingFailure::Refused,
        ),
        (Script::CloseOnAccept, GreetingFailure::Closed),
        (Script::ResetOnAccept, GreetingFailure::Reset),
        (Script::Silent, GreetingFailure::Timeout),
        (
            Script::greeting_then_close("hello?\r\n"),
            GreetingFailure::Nonsense,
        ),
    ];
    for (script, failure) in cases {
        let expected = Spoiled::Greeting(failure);
        let (_servers, mut spec) = farm(&[script, Script::Smtp]).await;
        spec.listeners[0].timeouts.greeting = SOON;
        let rig = Rig::start_with(spec);
        // Every other session is the good server's from the first.
        for _ in 0..6 {
            mail(&rig).await;
        }
        let stats = rig.wait_for_ends().await;
        let [bad, good] = &stats.servers[..] else {
            panic!()
        };
        let found = spoiled(bad);
        // A reset may come while it is connected to.
        let known = |what| {
            what == expected || (failure, what) == (GreetingFailure::Reset, Spoiled::Connect)
        };
        assert!(found.iter().all(|(what, _)| known(*what)), "{found:?}");
        assert_eq!(found.iter().map(|(_, count)| count).sum::<u64>(), 3);
        assert_eq!(spoiled(good), []);
        let told = conduct(&rig);
        let of = |one: &ServerConduct| (one.taken, one.refused, one.in_vain, one.in_a_row);
        assert_eq!(
            [of(&told[0]), of(&told[1])],
            [(0, 3, 0, 3), (6, 0, 0, 0)],
            "{expected:?}"
        );
    }
}

#[tokio::test]
async fn one_that_cannot_be_connected_to_is_blamed_too() {
    let dead = unbound_port().unwrap();
    let alive = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start(&[dead.addr(), alive.addr()]);
    for _ in 0..4 {
        mail(&rig).await;
    }
    let stats = rig.wait_for_ends().await;
    assert_eq!(spoiled(&stats.servers[0]), [(Spoiled::Connect, 2)]);
    assert_eq!(conduct(&rig)[0].in_a_row, 2);
}

#[tokio::test]
async fn what_all_say_is_held_against_none() {
    let refuses = Script::greeting_then_close("554 mx your address is listed\r\n");
    for (script, in_vain) in [(refuses, 0), (Script::RefuseWith421, 1)] {
        let (_servers, spec) = farm(&[script.clone(), script]).await;
        let rig = Rig::start_with(spec);
        let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
        assert_ne!(client.greeting().await.unwrap().code, 220);
        let stats = rig.wait_for_ends().await;
        for (server, told) in stats.servers.iter().zip(conduct(&rig)) {
            assert_eq!((spoiled(server), told.in_a_row), (vec![], 0));
            // A 5yz of all is meant for the client.
            assert_eq!(told.in_vain, in_vain);
        }
        assert_eq!(rig.plane.conduct()[0].bad, 2 * in_vain);
    }
}

#[tokio::test]
async fn who_leaves_is_no_evidence() {
    let (_servers, mut spec) = farm(&[Script::Silent, Script::Silent]).await;
    spec.listeners[0].timeouts.greeting = SOON;
    let rig = Rig::start_with(spec);
    let client = TcpStream::connect(rig.addr()).await.unwrap();
    // Both are late, and might have greeted.
    rig.wait_for(|stats| stats.room.overdue == 2).await;
    stall::reset(client).unwrap();
    let stats = rig.wait_for_ends().await;
    for (server, told) in stats.servers.iter().zip(conduct(&rig)) {
        assert_eq!((spoiled(server), told.in_vain), (vec![], 0));
    }
}

#[tokio::test]
async fn one_that_is_late_and_takes_the_session_has_failed_nobody() {
    let late = Script::Greeting {
        pieces: vec![b"220 late\r\n".into()],
        pause: SOON * 4,
        then: Then::Serve,
    };
    let (_servers, mut spec) = farm(&[late, Script::RefuseWith421]).await;
    spec.listeners[0].timeouts.greeting = SOON;
    let rig = Rig::start_with(spec);
    mail(&rig).await;
    let stats = rig.wait_for_ends().await;
    assert_eq!(spoiled(&stats.servers[0]), []);
    assert_eq!(
        spoiled(&stats.servers[1]),
        [(Spoiled::Greeting(GreetingFailure::RefusedNow), 1)]
    );
}

#[tokio::test]
async fn a_session_that_it_takes_ends_the_row() {
    let (mut servers, spec) = farm(&[Script::CloseOnAccept, Script::Smtp]).await;
    let rig = Rig::start_with(spec);
    for _ in 0..4 {
        mail(&rig).await;
    }
    rig.wait_for_ends().await;
    assert_eq!(conduct(&rig)[0].in_a_row, 2);
    // It is well from now on.
    let well = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = rig.spec.clone();
    spec.pools[0].servers[0].address = well.addr();
    rig.plane.apply(&spec).unwrap();
    for _ in 0..2 {
        mail(&rig).await;
    }
    let stats = rig.wait_for_ends().await;
    assert_eq!(conduct(&rig)[0].in_a_row, 0);
    assert_eq!(
        spoiled(&stats.servers[0]),
        [(Spoiled::Greeting(GreetingFailure::Closed), 2)]
    );
    servers.clear();
}

/// What a server does in the middle of a message.
#[derive(Debug, Clone, Copy)]
enum Midway {
    Close,
    Reset,
    SayWhyAndClose,
    /// It waits for the client, and answers its end by a reset.
    ResetAfterTheEnd,
}

/// Serves up to the first line of a message.
async fn cuts(midway: Midway) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            stream.write_all(b"220 mx\r\n").await.unwrap();
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            stream.write_all(b"354 go\r\n").await.unwrap();
            stream.read_line(&mut line).await.unwrap();
            match midway {
                Midway::Close => {}
                Midway::Reset => stall::reset(stream.into_inner()).unwrap(),
                Midway::SayWhyAndClose => {
                    stream.write_all(b"421 4.4.2 mx timeout\r\n").await.unwrap();
                }
                Midway::ResetAfterTheEnd => {
                    let mut rest = vec![];
                    stream.read_to_end(&mut rest).await.unwrap();
                    stall::reset(stream.into_inner()).unwrap();
                }
            }
        }
    });
    address
}

/// A message that doesn't come to its end; what the client hears after that, or nothing if it ends
/// the session itself.
async fn begin_message(rig: &Rig, ends: bool) {
    let mut client = BufReader::new(TcpStream::connect(rig.addr()).await.unwrap());
    let mut line = String::new();
    client.read_line(&mut line).await.unwrap();
    client.write_all(b"DATA\r\n").await.unwrap();
    client.read_line(&mut line).await.unwrap();
    client.write_all(b"Subject: a\r\n").await.unwrap();
    if ends {
        client.shutdown().await.unwrap();
    }
    let mut rest = vec![];
    // A reset is an end as well.
    let _ = client.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_message_that_a_server_cuts_off_is_evidence() {
    use EndReason::{CutInData, Server421};
    for (midway, client_ends, reason, expected) in [
        (Midway::Close, false, CutInData, 2),
        (Midway::Reset, false, CutInData, 2),
        // It has said why.
        (Midway::SayWhyAndClose, false, Server421, 0),
        // The client broke it off.
        (Midway::ResetAfterTheEnd, true, CutInData, 0),
    ] {
        let rig = Rig::start(&[cuts(midway).await]);
        for _ in 0..2 {
            begin_message(&rig, client_ends).await;
        }
        let stats = rig.wait_for_ends().await;
        assert_eq!(ended(&stats, reason), 2, "{midway:?}");
        let told = conduct(&rig).remove(0);
        assert_eq!(
            (told.cut, u64::from(told.in_a_row)),
            (expected, expected),
            "{midway:?}"
        );
    }
}
