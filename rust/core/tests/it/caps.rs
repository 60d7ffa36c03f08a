//! Caps on the number of sessions: exact, refused in words, and free again at once.

use mailweir_core::EndReason;
use mailweir_testkit::client::SmtpClient;
use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use tokio::task::JoinSet;

use crate::rig::{Rig, ended, spec};

/// How many of `number` clients that come at once are greeted; they stay.
async fn come(rig: &Rig, number: usize) -> (Vec<SmtpClient>, usize) {
    let addr = rig.addr();
    let mut coming = JoinSet::new();
    for _ in 0..number {
        coming.spawn(async move {
            let mut client = SmtpClient::connect(addr).await.unwrap();
            let greeting = client.greeting().await.unwrap();
            if greeting.code != 220 {
                assert!(greeting.text.contains("too many sessions"), "{greeting:?}");
            }
            (client, greeting.code)
        });
    }
    let clients = coming.join_all().await;
    let greeted: Vec<SmtpClient> = clients
        .into_iter()
        .filter_map(|(client, code)| (code == 220).then_some(client))
        .collect();
    let refused = number - greeted.len();
    (greeted, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cap_is_exact_and_free_again() {
    let server = ScriptedServer::start(Script::Smtp).await.unwrap();
    for cap in ["process", "listener", "server"] {
        let mut spec = spec(&[server.addr()]);
        match cap {
            "process" => spec.max_sessions = 10,
            "listener" => spec.listeners[0].max_sessions = Some(10),
            _ => spec.pools[0].servers[0].max_sessions = Some(10),
        }
        let rig = Rig::start_with(spec);
        let (greeted, refused) = come(&rig, 40).await;
        assert_eq!((greeted.len(), refused), (10, 30), "{cap}");
        for client in greeted {
            client.quit().await.unwrap();
        }
        let stats = rig.wait_for_ends().await;
        assert_eq!(ended(&stats, EndReason::Full), 30, "{cap}");
        assert_eq!(come(&rig, 10).await.1, 0, "{cap}");
    }
}

#[tokio::test]
async fn a_full_server_leaves_sessions_to_the_others() {
    let servers = [
        ScriptedServer::start(Script::Smtp).await.unwrap(),
        ScriptedServer::start(Script::Smtp).await.unwrap(),
    ];
    let mut spec = spec(&servers.each_ref().map(ScriptedServer::addr));
    spec.pools[0].servers[0].max_sessions = Some(2);
    let rig = Rig::start_with(spec);
    let (_greeted, refused) = come(&rig, 12).await;
    assert_eq!(refused, 0);
    let active: Vec<u64> = rig
        .plane
        .servers(false)
        .iter()
        .map(|one| one.active)
        .collect();
    assert_eq!(active, [2, 10]);
}
