//! How a server that comes in gets its share.

use std::collections::VecDeque;

use super::*;

/// Its share of new sessions rises as its time goes, whatever way they are shared.
#[test]
fn slow_start_rises_with_time() {
    for balance in Balance::ALL {
        let mut registry = Registry::new(1);
        let mut spec = spec(balance, &[100; 4]);
        spec.pools[0].slow_start = Duration::from_secs(60);
        let snapshot = apply(&spec, &mut registry);
        let farm = &snapshot.pools[0];
        set(farm, 0, ServerState::Down);
        let began = Instant::now() + Duration::from_secs(600);
        farm.roster
            .set_states_at(&[(farm.members[0].seat, ServerState::Up)], nanos(began));
        // 300 sessions a second, each of 100 ms.
        let mut open = VecDeque::new();
        let mut share = vec![];
        for second in 0..80_u32 {
            let mut taken = 0;
            for nth in 0..300_u32 {
                let now = began
                    + Duration::from_secs(second.into())
                    + Duration::from_micros(u64::from(nth) * 3333);
                let (index, in_flight) = ask(farm, mix_of(second * 300 + nth), &[], now).unwrap();
                taken += u32::from(index == 0);
                open.push_back(in_flight);
                if open.len() > 30 {
                    open.pop_front();
                }
            }
            share.push(f64::from(taken) / 300.0);
        }
        for from in (0..60).step_by(10) {
            let seen: f64 = share[from..from + 10].iter().sum::<f64>() / 10.0;
            let ramp = (from as f64 + 5.0) / 60.0;
            let due = ramp / (3.0 + ramp);
            assert!(
                (seen - due).abs() < 0.1 * 0.25,
                "{balance:?} from {from} s: {seen} of {due}"
            );
        }
        let settled: f64 = share[60..].iter().sum::<f64>() / 20.0;
        assert!((settled - 0.25).abs() < 0.03, "{balance:?}: {settled}");
    }
}

fn mix_of(number: u32) -> u32 {
    crate::hashing::mix(number.into()) as u32
}

#[test]
fn who_enters_together_does_not_wait_for_the_others() {
    let mut registry = Registry::new(1);
    let mut spec = spec(Balance::RoundRobin, &[1; 3]);
    spec.pools[0].slow_start = Duration::from_secs(60);
    let snapshot = apply(&spec, &mut registry);
    assert_eq!(indexes(&snapshot, 6), [0, 1, 2, 0, 1, 2]);
}

#[test]
fn slow_start_refuses_nobody() {
    let mut registry = Registry::new(1);
    let mut spec = spec(Balance::LeastConn, &[1; 2]);
    spec.pools[0].slow_start = Duration::from_secs(60);
    let snapshot = apply(&spec, &mut registry);
    let farm = &snapshot.pools[0];
    set(farm, 1, ServerState::Down);
    let later = Instant::now() + Duration::from_secs(300);
    farm.roster
        .set_states_at(&[(farm.members[1].seat, ServerState::Up)], nanos(later));
    set(farm, 0, ServerState::Drain);
    for _ in 0..10 {
        assert_eq!(ask(farm, 1, &[], later).unwrap().0, 1);
    }
}
