//! A new snapshot: new sessions get it, old ones keep theirs, and counters outlive both.

use mailweir_core::spec::ServerState;
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use tokio::task::JoinSet;

use crate::rig::{Rig, spec};

#[tokio::test]
async fn sessions_keep_their_snapshot_and_counters_live_on() {
    let old = ScriptedServer::start(Script::Smtp).await.unwrap();
    let new = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start(&[old.addr()]);
    let addr = rig.addr();
    let mut before = SmtpClient::connect(addr).await.unwrap();
    assert_eq!(before.greeting().await.unwrap().code, 220);

    // The server of that name is another one now.
    assert_eq!(rig.plane.apply(&spec(&[new.addr()])).unwrap(), 2);
    assert_eq!(rig.addr(), addr, "the sockets stay");
    let stats = rig.figures();
    assert_eq!(stats.servers[0].address, new.addr());
    assert_eq!((stats.servers[0].sessions, stats.servers[0].active), (1, 1));
    let mut after = SmtpClient::connect(addr).await.unwrap();
    assert_eq!(after.greeting().await.unwrap().code, 220);
    assert_eq!(before.send_message(1000).await.unwrap().code, 250);
    assert_eq!(old.log().connections[0].messages.len(), 1);
    assert_eq!([old.accepted(), new.accepted()], [1, 1]);
    before.quit().await.unwrap();
    after.quit().await.unwrap();
    let stats = rig.wait_for_ends().await;
    assert_eq!(stats.servers[0].sessions, 2);
}

#[tokio::test]
async fn what_comes_back_is_remembered_only_while_it_is_used() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let with = spec(&[server.addr(), server.addr()]);
    let without = spec(&[server.addr()]);
    let rig = Rig::start_with(with.clone());
    let mut clients = vec![];
    for _ in 0..2 {
        let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
        assert_eq!(client.greeting().await.unwrap().code, 220);
        clients.push(client);
    }
    rig.plane.apply(&without).unwrap();
    // A session is still on it.
    rig.plane.apply(&with).unwrap();
    assert_eq!(rig.plane.servers(false)[1].active, 1);
    for client in clients {
        client.quit().await.unwrap();
    }
    rig.wait_for_ends().await;
    assert_eq!(rig.plane.servers(false)[1].sessions, 1);
}

#[tokio::test]
async fn states_come_with_a_snapshot_at_once() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    let rig = Rig::start(&[server.addr()]);
    let mut down = rig.spec.clone();
    down.pools[0].servers[0].state = ServerState::Down;
    rig.plane.apply(&down).unwrap();
    let mut client = SmtpClient::connect(rig.addr()).await.unwrap();
    assert_eq!(client.greeting().await.unwrap().code, 421);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_lose_nothing() {
    let servers = [
        ScriptedServer::start(Script::Smtp).await.unwrap(),
        ScriptedServer::start(Script::Smtp).await.unwrap(),
    ];
    let rig = Rig::start(&servers.each_ref().map(ScriptedServer::addr));
    let addr = rig.addr();
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        clients.spawn(async move {
            for _ in 0..60 {
                let mut client = SmtpClient::connect(addr).await.unwrap();
                assert_eq!(client.greeting().await.unwrap().code, 220);
                assert_eq!(client.send_message(2000).await.unwrap().code, 250);
                assert_eq!(client.quit().await.unwrap().code, 221);
            }
        });
    }
    let mut spec = rig.spec.clone();
    let mut generation = 1;
    while clients.try_join_next().is_none() {
        spec.pools[0].servers[0].weight = 1 + (generation % 7) as u32 * 30;
        generation = rig.plane.apply(&spec).unwrap();
        tokio::task::yield_now().await;
    }
    clients.join_all().await;
    let stats = rig.wait_for_ends().await;
    println!(
        "{generation} snapshots, {} sessions",
        stats.listeners[0].accepted
    );
    assert!(generation > 10);
    assert_eq!(stats.listeners[0].accepted, 480);
    assert_eq!(
        stats.servers.iter().map(|one| one.sessions).sum::<u64>(),
        480
    );
}
