//! A table from keys to small values that a flood of distinct keys doesn't grow.
//!
//! For what is remembered of sources. A key may be in one set of eight places alone; where these
//! are taken, the value that is worth least goes. Which set it is depends on a number that nobody
//! outside knows, so that nobody can aim at one. Memory is taken by the set, once a key comes to it.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;

/// What a table may know of its values. The default one is what a new key has.
pub(crate) trait Value: Copy + Default {
    /// Whether it can be forgotten without loss: a new one says the same, at `now` and later.
    fn is_idle(&self, now: u64) -> bool;

    /// Whether it must not be forgotten.
    fn is_pinned(&self) -> bool;

    /// The least is forgotten first.
    fn worth(&self) -> u64;
}

/// Places of a set.
const WAYS: usize = 8;
/// Locked each by itself.
const MOST_SHARDS: usize = 256;

/// Moments are nanoseconds, from whenever its owner likes.
#[derive(Debug)]
pub(crate) struct Bounded<V> {
    shards: Box<[CachePadded<Mutex<Shard<V>>>]>,
    /// A power of two.
    sets_per_shard: usize,
    hasher: RandomState,
    evicted: AtomicU64,
    untracked: AtomicU64,
}

/// Neighbouring sets, those that no key has come to yet without memory. Empty before the first.
type Shard<V> = Vec<Option<Box<Set<V>>>>;

#[derive(Debug, Default)]
struct Set<V> {
    keys: [u128; WAYS],
    values: [V; WAYS],
    /// Which places are taken, a bit each.
    taken: u8,
}

impl<V: Value> Bounded<V> {
    /// With at least so many places: a power of two.
    pub(crate) fn new(places: usize) -> Self {
        let sets = places.div_ceil(WAYS).next_power_of_two();
        let shards = sets.min(MOST_SHARDS);
        Self {
            shards: (0..shards).map(|_| CachePadded::default()).collect(),
            sets_per_shard: sets / shards,
            hasher: RandomState::new(),
            evicted: AtomicU64::new(0),
            untracked: AtomicU64::new(0),
        }
    }

    /// What `act` makes of the value of `key`, which is a new one where there is none yet. None
    /// where there is no place for it, since nothing in its set may be forgotten.
    ///
    /// `act` runs under a lock.
    pub(crate) fn with<R>(&self, key: u128, now: u64, act: impl FnOnce(&mut V) -> R) -> Option<R> {
        let (shard, index) = self.set_of(key);
        let mut sets = lock(shard);
        if sets.is_empty() {
            sets.resize_with(self.sets_per_shard, || None);
        }
        let set = sets[index].get_or_insert_default();
        let way = set.way(key).or_else(|| self.make_room(set, key, now));
        if way.is_none() {
            self.untracked.fetch_add(1, Relaxed);
        }
        Some(act(&mut set.values[way?]))
    }

    /// What `act` makes of the value of `key`, if there is one.
    ///
    /// `act` runs under a lock.
    pub(crate) fn find<R>(&self, key: u128, act: impl FnOnce(&mut V) -> R) -> Option<R> {
        let (shard, index) = self.set_of(key);
        let mut sets = lock(shard);
        let set = sets.get_mut(index)?.as_mut()?;
        let way = set.way(key)?;
        Some(act(&mut set.values[way]))
    }

    /// Shows `look` each value that isn't idle, in no order, under locks.
    pub(crate) fn each(&self, now: u64, mut look: impl FnMut(&V)) {
        for shard in &self.shards {
            let sets = lock(shard);
            let values = sets.iter().flatten().flat_map(|set| set.values_at(now));
            values.for_each(&mut look);
        }
    }

    /// Gives `key` a place: one where nothing is lost by it, or else that of the least worth.
    fn make_room(&self, set: &mut Set<V>, key: u128, now: u64) -> Option<usize> {
        let free = (0..WAYS).find(|way| !set.has(*way) || set.values[*way].is_idle(now));
        let way = free.or_else(|| {
            let loose = (0..WAYS).filter(|way| !set.values[*way].is_pinned());
            let least = loose.min_by_key(|way| set.values[*way].worth())?;
            self.evicted.fetch_add(1, Relaxed);
            Some(least)
        })?;
        set.keys[way] = key;
        set.values[way] = V::default();
        set.taken |= 1 << way;
        Some(way)
    }

    fn set_of(&self, key: u128) -> (&Mutex<Shard<V>>, usize) {
        let hash = self.hasher.hash_one(key) as usize;
        // Both are powers of two.
        let shard = hash & (self.shards.len() - 1);
        let index = (hash / MOST_SHARDS) & (self.sets_per_shard - 1);
        (&self.shards[shard], index)
    }

    /// How many keys have a value that isn't idle. Looks at each.
    pub(crate) fn entries(&self, now: u64) -> u64 {
        let of_shard = |shard: &Mutex<Shard<V>>| {
            let sets = lock(shard);
            let entries = sets.iter().flatten().map(|set| set.values_at(now).count());
            entries.sum::<usize>() as u64
        };
        self.shards.iter().map(|shard| of_shard(shard)).sum()
    }

    /// How many keys it can have.
    pub(crate) fn places(&self) -> u64 {
        (self.shards.len() * self.sets_per_shard * WAYS) as u64
    }

    /// How many values were forgotten for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// How often there was no place for a key.
    pub(crate) fn untracked(&self) -> u64 {
        self.untracked.load(Relaxed)
    }
}

impl<V: Value> Set<V> {
    fn has(&self, way: usize) -> bool {
        self.taken & 1 << way != 0
    }

    fn way(&self, key: u128) -> Option<usize> {
        (0..WAYS).find(|way| self.keys[*way] == key && self.has(*way))
    }

    /// Those that aren't idle.
    fn values_at(&self, now: u64) -> impl Iterator<Item = &V> {
        let there = (0..WAYS).filter(|way| self.has(*way));
        let values = there.map(|way| &self.values[way]);
        values.filter(move |value| !value.is_idle(now))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A value is valid whatever was done to it last.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::thread;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Something until a moment; of worth by that, too.
    #[derive(Debug, Default, Clone, Copy, PartialEq)]
    struct Memo {
        until: u64,
        text: u32,
        pinned: bool,
    }

    impl Value for Memo {
        fn is_idle(&self, now: u64) -> bool {
            !self.pinned && self.until <= now
        }

        fn is_pinned(&self) -> bool {
            self.pinned
        }

        fn worth(&self) -> u64 {
            self.until
        }
    }

    fn one_set() -> Bounded<Memo> {
        let table = Bounded::new(8);
        assert_eq!(table.places(), 8);
        table
    }

    fn put(table: &Bounded<Memo>, key: u128, until: u64, pinned: bool) -> Option<u32> {
        table.with(key, 0, |note| {
            (note.until, note.pinned) = (until, pinned);
            note.text
        })
    }

    #[test]
    fn places_are_rounded_up() {
        for (wanted, places) in [(0, 8), (1, 8), (9, 16), (2048, 2048), (2049, 4096)] {
            assert_eq!(Bounded::<Memo>::new(wanted).places(), places);
        }
        assert_eq!(Bounded::<Memo>::new(262_144).places(), 262_144);
    }

    #[test]
    fn a_key_has_its_value_until_that_is_forgotten() {
        let table = one_set();
        assert_eq!(table.find(0, |_| ()), None);
        assert_eq!(table.with(0, 0, |note| note.text = 7), Some(()));
        assert_eq!(table.find(0, |note| note.text), Some(7));
        assert_eq!(table.find(1, |_| ()), None);
        // It is idle: whoever comes may have its place.
        for key in 1..=8 {
            put(&table, key, 100, false);
        }
        assert_eq!(table.find(0, |_| ()), None);
        assert_eq!((table.entries(99), table.entries(100)), (8, 0));
        assert_eq!((table.evicted(), table.untracked()), (0, 0));
    }

    #[test]
    fn what_is_not_idle_is_shown() {
        let table = Bounded::new(1 << 12);
        for key in 0..100 {
            put(&table, key, 100 + key as u64, key < 10);
        }
        let mut seen = vec![];
        table.each(149, |note: &Memo| seen.push(note.until));
        seen.sort_unstable();
        assert_eq!(seen, (100..110).chain(150..200).collect::<Vec<_>>());
    }

    #[test]
    fn the_least_worth_goes_first_and_what_is_pinned_never() {
        let table = one_set();
        for key in 0..8 {
            put(&table, key, 100 + key as u64, key < 2);
        }
        put(&table, 8, 200, true);
        assert_eq!(table.find(2, |_| ()), None);
        assert_eq!(table.evicted(), 1);
        for key in 3..8 {
            put(&table, key, 300, true);
        }
        assert_eq!(put(&table, 9, 300, false), None);
        assert_eq!((table.evicted(), table.untracked()), (1, 1));
        assert_eq!(table.entries(1000), 8);
        // What was forgotten doesn't come back with its key.
        table.find(3, |note| {
            *note = Memo {
                text: 9,
                ..Memo::default()
            }
        });
        assert_eq!(put(&table, 2, 300, false), Some(0));
    }

    #[test]
    fn keys_spread_over_all_places() {
        let table = Bounded::new(1 << 14);
        for key in 0..1 << 13 {
            put(&table, key << 64, 1, false);
        }
        // Of sets that are half full on average a few overflow.
        assert!(table.evicted() < 400, "{}", table.evicted());
        assert_eq!(table.entries(0) + table.evicted(), 1 << 13);
        let of_shards = table.shards.iter().map(|shard| {
            let sets = lock(shard);
            sets.iter().flatten().count()
        });
        assert!(of_shards.clone().all(|sets| sets <= table.sets_per_shard));
        assert!(of_shards.sum::<usize>() > 1900);
    }

    #[test]
    fn memory_is_taken_once_it_is_needed_and_never_more_than_that() {
        let table: Bounded<Memo> = Bounded::new(1 << 12);
        let sets = |table: &Bounded<Memo>| -> usize {
            let of_shards = table
                .shards
                .iter()
                .map(|shard| lock(shard).iter().flatten().count());
            of_shards.sum()
        };
        assert_eq!(sets(&table), 0);
        for key in 0..10 {
            table.find(key, |_| ());
        }
        assert_eq!(sets(&table), 0);
        put(&table, 1, 1, false);
        assert_eq!(sets(&table), 1);
        for key in 0..100_000 {
            put(&table, key, 1 + key as u64, false);
        }
        assert_eq!(sets(&table), 1 << 9);
        assert_eq!(table.entries(0), 1 << 12);
        assert_eq!(table.evicted() + (1 << 12), 100_000);
    }

    #[test]
    fn threads_lose_nothing() {
        let table: Bounded<Memo> = Bounded::new(1 << 12);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..10_000 {
                        let add = |note: &mut Memo| {
                            note.pinned = true;
                            note.text += 1;
                        };
                        table.with(round % 100, 0, add).unwrap();
                    }
                });
            }
        });
        let texts = (0..100).map(|key| table.find(key, |note| note.text));
        assert!(texts.into_iter().all(|text| text == Some(400)));
    }

    proptest! {
        /// A map that forgets nothing says the same of what is remembered, and one set keeps what
        /// it has to.
        #[test]
        fn what_is_remembered_is_right(
            steps in vec((0u128..20, 0u64..50, any::<bool>(), any::<u32>()), 1..200),
        ) {
            let table = one_set();
            let mut all: HashMap<u128, Memo> = HashMap::new();
            let mut there: HashSet<u128> = HashSet::new();
            for (now, (key, time, pinned, text)) in steps.into_iter().enumerate() {
                let now = now as u64;
                let note = Memo { until: now + time, text, pinned };
                let known = there.contains(&key);
                let pins = |keys: &HashSet<u128>| keys.iter().filter(|key| all[*key].pinned).count();
                let full = !known && pins(&there) == WAYS;
                let evicted = table.evicted();
                let before = table.with(key, now, |value| std::mem::replace(value, note));
                prop_assert_eq!(before.is_none(), full);
                if let Some(before) = before {
                    let expected = if known { all[&key] } else { Memo::default() };
                    prop_assert_eq!(before, expected);
                    let left: HashSet<u128> = there
                        .iter()
                        .filter(|key| table.find(**key, |_| ()).is_none())
                        .copied()
                        .collect();
                    prop_assert!(left.len() <= 1);
                    for gone in &left {
                        prop_assert!(!all[gone].pinned);
                        // An idle one went for free; one that wasn't had the least worth of all.
                        let idle = all[gone].is_idle(now);
                        prop_assert_eq!(table.evicted() - evicted, u64::from(!idle));
                        let others = there.iter().filter(|key| !all[*key].pinned);
                        let least = others.map(|key| all[key].until).min();
                        prop_assert!(idle || least == Some(all[gone].until));
                    }
                    there.retain(|key| !left.contains(key));
                    there.insert(key);
                    all.insert(key, note);
                }
                for key in &there {
                    prop_assert_eq!(table.find(*key, |value| *value), Some(all[key]));
                }
                prop_assert!(there.len() <= WAYS);
            }
        }
    }
}
