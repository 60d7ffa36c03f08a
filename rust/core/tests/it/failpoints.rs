//! A worker that stands still, and a session that panics: the others don't notice. Each in a
//! process of its own, since failpoints are the process's.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mailweir_core::EndReason;
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;

use crate::alone::{alone, in_a_process};
use crate::rig::{Figures, Rig, ended};

#[test]
fn clients_of_a_stuck_worker_are_served_by_the_others() {
    in_a_process("failpoints::stuck_worker");
}

#[test]
fn a_panic_ends_its_session_alone() {
    in_a_process("failpoints::panic_in_a_session");
}

#[test]
fn a_panic_that_nobody_reads_of_stops_no_worker() {
    in_a_process("failpoints::panics_that_nobody_reads_of");
}

#[tokio::test]
#[ignore = "run by a test above"]
async fn stuck_worker() {
    alone();
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start(&[server.addr()]);
    let addr = rig.addr();
    let stuck = |stats: &Figures| stats.workers.iter().filter(|one| one.stuck).count();
    fail::cfg("worker_tick", "1*sleep(6000)").unwrap();
    let began = Instant::now();
    // As many that both workers have some in their queues.
    let mut waiting = vec![];
    for _ in 0..20 {
        waiting.push(tokio::spawn(async move {
            let mut client = SmtpClient::connect(addr).await.unwrap();
            assert_eq!(client.greeting().await.unwrap().code, 220);
            client.quit().await.unwrap();
        }));
    }
    rig.wait_for(|stats| stuck(stats) == 1).await;
    for client in waiting {
        client.await.unwrap();
    }
    println!("{:?}: those of its queue were served", began.elapsed());
    assert!(
        began.elapsed() < Duration::from_secs(6),
        "while it stood still"
    );
    for _ in 0..40 {
        let begun = Instant::now();
        let mut client = SmtpClient::connect(addr).await.unwrap();
        assert_eq!(client.greeting().await.unwrap().code, 220);
        client.quit().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
    assert_eq!(stuck(&rig.figures()), 1);
    rig.wait_for(|stats| stuck(stats) == 0).await;
    println!("{:?}: it moves again", began.elapsed());
    for _ in 0..40 {
        let mut client = SmtpClient::connect(addr).await.unwrap();
        assert_eq!(client.greeting().await.unwrap().code, 220);
        client.quit().await.unwrap();
    }
    let stats = rig.wait_for_ends().await;
    assert_eq!(stats.listeners[0].accepted, 100);
    assert_eq!(ended(&stats, EndReason::ClientQuit), 100);
}

#[tokio::test]
#[ignore = "run by a test above"]
async fn panic_in_a_session() {
    alone();
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start(&[server.addr()]);
    let mut before = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(before.greeting().await.unwrap().code, 220);
    fail::cfg("session", "1*panic").unwrap();
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    client.greeting().await.unwrap_err();
    assert_eq!(before.send_message(1000).await.unwrap().code, 250);
    let mut after = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(after.greeting().await.unwrap().code, 220);
    after.quit().await.unwrap();
    before.quit().await.unwrap();
    let stats = rig.wait_for_ends().await;
    assert_eq!(ended(&stats, EndReason::Panicked), 1);
    assert_eq!(ended(&stats, EndReason::ClientQuit), 2);
}

/// Standard error is a pipe that is full. Each session panics: more than can be kept.
#[tokio::test]
#[ignore = "run by a test above"]
async fn panics_that_nobody_reads_of() {
    alone();
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start(&[server.addr()]);
    let mut before = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(before.greeting().await.unwrap().code, 220);
    rig.plane.keep_panics();
    let (_reader, writer) = full_pipe();
    rustix::stdio::dup2_stderr(&writer).unwrap();
    fail::cfg("session", "150*panic").unwrap();
    for _ in 0..150 {
        let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
        client.greeting().await.unwrap_err();
    }
    assert_eq!(before.send_message(1000).await.unwrap().code, 250);
    before.quit().await.unwrap();
    let stats = rig.wait_for_ends().await;
    assert_eq!(ended(&stats, EndReason::Panicked), 150);
    assert!(stats.workers.iter().all(|one| !one.stuck));
    let (panics, more) = rig.plane.take_panics();
    println!("{} panics, and {more} more: {}", panics.len(), panics[0]);
    assert_eq!(panics.len() as u64 + more, 150);
    assert_eq!(panics.len(), 100);
    for panic in &panics {
        assert!(panic.contains(".rs:"), "{panic}");
        assert!(panic.contains("thread mailweir-"), "{panic}");
        assert!(panic.contains("failpoint session panic"), "{panic}");
    }
    assert_eq!(rig.plane.take_panics(), (vec![], 0));
}

/// Not one byte more fits in.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}
