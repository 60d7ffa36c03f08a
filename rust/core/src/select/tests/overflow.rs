//! Sessions that go to other pools, and come back.

use proptest::prelude::*;

use crate::moment::nanos;
use crate::select::{InVain, foresee_anywhere, look_anywhere, pick_anywhere};
use crate::snapshot::Listener;
use crate::spec::{ListenerSpec, Timeouts, check};

use super::*;

/// Of the farm, which overflows into `spare` and then `last`; `other` isn't its business.
const POOLS: [&str; 4] = ["farm", "spare", "last", "other"];
const STEADY: Duration = Duration::from_secs(10);

fn plan(most: Option<u64>) -> PlaneSpec {
    let mut spec = spec(Balance::LeastConn, &[]);
    spec.pools = POOLS
        .iter()
        .map(|name| {
            let mut servers: Vec<ServerSpec> = super::spec(Balance::LeastConn, &[1, 1])
                .pools
                .remove(0)
                .servers;
            for server in &mut servers {
                server.max_sessions = most;
            }
            PoolSpec::new(name, Balance::LeastConn, servers)
        })
        .collect();
    spec.pools[0].overflow = vec!["spare".into(), "last".into()];
    let second = Duration::from_secs(1);
    let timeouts = Timeouts {
        connect: second,
        greeting: second,
        accept_total: second,
        idle_client: second,
        idle_server: second,
        half_closed: second,
    };
    let bind = vec![([127, 0, 0, 1], 0).into()];
    spec.listeners = vec![ListenerSpec::new("mx", bind, "farm", timeouts)];
    spec
}

/// The pool that the next session comes to, with its place there.
fn next(listener: &Listener, now: Instant) -> Result<(usize, InFlight), EndReason> {
    let client = [192, 0, 2, 1].into();
    pick_anywhere(listener, client, &mut InVain::default(), now)
        .map(|(picked, pool)| (pool, picked.in_flight))
}

fn goes_to(listener: &Listener, now: Instant) -> Option<usize> {
    next(listener, now).ok().map(|(pool, _)| pool)
}

fn all(pool: &Pool, state: ServerState, now: Instant) {
    for member in &pool.members {
        pool.roster
            .set_states_at(&[(member.seat, state)], nanos(now));
    }
}

#[test]
fn a_pool_without_servers_overflows_in_order_and_has_its_sessions_back_later() {
    let mut registry = Registry::new(1);
    let snapshot = apply(&plan(None), &mut registry);
    let listener = &snapshot.listeners[0];
    let [farm, spare, last, _] = [0, 1, 2, 3].map(|number| &snapshot.pools[number]);
    let start = Instant::now();
    assert_eq!(goes_to(listener, start), Some(0));
    for gone in [ServerState::Down, ServerState::Drain, ServerState::Maint] {
        all(farm, gone, start);
        assert_eq!(goes_to(listener, start), Some(1), "{gone:?}");
        assert!(look_anywhere(listener).is_ok());
        let others = [&**spare, &**last];
        let (pool, _) = foresee_anywhere(farm, &others, [192, 0, 2, 1].into()).unwrap();
        assert_eq!(&*pool.name, "spare");
    }
    all(spare, ServerState::Down, start);
    assert_eq!(goes_to(listener, start), Some(2));
    all(spare, ServerState::Up, start);
    all(farm, ServerState::Up, start);
    let nearly = start + STEADY - Duration::from_millis(1);
    assert_eq!(goes_to(listener, nearly), Some(1));
    assert_eq!(goes_to(listener, start + STEADY), Some(0));
    let told = farm.roster.overflow().unwrap();
    assert_eq!(told.begun, 1);
    assert!(spare.roster.overflow().is_none());
}

#[test]
fn a_list_that_leads_nowhere_or_back_is_refused() {
    for (of, to, problem) in [
        (
            1,
            "nowhere",
            "pools.farm.overflow: there is no pool nowhere",
        ),
        (
            3,
            "other",
            "pools.other.overflow: leads back to the pool itself",
        ),
        (
            2,
            "farm",
            "pools.farm.overflow: leads back to the pool itself",
        ),
        (
            0,
            "spare",
            "pools.farm.overflow: \"spare\" is there twice, or empty",
        ),
    ] {
        let mut spec = plan(None);
        spec.pools[of].overflow.push(to.into());
        assert_eq!(check(&spec).unwrap_err().to_string(), problem);
    }
    assert_eq!(check(&plan(None)), Ok(()));
}

#[test]
fn nobody_is_refused_whom_the_pool_itself_could_have() {
    let mut registry = Registry::new(1);
    let snapshot = apply(&plan(None), &mut registry);
    let listener = &snapshot.listeners[0];
    let now = Instant::now();
    for pool in &snapshot.pools[..3] {
        all(pool, ServerState::Down, now);
    }
    assert_eq!(next(listener, now).unwrap_err(), EndReason::NoServer);
    assert!(look_anywhere(listener).is_err());
    // It hasn't been up for long, and there is nobody else.
    all(&snapshot.pools[0], ServerState::Up, now);
    assert_eq!(goes_to(listener, now), Some(0));
}

#[test]
fn servers_that_are_down_and_tried_all_the_same_come_last() {
    let mut registry = Registry::new(1);
    let snapshot = apply(&plan(None), &mut registry);
    let listener = &snapshot.listeners[0];
    let now = Instant::now();
    all(&snapshot.pools[0], ServerState::Panic, now);
    all(&snapshot.pools[1], ServerState::Panic, now);
    assert_eq!(goes_to(listener, now), Some(2));
    all(&snapshot.pools[2], ServerState::Down, now);
    assert_eq!(goes_to(listener, now), Some(0));
}

#[test]
fn one_server_for_another_is_no_overflow() {
    let mut registry = Registry::new(1);
    let snapshot = apply(&plan(None), &mut registry);
    let farm = &snapshot.pools[0];
    let [a, b] = [0, 1].map(|index: usize| farm.members[index].seat);
    let now = Instant::now();
    let take_turns = [
        [(a, ServerState::Up), (b, ServerState::Ejected)],
        [(a, ServerState::Down), (b, ServerState::Up)],
        [(b, ServerState::Down), (a, ServerState::Up)],
    ];
    for states in take_turns {
        farm.roster.set_states_at(&states, nanos(now));
        assert_eq!(goes_to(&snapshot.listeners[0], now), Some(0));
    }
    assert_eq!(farm.roster.overflow().unwrap().begun, 0);
}

#[test]
fn a_full_pool_spills_session_by_session() {
    let mut registry = Registry::new(1);
    let snapshot = apply(&plan(Some(1)), &mut registry);
    let listener = &snapshot.listeners[0];
    let now = Instant::now();
    let held: Vec<_> = (0..6).map(|_| next(listener, now).unwrap()).collect();
    let pools: Vec<_> = held.iter().map(|(pool, _)| *pool).collect();
    assert_eq!(pools, [0, 0, 1, 1, 2, 2]);
    assert_eq!(next(listener, now).unwrap_err(), EndReason::Full);
    drop(held);
    assert_eq!(goes_to(listener, now), Some(0));
    assert_eq!(snapshot.pools[0].roster.overflow().unwrap().begun, 0);
}

#[test]
fn a_session_that_was_failed_by_all_of_its_pool_goes_on_elsewhere() {
    let mut registry = Registry::new(1);
    let snapshot = apply(&plan(None), &mut registry);
    let listener = &snapshot.listeners[0];
    let (client, mut tried) = ([192, 0, 2, 1].into(), InVain::default());
    let mut pools = vec![];
    while let Ok((picked, pool)) = pick_anywhere(listener, client, &mut tried, Instant::now()) {
        tried.add(pool, picked.index);
        pools.push(pool);
    }
    assert_eq!(pools, [0, 0, 1, 1, 2, 2]);
}

proptest! {
    /// Never to a pool that isn't listed; never elsewhere while a server of the own one has been
    /// up for long and has room; always somewhere while any server is up and has room.
    #[test]
    fn sessions_go_where_they_may(
        steps in prop::collection::vec(
            (0_usize..3, 0_usize..2, 0_usize..5, 0_u64..8, 0_usize..3),
            1..80,
        ),
    ) {
        let mut registry = Registry::new(1);
        let snapshot = apply(&plan(Some(3)), &mut registry);
        let listener = &snapshot.listeners[0];
        let mut now = Instant::now();
        let mut up_since = Some(now - 2 * STEADY);
        let mut held = vec![];
        for (pool, server, state, wait, ended) in steps {
            now += Duration::from_secs(wait);
            let of = &snapshot.pools[pool];
            of.roster.set_states_at(&[(of.members[server].seat, ServerState::ALL[state])], nanos(now));
            held.truncate(held.len().saturating_sub(ended));
            let takes = |pool: &Pool| pool.members.iter().any(|one| {
                one.server.state() == ServerState::Up && one.server.in_flight.now() < 3
            });
            let is_up = snapshot.pools[0].roster.is_up(now);
            up_since = if is_up { up_since.or(Some(now)) } else { None };
            let own = takes(&snapshot.pools[0]);
            let any = snapshot.pools[..3].iter().any(|pool| takes(pool));
            match next(listener, now) {
                Ok((pool, in_flight)) => {
                    prop_assert!(pool < 3);
                    if own && up_since.is_some_and(|since| now - since >= STEADY) {
                        prop_assert_eq!(pool, 0);
                    }
                    held.push(in_flight);
                }
                Err(_) => prop_assert!(!any),
            }
        }
        prop_assert_eq!(snapshot.pools[3].members[0].server.in_flight.now(), 0);
    }
}
