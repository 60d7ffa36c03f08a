//! That hashes agree, share by weight and move little.

use std::collections::HashMap;

use proptest::prelude::*;

use super::maglev::ROWS;
use super::*;

fn names(number: usize) -> Vec<String> {
    (0..number).map(|number| format!("mx{number}")).collect()
}

fn table(seed: &str, servers: &[(&str, u32)]) -> Maglev {
    Maglev::build(Hashing::new(seed), servers.iter().copied())
}

/// The server of each of some sources.
fn owners(table: &Maglev, hashing: Hashing) -> Vec<String> {
    let names: Vec<&str> = table.names().collect();
    (0..20_000_u128)
        .map(|source| names[table.find(hashing.source(source), 0).unwrap()].to_owned())
        .collect()
}

fn by_claim(hashing: Hashing, servers: &[(&str, u32)]) -> Vec<String> {
    let rendezvous = Rendezvous::new(hashing, servers.iter().map(|(name, _)| *name));
    (0..20_000_u128)
        .map(|source| {
            let hash = hashing.source(source);
            let claim = |number: &usize| rendezvous.claim(*number, servers[*number].1, hash);
            let first = (0..servers.len()).max_by(|a, b| claim(a).total_cmp(&claim(b)));
            servers[first.unwrap()].0.to_owned()
        })
        .collect()
}

fn moved(before: &[String], after: &[String]) -> usize {
    before.iter().zip(after).filter(|(a, b)| a != b).count()
}

/// Written down once: another version of mailweir must not move anybody.
#[test]
fn hashes_are_what_they_always_were() {
    let hashing = Hashing::new("farm");
    assert_eq!(hashing.source(1), 13_638_249_390_197_849_204);
    assert_eq!(hashing.name("mx1", 1), 13_224_493_267_065_387_019);
    let table = table("farm", &[("a", 1), ("b", 2), ("c", 3)]);
    let found: Vec<usize> = (0..8)
        .map(|source| table.find(hashing.source(source), 0).unwrap())
        .collect();
    assert_eq!(found, [1, 2, 2, 2, 1, 1, 1, 0]);
}

#[test]
fn a_thousand_servers_have_their_rows() {
    let names = names(1000);
    let servers: Vec<_> = names.iter().map(|name| (name.as_str(), 100)).collect();
    let table = table("", &servers);
    let mut rows: HashMap<usize, usize> = HashMap::new();
    for row in 0..ROWS as u64 {
        let hash = row * (u64::MAX / ROWS as u64) + u64::MAX / ROWS as u64 / 2;
        *rows.entry(table.find(hash, 0).unwrap()).or_default() += 1;
    }
    assert_eq!(rows.len(), 1000);
    assert!(rows.values().all(|number| (64..=67).contains(number)));
}

#[test]
fn nobody_has_nothing() {
    assert_eq!(table("", &[("a", 0)]).find(7, 0), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Two processes that list the same servers in another order agree on every source.
    #[test]
    fn the_order_of_names_does_not_matter(
        weights in prop::collection::vec(1_u32..=1000, 1..20),
        seed in "[a-z]{0,8}",
        turn in any::<prop::sample::Index>(),
    ) {
        let names = names(weights.len());
        let servers: Vec<_> =
            names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
        let mut others = servers.clone();
        others.rotate_left(turn.index(servers.len()));
        others.reverse();
        let hashing = Hashing::new(&seed);
        prop_assert_eq!(table(&seed, &servers), table(&seed, &others));
        prop_assert_eq!(by_claim(hashing, &servers), by_claim(hashing, &others));
        prop_assert!(table(&seed, &servers).is_of(hashing, others.into_iter()));
    }

    /// Of N servers one goes: no more than 2/N of all sources go to another one.
    #[test]
    fn few_sources_move(number in 2_usize..40, gone in any::<prop::sample::Index>()) {
        let names = names(number);
        let servers: Vec<_> = names.iter().map(|name| (name.as_str(), 100)).collect();
        let mut left = servers.clone();
        left.remove(gone.index(number));
        let hashing = Hashing::new("");
        let most = 20_000 * 2 / number;
        let tables = (table("", &servers), table("", &left));
        prop_assert!(moved(&owners(&tables.0, hashing), &owners(&tables.1, hashing)) <= most);
        let claimed = by_claim(hashing, &servers);
        let again = by_claim(hashing, &left);
        prop_assert!(moved(&claimed, &again) <= most);
        // By claim nobody moves who wasn't with the one that went.
        let name = names[gone.index(number)].as_str();
        prop_assert!(claimed.iter().zip(&again).all(|(a, b)| a == b || a == name));
    }

    /// Rows are shared by weight within a percent of all.
    #[test]
    fn shares_are_by_weight(weights in prop::collection::vec(1_u32..=1000, 1..20)) {
        let names = names(weights.len());
        let servers: Vec<_> =
            names.iter().map(String::as_str).zip(weights.iter().copied()).collect();
        let hashing = Hashing::new("");
        let whole = f64::from(weights.iter().sum::<u32>());
        for found in [owners(&table("", &servers), hashing), by_claim(hashing, &servers)] {
            for (name, weight) in &servers {
                let share = found.iter().filter(|one| one == name).count() as f64 / 20_000.0;
                // Four standard deviations of 20 000 draws beside.
                prop_assert!((share - f64::from(*weight) / whole).abs() < 0.01 + 0.0142);
            }
        }
    }
}
