//! Limits of sources against models of them; sessions from several threads, limits that change.

use std::sync::Barrier;
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const KEY: u128 = 7;

fn sources() -> Arc<Sources> {
    Arc::new(Sources::with_places(1024))
}

fn sessions(most: u32) -> SourceLimits {
    SourceLimits {
        sessions: Some(most),
        rate: None,
    }
}

fn rate(count: u32, seconds: u64, burst: u32) -> SourceLimits {
    SourceLimits {
        sessions: None,
        rate: Some(Rate::new(count, Duration::from_secs(seconds), burst)),
    }
}

const SESSIONS: Met = Met {
    sessions: true,
    rate: false,
};
const RATE: Met = Met {
    sessions: false,
    rate: true,
};

/// All that is known of a source.
fn known(sources: &Sources, key: u128) -> Option<(u32, Used)> {
    sources.0.find(key, |source| (source.sessions, source.used))
}

/// Begins and ends a session at `now`.
fn pass(sources: &Arc<Sources>, limits: &SourceLimits, now: u64) -> Result<(), Met> {
    sources.enter(KEY, limits, Met::default(), now).map(drop)
}

#[test]
fn a_source_has_no_more_sessions_than_it_may() {
    let (sources, limits) = (sources(), sessions(2));
    let first = sources.enter(KEY, &limits, Met::default(), 0).unwrap();
    let _second = sources.enter(KEY, &limits, Met::default(), 0).unwrap();
    let refused = sources.enter(KEY, &limits, Met::default(), 0).unwrap_err();
    assert_eq!(refused, SESSIONS);
    assert_eq!(sources.look(KEY, &limits, 0), refused);
    assert_eq!(sources.look(8, &limits, 0), Met::default());
    let _other = sources.enter(8, &limits, Met::default(), 0).unwrap();
    assert_eq!(sources.stats(0).entries, 2);
    drop(first);
    assert_eq!(sources.look(KEY, &limits, 0), Met::default());
    sources.enter(KEY, &limits, Met::default(), 0).unwrap();
}

#[test]
fn a_source_begins_a_burst_at_once_and_then_one_each_interval() {
    let (sources, limits) = (sources(), rate(60, 60, 3));
    for _ in 0..3 {
        pass(&sources, &limits, 10 * SECOND).unwrap();
    }
    let refused = Err(RATE);
    assert_eq!(pass(&sources, &limits, 10 * SECOND), refused);
    assert_eq!(pass(&sources, &limits, 11 * SECOND - 1), refused);
    assert_eq!(pass(&sources, &limits, 11 * SECOND), Ok(()));
    assert_eq!(pass(&sources, &limits, 11 * SECOND), refused);
    assert_eq!(sources.stats(13 * SECOND).entries, 1);
    assert_eq!(sources.stats(14 * SECOND).entries, 0);
    for _ in 0..3 {
        pass(&sources, &limits, 14 * SECOND).unwrap();
    }
    assert_eq!(pass(&sources, &limits, 14 * SECOND), refused);
}

#[test]
fn both_limits_are_looked_at() {
    let sources = sources();
    let limits = SourceLimits {
        sessions: Some(1),
        ..rate(1, 60, 1)
    };
    let place = sources.enter(KEY, &limits, Met::default(), 0).unwrap();
    let refused = |sources: &Sources| sources.look(KEY, &limits, 1);
    let both = Met {
        sessions: true,
        rate: true,
    };
    assert_eq!(refused(&sources), both);
    drop(place);
    assert_eq!(refused(&sources), RATE);
}

#[test]
fn a_source_without_a_place_is_let_in() {
    let sources = Arc::new(Sources::with_places(8));
    let limits = sessions(1);
    let places: Vec<_> = (0..8)
        .map(|key| sources.enter(key, &limits, Met::default(), 0))
        .collect();
    let untracked = sources.enter(8, &limits, Met::default(), 0).unwrap();
    assert_eq!(sources.look(8, &limits, 0), Met::default());
    drop(sources.enter(8, &limits, Met::default(), 0).unwrap());
    drop(sources.adopt(8, 0));
    drop(untracked);
    assert!((0..8).all(|key| known(&sources, key) == Some((1, Used::default()))));
    drop(places);
    let stats = SourcesStats {
        entries: 0,
        places: 8,
        evicted: 0,
        untracked: 3,
    };
    assert_eq!(sources.stats(0), stats);
}

#[test]
fn what_an_earlier_process_let_in_counts_and_is_never_refused() {
    let (sources, limits) = (sources(), sessions(1));
    let places = [sources.adopt(KEY, 0), sources.adopt(KEY, 0)];
    assert_eq!(known(&sources, KEY), Some((2, Used::default())));
    assert_eq!(sources.look(KEY, &limits, 0), SESSIONS);
    drop(places);
    assert_eq!(sources.look(KEY, &limits, 0), Met::default());
}

#[test]
fn a_flood_of_sources_takes_no_more_than_there_is() {
    // Sources are spread by a secret number. So many come to each set that none can stay half
    // empty: 195 on average for 8 places.
    let (places, flood) = (1 << 12, 100_000);
    let (sources, limits) = (Arc::new(Sources::with_places(places)), rate(1, 60, 1));
    let held = sources
        .enter(u128::MAX, &limits, Met::default(), 0)
        .unwrap();
    for key in 0..flood {
        sources
            .enter(key.into(), &limits, Met::default(), key)
            .unwrap();
    }
    let stats = sources.stats(SECOND);
    assert_eq!((stats.places, stats.untracked), (places as u64, 0));
    assert_eq!(stats.entries, stats.places);
    assert_eq!(stats.entries + stats.evicted, flood + 1);
    // Who has a session isn't forgotten.
    assert_eq!(known(&sources, u128::MAX).unwrap().0, 1);
    drop(held);
    assert_eq!(Sources::new().stats(0).places, PLACES as u64);
    assert!(size_of::<SourcePlace>() <= 32);
}

#[test]
fn limits_of_sessions_are_exact_from_several_threads() {
    let (sources, limits) = (sources(), sessions(50));
    let (entered, left) = (Barrier::new(4), Barrier::new(4));
    let held: usize = thread::scope(|scope| {
        let enter = || {
            let places =
                (0..1000).filter_map(|_| sources.enter(KEY, &limits, Met::default(), 0).ok());
            let places: Vec<_> = places.collect();
            entered.wait();
            let held = places.len();
            drop(places);
            left.wait();
            for _ in 0..1000 {
                drop(sources.enter(KEY, &limits, Met::default(), 0));
            }
            held
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(enter)).collect();
        threads.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(held, 50);
    assert_eq!(known(&sources, KEY).unwrap().0, 0);
    assert_eq!(sources.stats(0).entries, 0);
}

#[test]
fn rates_hold_in_any_window_from_several_threads() {
    let (sources, limits) = (sources(), rate(10, 1, 5));
    let begun = |thread: u64| {
        // Each thread's clock moves on by itself, and they are apart from each other.
        let moments = (0..3000).map(|step| 5 * SECOND + step * 7_000_000 + thread * 31_000_000);
        let begun = moments.filter(|now| pass(&sources, &limits, *now).is_ok());
        begun.collect::<Vec<u64>>()
    };
    let mut all: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|id| scope.spawn(move || begun(id))).collect();
        let all = threads.into_iter().flat_map(|one| one.join().unwrap());
        all.collect()
    });
    all.sort_unstable();
    assert!(all.len() > 100);
    assert_in_every_window(&all, SECOND / 10, 5);
}

fn assert_in_every_window(moments: &[u64], interval: u64, burst: u64) {
    for (index, first) in moments.iter().enumerate() {
        for (number, last) in (1..).zip(&moments[index..]) {
            let most = burst + (last - first) / interval;
            assert!(number <= most, "{number} from {first} to {last}");
        }
    }
}

/// A bucket that leaks, as one would write it down.
#[derive(Debug, Default)]
struct Bucket {
    /// In nanoseconds that it takes to leak.
    level: u64,
    filled: u64,
    sessions: u32,
}

impl Bucket {
    fn meets(&mut self, most: u32, interval: u64, burst: u64, now: u64) -> Met {
        self.level = self.level.saturating_sub(now - self.filled);
        self.filled = now;
        Met {
            sessions: self.sessions == most,
            rate: self.level + interval > burst * interval,
        }
    }
}

#[derive(Debug, Clone)]
enum Move {
    Enter,
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<(u64, Move)>> {
    let step = prop_oneof![
        4 => Just(Move::Enter),
        2 => any::<usize>().prop_map(Move::Leave),
    ];
    let later = prop_oneof![4 => 0..SECOND / 10, 1 => 0..SECOND * 20];
    vec((later, step), 1..200)
}

fn rates() -> impl Strategy<Value = (u32, u64, u32)> {
    (1u32..50, 1u64..20, 1u32..10)
}

proptest! {
    #[test]
    fn a_source_is_refused_exactly_when_a_model_says_so(
        steps in steps(),
        (count, seconds, burst) in rates(),
        most in 1u32..8,
        tried in any::<(bool, bool)>().prop_map(|(sessions, rate)| Met { sessions, rate }),
    ) {
        let sources = sources();
        let limits = SourceLimits { sessions: Some(most), ..rate(count, seconds, burst) };
        let interval = (seconds * SECOND).div_ceil(count.into());
        let mut model = Bucket::default();
        let (mut places, mut uncounted) = (vec![], vec![]);
        let mut begun = vec![];
        let mut now = 0;
        for (later, step) in steps {
            now += later;
            if let Move::Leave(which) = step {
                if !places.is_empty() {
                    places.swap_remove(which % places.len());
                    model.sessions -= 1;
                }
                continue;
            }
            let expected = model.meets(most, interval, burst.into(), now);
            let before = known(&sources, KEY);
            prop_assert_eq!(sources.look(KEY, &limits, now), expected);
            prop_assert_eq!(known(&sources, KEY), before);
            match sources.enter(KEY, &limits, tried, now) {
                Err(refused) => {
                    prop_assert_eq!(refused, expected);
                    prop_assert!(expected.beyond(tried));
                    prop_assert_eq!(known(&sources, KEY), before);
                }
                Ok((place, met)) => {
                    prop_assert_eq!(met, expected);
                    prop_assert!(!expected.beyond(tried));
                    // Each limit counts what it lets in by itself.
                    if met.sessions {
                        uncounted.push(place);
                    } else {
                        places.push(place);
                        model.sessions += 1;
                    }
                    if !met.rate {
                        begun.push(now);
                        model.level += interval;
                    }
                }
            }
            prop_assert_eq!(known(&sources, KEY).unwrap().0 as usize, places.len());
        }
        assert_in_every_window(&begun, interval, burst.into());
        drop(uncounted);
        prop_assert_eq!(known(&sources, KEY).unwrap_or_default().0 as usize, places.len());
        drop(places);
        prop_assert_eq!(known(&sources, KEY).unwrap_or_default().0, 0);
    }

    /// Whatever was used up by the rates before, the next one is as good as any: it locks nobody
    /// out for longer than its burst takes, and holds from then on.
    #[test]
    fn rates_may_change(
        before in vec((rates(), 1usize..30), 0..4),
        (count, seconds, burst) in rates(),
        later in vec(0..SECOND, 100),
    ) {
        let sources = sources();
        for ((count, seconds, burst), attempts) in before {
            let limits = rate(count, seconds, burst);
            for _ in 0..attempts {
                let _ = pass(&sources, &limits, SECOND);
            }
        }
        let limits = rate(count, seconds, burst);
        let interval = (seconds * SECOND).div_ceil(count.into());
        let out = SECOND + interval * u64::from(burst);
        prop_assert_eq!(sources.look(KEY, &limits, out), Met::default());
        let mut now = SECOND;
        let mut begun = vec![];
        for later in later {
            if pass(&sources, &limits, now).is_ok() {
                begun.push(now);
            }
            now += later;
        }
        assert_in_every_window(&begun, interval, burst.into());
    }
}
