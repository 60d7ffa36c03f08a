//! Out of descriptors: nothing spins, nothing dies, and work goes on when some are free again.
//!
//! In a process of its own, since the limit is the process's.

use std::fs::File;

use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;

use mailweir_core::EndReason;

use crate::alone::{alone, in_a_process};
use crate::rig::{Figures, Rig, ended};

const SERVED: u64 = 30;

#[test]
fn accepting_pauses_without_descriptors_and_goes_on_with_them() {
    in_a_process("shortage::in_a_process_of_its_own");
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn in_a_process_of_its_own() {
    alone();
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start(&[server.addr()]);
    let addr = rig.addr();
    // Enough that each worker has accepted one: then it has its spare descriptor.
    for _ in 0..SERVED {
        let mut client = SmtpClient::connect(addr).await.unwrap();
        assert_eq!(client.greeting().await.unwrap().code, 220);
        client.quit().await.unwrap();
    }
    rig.wait_for_ends().await;
    server.wait_for_ends().await.unwrap();
    let before = getrlimit(Resource::Nofile);
    let mut waiting = vec![];
    for _ in 0..8 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        waiting.push(socket);
    }
    let low = Rlimit {
        current: Some(200),
        maximum: before.maximum,
    };
    setrlimit(Resource::Nofile, low).unwrap();
    let mut taken = vec![];
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    let mut clients: Vec<TcpStream> = vec![];
    for socket in waiting {
        clients.push(socket.connect(addr).await.unwrap());
    }
    let pauses = |stats: &Figures| stats.listeners[0].accept_pauses;
    let stats = rig.wait_for(|stats| pauses(stats) >= 3).await;
    assert_eq!(stats.listeners[0].accepted, SERVED);
    // Who has waited for a while is told why. They stay: an end here frees a descriptor.
    let mut told = vec![];
    for client in clients {
        let mut client = SmtpClient::over(client);
        let reply = client.greeting().await.unwrap();
        assert!(reply.text.contains("out of resources"), "{reply:?}");
        told.push(client);
    }
    let turned_away = |stats: &Figures| ended(stats, EndReason::OutOfDescriptors);
    let stats = rig.wait_for(|stats| turned_away(stats) == 8).await;
    println!("{} pauses", pauses(&stats));
    assert!(pauses(&stats) < 100, "no spin");
    drop(taken);
    let mut client = SmtpClient::connect(addr).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 220);
}
