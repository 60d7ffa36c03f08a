//! Sessions that are taken off a server, or off the process: never one whose client waits for
//! an answer, and in words where those are understood.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mailweir_core::spec::{DrainSpec, PlaneSpec, Prefix, ServerState};
use mailweir_core::{EndReason, Parting, SessionFilter};
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use mailweir_testkit::wait::LIMIT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Rig, ended, raw, reasons, spec};

pub(crate) const QUIET: Duration = Duration::from_millis(100);
pub(crate) const OPAQUE: Duration = Duration::from_millis(400);

pub(crate) fn quick(mut spec: PlaneSpec) -> PlaneSpec {
    spec.drain = DrainSpec {
        quiet: QUIET,
        quiet_opaque: OPAQUE,
        spread: Duration::ZERO,
        deadline: Duration::from_secs(60),
    };
    spec
}

async fn greeted(addr: SocketAddr) -> SmtpClient {
    let mut client = SmtpClient::connect(addr).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 220);
    client
}

/// Reads a 421 and the end of the stream behind it.
async fn is_told(mut client: SmtpClient, words: &str) {
    let told = client.reply("farewell").await.unwrap();
    assert!(told.text.starts_with("421 4.3.2 mx.test "), "{told:?}");
    assert!(told.text.contains(words), "{told:?}");
    let mut rest = vec![];
    client.into_stream().read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}

pub(crate) fn drain(rig: &Rig) {
    rig.plane
        .set_server_states(&[("farm", "0", ServerState::Drain)]);
}

#[tokio::test]
async fn an_idle_session_is_told_between_two_commands() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start_with(quick(spec(&[server.addr()])));
    let mut client = greeted(rig.addr()).await;
    assert_eq!(client.send_message(100).await.unwrap().code, 250);
    let began = Instant::now();
    drain(&rig);
    is_told(client, "out of service").await;
    assert!(began.elapsed() < Duration::from_secs(5));
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::Drain, 1)]);
    // The server was told QUIT, and has its message.
    let log = server.wait_for_ends().await.unwrap();
    assert_eq!(log.connections[0].messages.len(), 1);
    assert_eq!(log.connections[0].end, Some(Ok(())));
}

/// A server that leaves the configuration is drained, until it is back.
#[tokio::test]
async fn sessions_leave_a_server_that_left() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let both = quick(spec(&[server.addr(), server.addr()]));
    let mut one = both.clone();
    one.pools[0].servers.truncate(1);
    let rig = Rig::start_with(both.clone());
    let mut stays = greeted(rig.addr()).await;
    let leaves = greeted(rig.addr()).await;
    rig.plane.apply(&one).unwrap();
    is_told(leaves, "out of service").await;
    rig.plane.apply(&both).unwrap();
    let mut again = greeted(rig.addr()).await;
    tokio::time::sleep(2 * QUIET).await;
    assert_eq!(stays.send_message(100).await.unwrap().code, 250);
    assert_eq!(again.send_message(100).await.unwrap().code, 250);
    stays.quit().await.unwrap();
    again.quit().await.unwrap();
    let stats = rig.wait_for_ends().await;
    let ends = [(EndReason::ClientQuit, 2), (EndReason::Drain, 1)];
    assert_eq!(reasons(&stats), ends);
}

/// So is a listener: who waits for an answer stays until the deadline.
#[tokio::test]
async fn sessions_leave_a_listener_that_left() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut both = quick(spec(&[server.addr()]));
    both.drain.deadline = Duration::from_secs(1);
    let mut other = both.listeners[0].clone();
    other.name = "other".into();
    both.listeners.push(other);
    let mut one = both.clone();
    one.listeners.truncate(1);
    let rig = Rig::start_with(both);
    let mut stays = greeted(rig.addr()).await;
    let other = rig.plane.stats().listeners[1].addresses[0];
    let idle = greeted(other).await;
    let mut busy = greeted(other).await.into_stream();
    for said in [
        "EHLO c.test",
        "MAIL FROM:<a@a.test>",
        "RCPT TO:<b@b.test>",
        "DATA",
    ] {
        busy.write_all(format!("{said}\r\n").as_bytes())
            .await
            .unwrap();
        assert!(busy.read(&mut [0; 512]).await.unwrap() > 0);
    }
    let began = Instant::now();
    rig.plane.apply(&one).unwrap();
    is_told(idle, "out of service").await;
    busy.write_all(b"half a message\r\n").await.unwrap();
    // Nothing or a reset: in the middle of a message nothing can be said.
    let _ = busy.read_to_end(&mut vec![]).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(stays.send_message(100).await.unwrap().code, 250);
    stays.quit().await.unwrap();
}

/// The server thinks about the message for longer than any quiet time: its answer arrives.
#[tokio::test]
async fn a_client_that_waits_for_an_answer_is_never_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::start_with(quick(spec(&[listener.local_addr().unwrap()])));
    let [mut client, mut server] = in_message(&rig, &listener).await;
    let mut buffer = [0; 64];
    pass(&mut client, &mut server, "text\r\n.\r\n").await;
    drain(&rig);
    let waited = tokio::time::timeout(OPAQUE * 3, client.read(&mut buffer)).await;
    assert!(waited.is_err(), "cut while the answer is due");
    server.write_all(b"250 taken\r\n").await.unwrap();
    client.read_exact(&mut buffer[..11]).await.unwrap();
    is_told(SmtpClient::over(client), "out of service").await;
    assert_eq!(ended(&rig.wait_for_ends().await, EndReason::Drain), 1);
}

/// It never pauses: its next command is answered, and the server doesn't hear it.
#[tokio::test]
async fn a_busy_sender_is_told_at_its_next_command() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = quick(spec(&[server.addr()]));
    // So long as it isn't the silence that it is cut for.
    spec.drain.quiet = LIMIT;
    spec.drain.quiet_opaque = LIMIT;
    let rig = Rig::start_with(spec);
    let mut busy = greeted(rig.addr()).await;
    for line in ["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA"] {
        assert!(busy.command(line).await.unwrap().is_positive());
    }
    let mut idle = greeted(rig.addr()).await;
    drain(&rig);
    // A message is gone on with, and answered.
    busy.send(&[b'x'; 100_000]).await.unwrap();
    assert_eq!(busy.command("\r\n.").await.unwrap().code, 250);
    let behind = "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n";
    busy.send(behind.as_bytes()).await.unwrap();
    is_told(busy, "out of service").await;
    // Half of a command is one.
    idle.send(b"EH").await.unwrap();
    is_told(idle, "out of service").await;
    assert_eq!(reasons(&rig.wait_for_ends().await), [(EndReason::Drain, 2)]);
    let log = server.wait_for_ends().await.unwrap();
    let taken: Vec<usize> = log
        .connections
        .iter()
        .map(|one| one.messages.len())
        .collect();
    assert_eq!(taken, [1, 0]);
}

#[tokio::test]
async fn an_old_session_is_told_at_its_next_command() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = quick(spec(&[server.addr()]));
    spec.drain.quiet = LIMIT;
    let age = Duration::from_millis(300);
    spec.listeners[0].max_age = Some(age);
    let rig = Rig::start_with(spec);
    let began = Instant::now();
    let mut client = greeted(rig.addr()).await;
    loop {
        client.send(b"NOOP\r\n").await.unwrap();
        if client.reply("of either").await.unwrap().code == 421 {
            break;
        }
    }
    assert!(began.elapsed() >= age);
    drop(client);
    assert_eq!(reasons(&rig.wait_for_ends().await), [(EndReason::Age, 1)]);
}

/// What stood behind the dot in one piece was passed on with it: its reply comes first.
#[tokio::test]
async fn a_command_that_was_passed_on_is_answered_first() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::start_with(quick(spec(&[listener.local_addr().unwrap()])));
    let [mut client, mut server] = in_message(&rig, &listener).await;
    let mut buffer = [0; 64];
    drain(&rig);
    let more = "text\r\n.\r\nMAIL FROM:<a@b>\r\n";
    pass(&mut client, &mut server, more).await;
    pass(&mut server, &mut client, "250 taken\r\n").await;
    client.write_all(b"RCPT TO:<c@d>\r\n").await.unwrap();
    server.read_exact(&mut buffer[..15]).await.unwrap();
    server.write_all(b"250 a\r\n250 b\r\n").await.unwrap();
    client.read_exact(&mut buffer[..14]).await.unwrap();
    client.write_all(b"DATA\r\n").await.unwrap();
    is_told(SmtpClient::over(client), "out of service").await;
    let mut heard = vec![];
    server.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"QUIT\r\n");
    assert_eq!(ended(&rig.wait_for_ends().await, EndReason::Drain), 1);
}

/// Nothing in TLS is understood, so nothing is said, and more quiet is asked for.
#[tokio::test]
async fn what_is_not_plain_is_cut_without_a_word() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::start_with(quick(raw(&[server.local_addr().unwrap()])));
    let client = TcpStream::connect(rig.addr());
    let (client, server) = tokio::join!(client, server.accept());
    let (mut client, mut server) = (client.unwrap(), server.unwrap().0);
    let spoke = Instant::now();
    server.write_all(b"250 looks like SMTP\r\n").await.unwrap();
    let mut seen = vec![0; 21];
    client.read_exact(&mut seen).await.unwrap();
    drain(&rig);
    seen.clear();
    client.read_to_end(&mut seen).await.unwrap();
    assert_eq!(seen, b"");
    assert!(spoke.elapsed() >= OPAQUE);
    let mut heard = vec![];
    server.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"");
    assert_eq!(reasons(&rig.wait_for_ends().await), [(EndReason::Drain, 1)]);
}

#[tokio::test]
async fn a_server_that_is_ready_again_keeps_its_sessions_and_gets_new_ones() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = quick(spec(&[server.addr()]));
    spec.drain.spread = Duration::from_secs(3600);
    let rig = Rig::start_with(spec);
    let mut client = greeted(rig.addr()).await;
    drain(&rig);
    let mut refused = SmtpClient::connect(rig.addr()).await.unwrap();
    let refusal = refused.greeting().await.unwrap();
    assert!(
        refusal.text.contains("being taken out of service"),
        "{refusal:?}"
    );
    drop(refused);
    rig.plane
        .set_server_states(&[("farm", "0", ServerState::Up)]);
    assert_eq!(client.send_message(100).await.unwrap().code, 250);
    greeted(rig.addr()).await.quit().await.unwrap();
    client.quit().await.unwrap();
    let stats = rig.wait_for_ends().await;
    assert_eq!(ended(&stats, EndReason::Draining), 1);
    assert_eq!(ended(&stats, EndReason::ClientQuit), 2);
}

#[tokio::test]
async fn sessions_leave_over_the_spread_and_not_at_once() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = quick(spec(&[server.addr()]));
    spec.drain.quiet = Duration::from_millis(1);
    spec.drain.spread = Duration::from_secs(2);
    let rig = Rig::start_with(spec);
    let mut clients = vec![];
    for _ in 0..40 {
        clients.push(greeted(rig.addr()).await);
    }
    drain(&rig);
    let began = Instant::now();
    let mut times = vec![];
    while times.len() < 40 {
        let left = rig.plane.servers(false)[0].active;
        times.resize(40 - usize::try_from(left).unwrap(), began.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let early = times.iter().filter(|time| time.as_secs_f64() < 1.0).count();
    println!(
        "{early} of 40 in the first half, the last after {:?}",
        times[39]
    );
    assert!((5..35).contains(&early), "{times:?}");
    drop(clients);
}

#[tokio::test]
async fn the_deadline_cuts_whoever_is_left() {
    let server = ScriptedServer::start(Script::Silent).await.unwrap();
    let mut spec = quick(raw(&[server.addr()]));
    spec.drain.deadline = Duration::from_millis(200);
    let rig = Rig::start_with(spec);
    let mut client = TcpStream::connect(rig.addr()).await.unwrap();
    client.write_all(b"waits\r\n").await.unwrap();
    rig.wait_for(|stats| stats.listeners[0].received_bytes == 7)
        .await;
    drain(&rig);
    let mut rest = vec![];
    client.read_to_end(&mut rest).await.unwrap();
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::DrainDeadline, 1)]);
}

#[tokio::test]
async fn a_session_that_is_too_old_is_told_too() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = quick(spec(&[server.addr()]));
    spec.listeners[0].max_age = Some(Duration::from_millis(300));
    let rig = Rig::start_with(spec);
    let began = Instant::now();
    let client = greeted(rig.addr()).await;
    is_told(client, "too old").await;
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(reasons(&rig.wait_for_ends().await), [(EndReason::Age, 1)]);
}

#[tokio::test]
async fn a_process_that_drains_takes_all_sessions_off() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start_with(quick(spec(&[server.addr()])));
    let client = greeted(rig.addr()).await;
    rig.plane.drain(Parting::ForGood);
    is_told(client, "out of service").await;
    assert_eq!(reasons(&rig.wait_for_ends().await), [(EndReason::Drain, 1)]);
}

#[tokio::test]
async fn a_process_in_a_hurry_waits_for_no_turn() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let mut spec = quick(spec(&[server.addr()]));
    spec.drain.spread = Duration::from_secs(3600);
    let rig = Rig::start_with(spec);
    let client = greeted(rig.addr()).await;
    rig.plane.drain(Parting::ForGood);
    rig.plane.hurry();
    is_told(client, "out of service").await;
    assert_eq!(reasons(&rig.wait_for_ends().await), [(EndReason::Drain, 1)]);
}

#[tokio::test]
async fn an_operator_can_end_a_session_at_any_step() {
    let (smtp, silent) = (
        ScriptedServer::start(Script::Smtp).await.unwrap(),
        ScriptedServer::start(Script::Silent).await.unwrap(),
    );
    for (server, words) in [(&smtp, "by an operator"), (&silent, "by an operator")] {
        let rig = Rig::start_with(spec(&[server.addr()]));
        let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
        if std::ptr::eq(server, &raw const smtp) {
            assert_eq!(client.greeting().await.unwrap().code, 220);
        }
        rig.wait_for(|stats| stats.active == 1).await;
        let [session] = &rig.plane.sessions(SessionFilter::default(), 10)[..] else {
            panic!("one session");
        };
        assert!(rig.plane.kill(session.id));
        is_told(client, words).await;
        assert_eq!(
            reasons(&rig.wait_for_ends().await),
            [(EndReason::Killed, 1)]
        );
        assert!(!rig.plane.kill(session.id));
    }
}

#[tokio::test]
async fn an_operator_can_end_all_sessions_from_somewhere() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start_with(spec(&[server.addr()]));
    let clients = [greeted(rig.addr()).await, greeted(rig.addr()).await];
    let kill_from = |prefix| rig.plane.kill_from(Prefix::parse(prefix).unwrap());
    assert_eq!(kill_from("192.0.2.0/24"), 0);
    assert_eq!(kill_from("127.0.0.0/8"), 2);
    for client in clients {
        is_told(client, "by an operator").await;
    }
    assert_eq!(
        reasons(&rig.wait_for_ends().await),
        [(EndReason::Killed, 2)]
    );
}

#[tokio::test]
async fn sessions_of_a_server_that_is_down_end_at_once() {
    let servers = [
        ScriptedServer::start(Script::Smtp).await.unwrap(),
        ScriptedServer::start(Script::Smtp).await.unwrap(),
    ];
    let rig = Rig::start(&[servers[0].addr(), servers[1].addr()]);
    let mut clients = vec![];
    for _ in 0..2 {
        let stream = TcpStream::connect(rig.addr()).await.unwrap();
        let address = stream.local_addr().unwrap();
        let mut client = SmtpClient::over(stream);
        assert_eq!(client.greeting().await.unwrap().code, 220);
        clients.push((address, client));
    }
    let of = |name| SessionFilter {
        server: Some(("farm", name)),
        ..SessionFilter::default()
    };
    let [there] = &rig.plane.sessions(of("0"), 10)[..] else {
        panic!("one session");
    };
    assert_eq!(rig.plane.end_of_server("farm", "x"), 0);
    assert_eq!(rig.plane.end_of_server("farm", "0"), 1);
    for (address, mut client) in clients {
        if address == there.client {
            is_told(client, "the mail server is down").await;
        } else {
            assert_eq!(client.command("NOOP").await.unwrap().code, 250);
        }
    }
    let ends = reasons(&rig.wait_for_ends().await);
    assert_eq!(
        ends.last(),
        Some(&(EndReason::ServerDown, 1)),
        "of {ends:?}"
    );
}

#[tokio::test]
async fn a_session_in_the_middle_of_a_message_is_killed_without_a_word() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start(&[server.addr()]);
    let mut client = greeted(rig.addr()).await;
    for line in ["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA"] {
        assert!(client.command(line).await.unwrap().is_positive());
    }
    client.send(b"text\r\n").await.unwrap();
    rig.wait_for(|_| rig.plane.sessions(SessionFilter::default(), 1)[0].received_bytes > 30)
        .await;
    let id = rig.plane.sessions(SessionFilter::default(), 1)[0].id;
    assert!(rig.plane.kill(id));
    let error = client.reply("nothing").await.unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
    ));
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::CutInData, 1)]);
}

/// A client and the server that its session is with, both played by the test.
pub(crate) async fn both_ends(rig: &Rig, listener: &TcpListener) -> [TcpStream; 2] {
    let client = TcpStream::connect(rig.addr());
    let (client, server) = tokio::join!(client, listener.accept());
    [client.unwrap(), server.unwrap().0]
}

/// A session whose server waits for the message.
async fn in_message(rig: &Rig, listener: &TcpListener) -> [TcpStream; 2] {
    let [mut client, mut server] = both_ends(rig, listener).await;
    pass(&mut server, &mut client, "220 mx\r\n").await;
    pass(&mut client, &mut server, "DATA\r\n").await;
    pass(&mut server, &mut client, "354 go\r\n").await;
    [client, server]
}

/// One says something, and the other hears it whole.
pub(crate) async fn pass(from: &mut TcpStream, to: &mut TcpStream, said: &str) {
    from.write_all(said.as_bytes()).await.unwrap();
    to.read_exact(&mut vec![0; said.len()]).await.unwrap();
}
