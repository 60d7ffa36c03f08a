//! Choosing: who is picked, and who isn't.

mod histories;
mod overflow;
mod queue;
mod slow_start;

use std::time::{Duration, Instant};

use super::*;
use crate::registry::Registry;
use crate::roster::GreetingOutcome;
use crate::snapshot::Snapshot;
use crate::spec::{
    Balance, DrainSpec, KernelSpec, LogFormat, LogSpec, LogTarget, PlaneSpec, PoolSpec, RoomSpec,
    ServerSpec, SourceSpec, StickySpec,
};

fn spec(balance: Balance, weights: &[u32]) -> PlaneSpec {
    let server = |(index, weight): (usize, &u32)| ServerSpec {
        weight: *weight,
        ..ServerSpec::new(&index.to_string(), ([10, 0, 0, 1], 25).into())
    };
    PlaneSpec {
        hostname: "mx.test".into(),
        max_sessions: 100,
        room: RoomSpec {
            sessions: 1000,
            spare: 100,
        },
        drain: DrainSpec::default(),
        log: LogSpec {
            sessions: LogTarget::Off,
            format: LogFormat::Json,
        },
        kernel: KernelSpec {
            instance: "test".into(),
            source_ports: 10_000..=32_767,
            max_flows: 1000,
            counted: false,
        },
        listeners: vec![],
        pools: vec![PoolSpec::new(
            "farm",
            balance,
            weights.iter().enumerate().map(server).collect(),
        )],
        denied: vec![],
    }
}

/// A pool as it runs; the registry keeps what outlives it.
fn pool(balance: Balance, weights: &[u32], registry: &mut Registry) -> Snapshot {
    apply(&spec(balance, weights), registry)
}

fn apply(spec: &PlaneSpec, registry: &mut Registry) -> Snapshot {
    let snapshot = Snapshot::build(spec, 1, registry).unwrap();
    snapshot.take_states(spec);
    snapshot
}

fn ask(
    pool: &Pool,
    client: u32,
    tried: &[usize],
    now: Instant,
) -> Result<(usize, InFlight), EndReason> {
    let asking = Asking {
        client: std::net::Ipv4Addr::from_bits(client).into(),
        tried,
        now,
    };
    super::pick(pool, &asking).map(|picked| (picked.index, picked.in_flight))
}

fn pick<'a>(pool: &'a Pool, tried: &[usize]) -> Result<Picked<'a>, EndReason> {
    let asking = Asking {
        client: [192, 0, 2, 1].into(),
        tried,
        now: Instant::now(),
    };
    super::pick(pool, &asking)
}

fn foresee(pool: &Pool) -> Option<&Member> {
    super::foresee(pool, [192, 0, 2, 1].into())
}

fn set(pool: &Pool, index: usize, state: ServerState) {
    pool.roster.set_states(&[(pool.members[index].seat, state)]);
}

fn indexes(snapshot: &Snapshot, picks: usize) -> Vec<usize> {
    (0..picks)
        .map(|_| pick(&snapshot.pools[0], &[]).unwrap().index)
        .collect()
}

#[test]
fn round_robin_interleaves_by_weight() {
    let mut registry = Registry::new(1);
    let snapshot = pool(Balance::RoundRobin, &[100, 50], &mut registry);
    assert_eq!(indexes(&snapshot, 6), [0, 1, 0, 0, 1, 0]);
}

#[test]
fn the_rotation_goes_on_across_snapshots() {
    let mut registry = Registry::new(1);
    let first = pool(Balance::RoundRobin, &[1, 1, 1], &mut registry);
    assert_eq!(indexes(&first, 2), [0, 1]);
    let second = pool(Balance::RoundRobin, &[1, 1, 1], &mut registry);
    assert_eq!(indexes(&second, 2), [2, 0]);
    assert_eq!(indexes(&first, 1), [1]);
}

#[test]
fn a_quiet_farm_is_shared_by_weight() {
    let mut registry = Registry::new(1);
    let snapshot = pool(Balance::LeastConn, &[100, 50], &mut registry);
    // Every session ends before the next begins.
    let picks = indexes(&snapshot, 300);
    assert_eq!(picks.iter().filter(|index| **index == 0).count(), 200);
}

#[test]
fn who_comes_back_gets_its_share_and_not_what_it_missed() {
    let mut registry = Registry::new(1);
    let snapshot = pool(Balance::RoundRobin, &[1, 1], &mut registry);
    set(&snapshot.pools[0], 1, ServerState::Down);
    assert_eq!(indexes(&snapshot, 1000), [0; 1000]);
    set(&snapshot.pools[0], 1, ServerState::Up);
    let picks = indexes(&snapshot, 10);
    assert_eq!(picks.iter().filter(|index| **index == 1).count(), 5);
}

#[test]
fn who_is_next_is_known_and_stays_next() {
    let mut registry = Registry::new(1);
    for balance in [Balance::LeastConn, Balance::RoundRobin] {
        let snapshot = pool(balance, &[3, 1, 2], &mut registry);
        let mut open = vec![];
        for _ in 0..20 {
            let next = foresee(&snapshot.pools[0]).unwrap().name.clone();
            assert_eq!(foresee(&snapshot.pools[0]).unwrap().name, next);
            let picked = pick(&snapshot.pools[0], &[]).unwrap();
            assert_eq!(picked.member.name, next);
            open.push(picked.in_flight);
        }
        for index in 0..3 {
            set(&snapshot.pools[0], index, ServerState::Down);
        }
        assert!(foresee(&snapshot.pools[0]).is_none());
    }
}

#[test]
fn nobody_is_picked_who_may_not_be() {
    let mut registry = Registry::new(1);
    for balance in Balance::ALL {
        let snapshot = pool(balance, &[0, 1, 1, 1, 1], &mut registry);
        set(&snapshot.pools[0], 1, ServerState::Down);
        set(&snapshot.pools[0], 2, ServerState::Drain);
        set(&snapshot.pools[0], 3, ServerState::Maint);
        assert_eq!(indexes(&snapshot, 5), [4; 5]);
        assert!(pick(&snapshot.pools[0], &[4]).is_err());
    }
}

#[test]
fn why_nobody_is_picked_is_known() {
    let mut registry = Registry::new(1);
    let snapshot = pool(Balance::LeastConn, &[1, 1, 0], &mut registry);
    let why = |first: ServerState, second: ServerState| {
        set(&snapshot.pools[0], 0, first);
        set(&snapshot.pools[0], 1, second);
        pick(&snapshot.pools[0], &[]).unwrap_err()
    };
    use ServerState::{Down, Drain, Maint};
    assert_eq!(why(Down, Down), EndReason::NoServer);
    assert_eq!(why(Down, Drain), EndReason::Draining);
    assert_eq!(why(Maint, Drain), EndReason::Draining);
    assert_eq!(why(Maint, Down), EndReason::Maintenance);
}

/// Half of the sessions meet the server that fails beside one that doesn't, and not all.
#[test]
fn a_server_that_fails_gets_its_share_of_tries_and_no_more() {
    for balance in [Balance::RoundRobin, Balance::LeastConn] {
        let mut registry = Registry::new(1);
        let snapshot = pool(balance, &[1, 1], &mut registry);
        let mut met = 0;
        for _ in 0..100 {
            let first = pick(&snapshot.pools[0], &[]).unwrap().index;
            if first == 0 {
                met += 1;
                assert_eq!(pick(&snapshot.pools[0], &[0]).unwrap().index, 1);
            }
        }
        assert_eq!(met, 50, "{balance:?}");
    }
}

#[test]
fn a_full_server_is_passed_over() {
    let mut registry = Registry::new(1);
    let mut spec = spec(Balance::RoundRobin, &[1, 1]);
    for server in &mut spec.pools[0].servers {
        server.max_sessions = Some(2);
    }
    let snapshot = apply(&spec, &mut registry);
    let mut sessions = vec![];
    for expected in [0, 1, 0, 1] {
        let picked = pick(&snapshot.pools[0], &[]).unwrap();
        assert_eq!(picked.index, expected);
        sessions.push(picked.in_flight);
    }
    assert_eq!(pick(&snapshot.pools[0], &[]).unwrap_err(), EndReason::Full);
    sessions.remove(1);
    assert_eq!(pick(&snapshot.pools[0], &[]).unwrap().index, 1);
}

#[test]
fn a_source_stays_with_a_backup_only_while_there_is_nobody_else() {
    let mut registry = Registry::new(1);
    let mut spec = spec(Balance::LeastConn, &[1, 1]);
    spec.pools[0].servers[1].backup = true;
    spec.pools[0].sticky = Some(StickySpec {
        source: SourceSpec {
            prefix4: 32,
            prefix6: 64,
        },
        ttl: Duration::from_secs(60),
    });
    let snapshot = apply(&spec, &mut registry);
    let pool = &snapshot.pools[0];
    set(pool, 0, ServerState::Down);
    assert_eq!(indexes(&snapshot, 2), [1, 1]);
    set(pool, 0, ServerState::Up);
    assert_eq!(indexes(&snapshot, 2), [0, 0]);
}

#[test]
fn backups_are_used_where_nobody_else_is() {
    for balance in Balance::ALL {
        let mut registry = Registry::new(1);
        let mut spec = spec(balance, &[1, 1, 1]);
        spec.pools[0].servers[2].backup = true;
        spec.pools[0].servers[0].max_sessions = Some(1);
        let snapshot = apply(&spec, &mut registry);
        let farm = &snapshot.pools[0];
        assert!(indexes(&snapshot, 20).iter().all(|index| *index < 2));
        // What the others couldn't do, they may.
        assert_eq!(pick(farm, &[0, 1]).unwrap().index, 2);
        set(farm, 1, ServerState::Down);
        let full = pick(farm, &[]).unwrap();
        assert_eq!(full.index, 0);
        // Full isn't out of use.
        assert_eq!(pick(farm, &[]).unwrap_err(), EndReason::Full);
        set(farm, 0, ServerState::Drain);
        assert_eq!(indexes(&snapshot, 3), [2; 3]);
    }
}

#[test]
fn a_server_that_is_down_is_tried_in_a_panic_but_not_again_at_once() {
    let mut registry = Registry::new(1);
    let snapshot = pool(Balance::RoundRobin, &[1, 1], &mut registry);
    let farm = &snapshot.pools[0];
    set(farm, 0, ServerState::Panic);
    let now = Instant::now();
    let picks = |now| -> Vec<usize> { (0..4).map(|_| ask(farm, 1, &[], now).unwrap().0).collect() };
    assert_eq!(picks(now).iter().filter(|index| **index == 0).count(), 2);
    let (_, mut in_flight) = loop {
        let found = ask(farm, 1, &[], now).unwrap();
        if found.0 == 0 {
            break found;
        }
    };
    in_flight.took(Duration::from_secs(1), GreetingOutcome::Failed);
    drop(in_flight);
    assert_eq!(picks(now), [1; 4]);
    let later = now + Duration::from_secs(11);
    assert_eq!(picks(later).iter().filter(|index| **index == 0).count(), 2);
}

/// A pool that is changed by many reloads keeps no more seats than it has servers.
#[test]
fn servers_that_are_gone_leave_nothing() {
    let mut registry = Registry::new(1);
    let mut spec = spec(Balance::Maglev, &[1; 10]);
    let mut last = None;
    for round in 0..50 {
        for (index, server) in spec.pools[0].servers.iter_mut().enumerate() {
            server.name = format!("{round}-{index}");
        }
        let snapshot = apply(&spec, &mut registry);
        last = Some(snapshot);
        registry.prune();
    }
    assert!(last.unwrap().pools[0].roster.lock().len() <= 20);
}
