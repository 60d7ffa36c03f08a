//! Each flow that was found goes on with its own server.

use std::time::{Duration, SystemTime};

use mailweir_flow::Flow;

use crate::metrics::{PerWorker, WorkerId};
use crate::record::{Greeted, LiveSessions, Outline, SessionLog, Taker};
use crate::registry::Registry;
use crate::spec::{
    Balance, DrainSpec, KernelSpec, ListenerSpec, LogFormat, LogSpec, LogTarget, PlaneSpec,
    PoolSpec, RoomSpec, ServerSpec, Timeouts,
};

use super::*;

const POOLS: usize = 100;
const SERVERS: usize = 100;

/// As many pools and servers as a configuration has at most, mostly.
fn many_servers() -> PlaneSpec {
    let second = Duration::from_secs(1);
    let timeouts = Timeouts {
        connect: second,
        greeting: second,
        accept_total: second,
        idle_client: second,
        idle_server: second,
        half_closed: second,
    };
    let server = |number| {
        let address = format!("10.0.0.1:{}", 1000 + number);
        ServerSpec::new(&format!("server{number}"), address.parse().unwrap())
    };
    let pool = |number| {
        let servers = (0..SERVERS).map(server).collect();
        PoolSpec::new(&format!("pool{number}"), Balance::LeastConn, servers)
    };
    let listener = ListenerSpec::new(
        "mx",
        vec!["10.0.0.2:25".parse().unwrap()],
        "pool0",
        timeouts,
    );
    PlaneSpec {
        hostname: "host.test".into(),
        max_sessions: 1000,
        room: RoomSpec {
            sessions: 1000,
            spare: 10,
        },
        drain: DrainSpec::default(),
        log: LogSpec {
            sessions: LogTarget::Off,
            format: LogFormat::Json,
        },
        kernel: KernelSpec {
            instance: "test".into(),
            source_ports: 10_000..=10_100,
            max_flows: 1000,
            counted: false,
        },
        listeners: vec![listener],
        pools: (0..POOLS).map(pool).collect(),
        denied: vec![],
    }
}

fn flow(pool: usize, server: usize) -> Flow {
    let outline = Outline {
        id: SessionId(7),
        accepted: SystemTime::now(),
        age: Duration::from_secs(1),
        listener: "mx".into(),
        taker: Arc::new(Taker {
            pool: format!("pool{pool}").into(),
            server: format!("server{server}").into(),
        }),
        tried: vec![],
        wait: Duration::ZERO,
        greeted: Greeted::default(),
    };
    Flow {
        note: Note::of(&outline, 20).to_bytes(),
        ..Flow::from_bytes(&[0; Flow::SIZE])
    }
}

/// A process has many flows of many servers to go on with, and nobody is served before it does.
#[test]
fn each_finds_its_server_whatever_their_number() {
    let snapshot = Snapshot::build(&many_servers(), 1, &mut Registry::new(1)).unwrap();
    let ledger = Ledger::new(
        WorkerId::new(0),
        Arc::new(PerWorker::new(1)),
        Arc::new(LiveSessions::new(1)),
        Arc::new(SessionLog::start().unwrap()),
    );
    let heir = Heir {
        ledger: &Arc::new(ledger),
        snapshot: &Arc::new(snapshot),
        occupancy: &Arc::default(),
        written: HashSet::new(),
        workers: 1,
    };
    let heir = NamedHeir::new(&heir);
    let client = Key::from_bytes(&[1; Key::SIZE]);
    let began = Instant::now();
    let mut adopted = vec![];
    for number in 0..POOLS * SERVERS {
        let (pool, server) = (number / SERVERS, number % SERVERS);
        let carried = heir.carried(client, &flow(pool, server));
        let member = &heir.snapshot.pools[pool].members[server];
        assert!(std::ptr::eq(carried.in_flight.server(), &*member.server));
        let outline = carried.record.outline().unwrap();
        assert_eq!(outline.taker, member.taker);
        adopted.push(carried);
    }
    // Looked for among all for each, it took minutes.
    assert!(began.elapsed() < Duration::from_secs(20));
}
