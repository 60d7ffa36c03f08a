//! A worker that stands still, and a session that panics: the others don't notice. Each in a
//! process of its own, since failpoints are the process's.

use std::time::{Duration, Instant};

use mailweir_core::EndReason;
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;

use crate::alone::{alone, in_a_process};
use crate::rig::{Rig, ended};

#[test]
fn clients_of_a_stuck_worker_are_served_by_the_others() {
    in_a_process("failpoints::stuck_worker");
}

#[test]
fn a_panic_ends_its_session_alone() {
    in_a_process("failpoints::panic_in_a_session");
}

#[tokio::test]
#[ignore = "run by a test above"]
async fn stuck_worker() {
    alone();
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start(&[server.addr()]);
    let addr = rig.addr();
    let stuck = |stats: &mailweir_core::Stats| stats.workers.iter().filter(|one| one.stuck).count();
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
    assert_eq!(stuck(&rig.plane.stats()), 1);
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
