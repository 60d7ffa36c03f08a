//! Who waits for a server, and who gets it.

use crate::spec::QueueSpec;

use super::*;

#[tokio::test]
async fn who_waits_is_served_in_order_and_before_others() {
    let mut registry = Registry::new(1);
    let mut spec = spec(Balance::LeastConn, &[1]);
    spec.pools[0].servers[0].max_sessions = Some(1);
    spec.pools[0].queue = Some(QueueSpec {
        length: 2,
        wait: Duration::from_secs(60),
    });
    let snapshot = apply(&spec, &mut registry);
    let farm = &snapshot.pools[0];
    let first = pick(farm, &[]).unwrap();
    let queue = || farm.roster.queue(waiting(farm, &[]), 2);
    let (one, two) = (queue().unwrap(), queue().unwrap());
    assert!(queue().is_none());
    assert!(look(farm).is_err());
    drop(first);
    // The place is the first one's, although it hasn't looked yet.
    assert_eq!(pick(farm, &[]).unwrap_err(), EndReason::Full);
    assert!(look(farm).is_ok());
    let waited = one.wait(Duration::ZERO).await;
    assert!(given(farm, waited.in_flight.unwrap()).is_ok());
    // That was dropped at once: it is the second one's turn, who gives up, and nobody waits.
    drop(two);
    assert_eq!(farm.roster.lock().waiting(), 0);
    assert!(pick(farm, &[]).is_ok());
    let late = queue();
    let held = pick(farm, &[]);
    assert!(late.is_some());
    assert_eq!(held.unwrap_err(), EndReason::Full);
}

/// Nobody could ever serve it: in line it would only keep others waiting.
#[tokio::test]
async fn who_tried_all_servers_waits_for_none() {
    let mut registry = Registry::new(1);
    let mut spec = spec(Balance::LeastConn, &[1, 1]);
    for server in &mut spec.pools[0].servers {
        server.max_sessions = Some(1);
    }
    let snapshot = apply(&spec, &mut registry);
    let farm = &snapshot.pools[0];
    let held = [pick(farm, &[]).unwrap(), pick(farm, &[]).unwrap()];
    let ticket = farm.roster.queue(waiting(farm, &[]), 9);
    assert!(ticket.is_some());
    assert_eq!(pick(farm, &[0]).unwrap_err(), EndReason::Full);
    assert_eq!(pick(farm, &[0, 1]).unwrap_err(), EndReason::NoServer);
    drop(ticket);
    assert_eq!(pick(farm, &[0, 1]).unwrap_err(), EndReason::NoServer);
    drop(held);
}

#[tokio::test]
async fn a_wait_is_over_in_time_and_takes_no_place() {
    let mut registry = Registry::new(1);
    let mut spec = spec(Balance::LeastConn, &[1]);
    spec.pools[0].servers[0].max_sessions = Some(1);
    let snapshot = apply(&spec, &mut registry);
    let farm = &snapshot.pools[0];
    let held = pick(farm, &[]).unwrap();
    let ticket = farm.roster.queue(waiting(farm, &[]), 9).unwrap();
    let waited = ticket.wait(Duration::from_millis(5)).await;
    assert!(waited.in_flight.is_none());
    assert!(waited.time >= Duration::from_millis(5));
    assert_eq!(
        farm.roster.counters.ends(crate::roster::QueueEnd::Timeout),
        1
    );
    drop(held);
    assert_eq!(farm.members[0].server.in_flight.now(), 0);
    assert!(pick(farm, &[]).is_ok());
}

/// A server that comes up, or may take more, serves those who wait.
#[tokio::test]
async fn who_waits_is_served_by_what_changes() {
    let mut registry = Registry::new(1);
    let mut spec = spec(Balance::LeastConn, &[1, 1]);
    spec.pools[0].servers[0].max_sessions = Some(1);
    spec.pools[0].servers[1].state = ServerState::Down;
    let snapshot = apply(&spec, &mut registry);
    let farm = &snapshot.pools[0];
    let held = pick(farm, &[]).unwrap();
    let [tried, one, two] =
        [&[1][..], &[], &[]].map(|tried| farm.roster.queue(waiting(farm, tried), 9).unwrap());
    set(farm, 1, ServerState::Up);
    // The first has tried that one in vain: it goes to the others.
    for ticket in [one, two] {
        let place = ticket.wait(Duration::ZERO).await.in_flight.unwrap();
        assert_eq!(given(farm, place).unwrap().index, 1);
    }
    spec.pools[0].servers[0].max_sessions = Some(2);
    let newer = apply(&spec, &mut registry);
    let place = tried.wait(Duration::ZERO).await.in_flight.unwrap();
    assert_eq!(given(farm, place).unwrap().index, 0);
    drop((held, newer));
}

/// Down and used all the same, a server rests after a failure: nothing but time ends that.
#[tokio::test]
async fn who_waits_is_served_by_time() {
    let mut registry = Registry::new(1);
    let mut spec = spec(Balance::LeastConn, &[1, 1]);
    spec.pools[0].servers[0].max_sessions = Some(1);
    spec.pools[0].servers[1].state = ServerState::Panic;
    let snapshot = apply(&spec, &mut registry);
    let farm = &snapshot.pools[0];
    let mut held = vec![pick(farm, &[]).unwrap(), pick(farm, &[]).unwrap()];
    held.sort_by_key(|one| one.index);
    farm.roster.lock().observe(
        held[1].member.seat,
        Duration::ZERO,
        GreetingOutcome::Failed,
        nanos(Instant::now()),
    );
    held.truncate(1);
    let ticket = farm.roster.queue(waiting(farm, &[]), 9).unwrap();
    let waited = ticket.wait(Duration::from_secs(60)).await;
    assert_eq!(given(farm, waited.in_flight.unwrap()).unwrap().index, 1);
    assert!(waited.time < Duration::from_secs(15));
}
