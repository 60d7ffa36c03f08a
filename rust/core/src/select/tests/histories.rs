//! Choosing, over any history of sessions, ends, states, weights and reloads.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Event {
    Begin,
    /// Some session ends, by its place among those that are there.
    End(prop::sample::Index),
    /// A session finds its first server dead and takes another one.
    BeginTwice,
    State(prop::sample::Index, bool),
    /// A session that was accepted before all reloads.
    BeginBefore,
    /// An earlier process's.
    Adopt(prop::sample::Index),
    /// A reload that changes a weight.
    Reload(prop::sample::Index, u32),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => Just(Event::Begin),
        5 => any::<prop::sample::Index>().prop_map(Event::End),
        1 => Just(Event::BeginTwice),
        1 => (any::<prop::sample::Index>(), any::<bool>())
            .prop_map(|(index, up)| Event::State(index, up)),
        1 => Just(Event::BeginBefore),
        1 => any::<prop::sample::Index>().prop_map(Event::Adopt),
        1 => (any::<prop::sample::Index>(), 1_u32..=20)
            .prop_map(|(index, weight)| Event::Reload(index, weight)),
    ];
    prop::collection::vec(event, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// A quiet farm is shared by weight, within a percent of all.
    #[test]
    fn shares_are_by_weight(weights in prop::collection::vec(1_u32..=1000, 2..8)) {
        for balance in [Balance::RoundRobin, Balance::LeastConn, Balance::RandomTwo] {
            let mut registry = Registry::new(1);
            let snapshot = pool(balance, &weights, &mut registry);
            let mut counts = vec![0_f64; weights.len()];
            const PICKS: usize = 20_000;
            for index in indexes(&snapshot, PICKS) {
                counts[index] += 1.0;
            }
            let whole = f64::from(weights.iter().sum::<u32>());
            // Lots have a spread: four standard deviations of it.
            let spread = if balance == Balance::RandomTwo { 0.0142 } else { 0.0 };
            for (count, weight) in counts.iter().zip(&weights) {
                let share = count / PICKS as f64;
                let due = f64::from(*weight) / whole;
                // Of two drawn and equal, the one whose turn it is: nearer to the weights still.
                prop_assert!((share - due).abs() < 0.01 + spread, "{:?} {} {}", balance, share, due);
            }
        }
    }
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

    /// By hashes nobody gets more than 1.25 of its share of what there is at that moment.
    #[test]
    fn hashes_are_bounded(
        weights in prop::collection::vec(1_u32..=20, 2..8),
        clients in prop::collection::vec((0_u32..6, any::<bool>()), 1..300),
        maglev in any::<bool>(),
    ) {
        let balance = if maglev { Balance::Maglev } else { Balance::SourceHash };
        let mut registry = Registry::new(1);
        let snapshot = pool(balance, &weights, &mut registry);
        let whole = weights.iter().sum::<u32>() as usize;
        let mut open: Vec<(usize, InFlight)> = vec![];
        for (client, ends) in clients {
            if ends && !open.is_empty() {
                open.remove(0);
            }
            open.push(ask(&snapshot.pools[0], client, &[], Instant::now()).unwrap());
            let at = open[open.len() - 1].0;
            let own = open.iter().filter(|(index, _)| *index == at).count();
            let share_by_four = open.len() * weights[at] as usize * 5;
            prop_assert!(own <= share_by_four.div_ceil(4 * whole));
        }
    }

    /// A source stays with its server while nothing is against that.
    #[test]
    fn hashes_stay(maglev in any::<bool>(), client in any::<u32>(), down in 0_usize..5) {
        let balance = if maglev { Balance::Maglev } else { Balance::SourceHash };
        let mut registry = Registry::new(1);
        let snapshot = pool(balance, &[100; 5], &mut registry);
        let farm = &snapshot.pools[0];
        let at = || ask(farm, client, &[], Instant::now()).unwrap().0;
        let first = at();
        set(farm, down, ServerState::Down);
        prop_assert_eq!(at() == first, down != first);
        prop_assert_ne!(at(), down);
        set(farm, down, ServerState::Up);
        prop_assert_eq!(at(), first);
    }

    /// Whatever happens, a server counts the sessions that it has; and by `least_conn` whoever is
    /// picked has the fewest for its weight of all that may be picked.
    #[test]
    fn counts_are_exact_after_any_history(
        weights in prop::collection::vec(1_u32..=20, 1..6),
        balance in prop::sample::select(&Balance::ALL[..]),
        events in events(),
    ) {
        let mut registry = Registry::new(1);
        let mut spec = spec(balance, &weights);
        spec.pools[0].slow_start = Duration::ZERO;
        let mut snapshots = vec![apply(&spec, &mut registry)];
        let mut sessions: Vec<(usize, InFlight)> = vec![];
        for event in events {
            let newest = snapshots.len() - 1;
            let farm = Arc::clone(&snapshots[newest].pools[0]);
            let servers = &mut spec.pools[0].servers;
            match event {
                Event::Begin | Event::BeginTwice | Event::BeginBefore => {
                    let before = matches!(event, Event::BeginBefore);
                    let farm = if before { Arc::clone(&snapshots[0].pools[0]) } else { farm };
                    let mut tried = vec![];
                    if matches!(event, Event::BeginTwice) {
                        let first = pick(&farm, &[]);
                        tried.extend(first.map(|picked| picked.index));
                    }
                    let usable = |index: &usize| {
                        servers[*index].state == ServerState::Up && !tried.contains(index)
                    };
                    let Ok(picked) = pick(&farm, &tried) else {
                        prop_assert_eq!((0..servers.len()).filter(usable).count(), 0);
                        continue;
                    };
                    prop_assert!(usable(&picked.index));
                    let load = |index: usize| {
                        let own = sessions.iter().filter(|(at, _)| *at == index).count();
                        own as f64 / f64::from(servers[index].weight)
                    };
                    let least = (0..servers.len()).filter(usable).map(load);
                    let least = least.fold(f64::INFINITY, f64::min);
                    if balance == Balance::LeastConn {
                        prop_assert!(load(picked.index) <= least + 1e-9);
                    }
                    sessions.push((picked.index, picked.in_flight));
                }
                Event::Adopt(which) => {
                    let index = which.index(servers.len());
                    sessions.push((index, farm.roster.adopt(farm.members[index].seat)));
                }
                Event::End(which) => {
                    if !sessions.is_empty() {
                        sessions.swap_remove(which.index(sessions.len()));
                    }
                }
                Event::State(which, is_up) => {
                    let index = which.index(servers.len());
                    let state = if is_up { ServerState::Up } else { ServerState::Down };
                    servers[index].state = state;
                    set(&farm, index, state);
                }
                Event::Reload(which, weight) => {
                    let index = which.index(servers.len());
                    servers[index].weight = weight;
                    snapshots.push(apply(&spec, &mut registry));
                    registry.prune();
                }
            }
            let mut counts: HashMap<usize, u64> = HashMap::new();
            for (index, _) in &sessions {
                *counts.entry(*index).or_default() += 1;
            }
            for (index, member) in snapshots[0].pools[0].members.iter().enumerate() {
                let expected = counts.get(&index).copied().unwrap_or_default();
                prop_assert_eq!(member.server.in_flight.now(), expected);
            }
        }
        sessions.clear();
        let farm = &snapshots[0].pools[0];
        prop_assert!(farm.members.iter().all(|one| one.server.in_flight.now() == 0));
    }
}
