//! Choosing, over any history of sessions, ends, states and weights.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::registry::Registry;
use crate::snapshot::Snapshot;
use crate::spec::{
    DrainSpec, Forwarding, KernelSpec, ListenerSpec, LogFormat, LogSpec, LogTarget, PlaneSpec,
    PoolSpec, Protocol, ProxyVersion, ServerSpec, Timeouts,
};

fn spec(balance: Balance, weights: &[u32]) -> PlaneSpec {
    let server = |(index, weight): (usize, &u32)| ServerSpec {
        name: index.to_string(),
        address: ([10, 0, 0, 1], 25).into(),
        weight: *weight,
        state: ServerState::Up,
        max_sessions: None,
        proxy: ProxyVersion::Off,
        source: vec![],
    };
    let second = Duration::from_secs(1);
    PlaneSpec {
        hostname: "mx.test".into(),
        max_sessions: 100,
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
        listeners: vec![ListenerSpec {
            name: "mx".into(),
            bind: vec![([127, 0, 0, 1], 25).into()],
            protocol: Protocol::Smtp,
            pool: "farm".into(),
            timeouts: Timeouts {
                connect: second,
                greeting: second,
                accept_total: second,
                idle_client: second,
                idle_server: second,
                half_closed: second,
            },
            max_sessions: None,
            max_age: None,
            forwarding: Forwarding::Relay,
            paused: false,
        }],
        pools: vec![PoolSpec {
            name: "farm".into(),
            balance,
            servers: weights.iter().enumerate().map(server).collect(),
        }],
    }
}

/// A pool as it runs; the registry keeps what outlives it.
fn pool(balance: Balance, weights: &[u32], registry: &mut Registry) -> Snapshot {
    let spec = spec(balance, weights);
    let snapshot = Snapshot::build(&spec, 1, registry).unwrap();
    snapshot.take_states(&spec);
    snapshot
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
    let absent = &snapshot.pools[0].members[1].server;
    absent.set_state(ServerState::Down);
    assert_eq!(indexes(&snapshot, 1000), [0; 1000]);
    absent.set_state(ServerState::Up);
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
        for member in &snapshot.pools[0].members {
            member.server.set_state(ServerState::Down);
        }
        assert!(foresee(&snapshot.pools[0]).is_none());
    }
}

#[test]
fn nobody_is_picked_who_may_not_be() {
    let mut registry = Registry::new(1);
    for balance in [Balance::LeastConn, Balance::RoundRobin] {
        let snapshot = pool(balance, &[0, 1, 1, 1, 1], &mut registry);
        let members = &snapshot.pools[0].members;
        members[1].server.set_state(ServerState::Down);
        members[2].server.set_state(ServerState::Drain);
        members[3].server.set_state(ServerState::Maint);
        assert_eq!(indexes(&snapshot, 5), [4; 5]);
        assert!(pick(&snapshot.pools[0], &[4]).is_err());
    }
}

#[test]
fn why_nobody_is_picked_is_known() {
    let mut registry = Registry::new(1);
    let snapshot = pool(Balance::LeastConn, &[1, 1, 0], &mut registry);
    let [a, b, off] = &snapshot.pools[0].members[..] else {
        panic!("three members");
    };
    let why = |first: ServerState, second: ServerState| {
        a.server.set_state(first);
        b.server.set_state(second);
        off.server.set_state(ServerState::Up);
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
    let snapshot = Snapshot::build(&spec, 1, &mut registry).unwrap();
    snapshot.take_states(&spec);
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

#[derive(Debug, Clone)]
enum Event {
    Begin,
    /// Some session ends, by its place among those that are there.
    End(prop::sample::Index),
    /// A session finds its first server dead and takes another one.
    BeginTwice,
    State(prop::sample::Index, bool),
    /// A reload with nothing changed.
    Reload,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => Just(Event::Begin),
        5 => any::<prop::sample::Index>().prop_map(Event::End),
        1 => Just(Event::BeginTwice),
        1 => (any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(index, up)| Event::State(index, up)),
        1 => Just(Event::Reload),
    ];
    prop::collection::vec(event, 1..400)
}

proptest! {
    /// Round robin: of servers that are up all the time, nobody is ever more than one
    /// session beyond the share that its weight gives it, pairwise.
    #[test]
    fn round_robin_keeps_to_the_weights(
        weights in prop::collection::vec(1_u32..=20, 2..8),
        picks in 1_usize..500,
    ) {
        let mut registry = Registry::new(1);
        let snapshot = pool(Balance::RoundRobin, &weights, &mut registry);
        let mut counts = vec![0_f64; weights.len()];
        for index in indexes(&snapshot, picks) {
            counts[index] += 1.0;
            for (count, weight) in counts.iter().zip(&weights) {
                for (other, other_weight) in counts.iter().zip(&weights) {
                    let turns = count / f64::from(*weight);
                    let other_turns = (other + 1.0) / f64::from(*other_weight);
                    prop_assert!(turns <= other_turns + 1.0 / f64::from(*weight) + 1e-3);
                }
            }
        }
    }

    /// Least connections: whoever is picked has the fewest sessions for its weight of all
    /// that may be picked, and what a server counts is what it has.
    #[test]
    fn least_conn_is_exact_after_any_history(
        weights in prop::collection::vec(1_u32..=20, 1..6),
        events in events(),
    ) {
        let mut registry = Registry::new(1);
        let mut snapshot = pool(Balance::LeastConn, &weights, &mut registry);
        let mut up = vec![true; weights.len()];
        let mut sessions: Vec<(usize, InFlight)> = vec![];
        for event in events {
            match event {
                Event::Begin | Event::BeginTwice => {
                    let mut tried = vec![];
                    if matches!(event, Event::BeginTwice) {
                        let first = pick(&snapshot.pools[0], &[]);
                        tried.extend(first.map(|picked| picked.index));
                    }
                    let Ok(picked) = pick(&snapshot.pools[0], &tried) else {
                        let usable = (0..up.len()).filter(|i| up[*i] && !tried.contains(i));
                        prop_assert_eq!(usable.count(), 0);
                        continue;
                    };
                    let load = |index: usize| {
                        let own = sessions.iter().filter(|(at, _)| *at == index).count();
                        own as f64 / f64::from(weights[index])
                    };
                    let least = (0..up.len())
                        .filter(|index| up[*index] && !tried.contains(index))
                        .map(load)
                        .fold(f64::INFINITY, f64::min);
                    prop_assert!(load(picked.index) <= least + 1e-9);
                    sessions.push((picked.index, picked.in_flight));
                }
                Event::End(which) => {
                    if !sessions.is_empty() {
                        sessions.swap_remove(which.index(sessions.len()));
                    }
                }
                Event::State(which, is_up) => {
                    let index = which.index(up.len());
                    up[index] = is_up;
                    let state = if is_up { ServerState::Up } else { ServerState::Down };
                    snapshot.pools[0].members[index].server.set_state(state);
                }
                Event::Reload => {
                    snapshot = pool(Balance::LeastConn, &weights, &mut registry);
                    up.fill(true);
                }
            }
            let mut counts: HashMap<usize, u64> = HashMap::new();
            for (index, _) in &sessions {
                *counts.entry(*index).or_default() += 1;
            }
            for (index, member) in snapshot.pools[0].members.iter().enumerate() {
                let expected = counts.get(&index).copied().unwrap_or_default();
                prop_assert_eq!(member.server.in_flight(), expected);
            }
        }
    }
}
