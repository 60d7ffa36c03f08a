//! Prefixes as text, and tables of them against looking at one after the other.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn prefix(text: &str) -> Prefix {
    Prefix::parse(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn prefixes_are_read_and_written() {
    for text in [
        "10.0.0.0/8",
        "0.0.0.0/0",
        "::/0",
        "2001:db8::/32",
        "::1/128",
    ] {
        assert_eq!(prefix(text).to_string(), text);
    }
    assert_eq!(prefix("192.0.2.1"), prefix("192.0.2.1/32"));
    assert_eq!(prefix("2001:db8::1"), prefix("2001:db8::1/128"));
}

#[test]
fn what_is_no_prefix_is_told_why() {
    for text in [
        "",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/8/8",
        "10.0.0/8",
        " ::/0",
    ] {
        assert_eq!(Prefix::parse(text), Err(PrefixError::Nonsense), "{text}");
    }
    let wrong = |text| Prefix::parse(text).unwrap_err();
    assert_eq!(wrong("10.0.0.0/33"), PrefixError::Length(32));
    assert_eq!(wrong("::/129"), PrefixError::Length(128));
    assert_eq!(wrong("::/1000"), PrefixError::Length(128));
    let hint = PrefixError::HostBits(prefix("10.0.0.0/8"));
    assert_eq!(wrong("10.0.0.1/8"), hint);
    assert!(hint.to_string().ends_with("did you mean 10.0.0.0/8"));
    assert_eq!(wrong("::1/0"), PrefixError::HostBits(prefix("::/0")));
    for text in ["::ffff:192.0.2.1", "::ffff:0:0/96", "::ffff:192.0.2.1/112"] {
        assert_eq!(wrong(text), PrefixError::Mapped, "{text}");
    }
}

#[test]
fn mapped_addresses_are_in_prefixes_of_their_own_family() {
    let net = prefix("192.0.2.0/24");
    assert!(net.contains(ip("192.0.2.255")) && net.contains(ip("::ffff:192.0.2.1")));
    assert!(!net.contains(ip("192.0.3.0")) && !net.contains(ip("2001:db8::1")));
    assert!(!prefix("::/0").contains(ip("::ffff:192.0.2.1")));
    assert!(prefix("::/0").contains(ip("2001:db8::1")));
    let all = Prefixes::new([(prefix("::/0"), 6), (prefix("0.0.0.0/0"), 4)]);
    assert_eq!(all.find(ip("::ffff:192.0.2.1")), Some(4));
    assert_eq!(all.find(ip("2001:db8::1")), Some(6));
}

#[test]
fn the_longest_decides() {
    let table = Prefixes::new([
        (prefix("10.1.0.0/16"), 16),
        (prefix("255.255.255.255"), 32),
        (prefix("10.0.0.0/8"), 8),
        (prefix("10.1.2.0/24"), 23),
        (prefix("10.1.2.0/24"), 24),
    ]);
    for (address, expected) in [
        ("9.255.255.255", None),
        ("10.0.255.255", Some(8)),
        ("10.1.0.0", Some(16)),
        ("10.1.2.255", Some(24)),
        ("10.1.3.0", Some(16)),
        ("10.2.0.0", Some(8)),
        ("11.0.0.0", None),
        ("255.255.255.255", Some(32)),
        ("::a01:200", None),
    ] {
        assert_eq!(table.find(ip(address)), expected, "{address}");
    }
    let nothing: Prefixes<bool> = Prefixes::new([]);
    assert_eq!(nothing.find(ip("10.0.0.1")), None);
}

#[test]
fn sources_are_told_apart_by_their_first_bits() {
    let key = |address| source_key(ip(address), 24, 64);
    assert_eq!(key("192.0.2.1"), key("192.0.2.255"));
    assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.9"));
    assert_ne!(key("192.0.2.1"), key("192.0.3.1"));
    assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:0:0:1"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    let whole = |address| source_key(ip(address), 32, 128);
    assert_ne!(whole("::192.0.2.1"), whole("192.0.2.1"));
    let all = |address| source_key(ip(address), 0, 0);
    assert_eq!(all("192.0.2.1"), all("10.0.0.1"));
    assert_ne!(all("192.0.2.1"), all("2001:db8::1"));
}

#[test]
fn a_source_has_a_prefix() {
    let of = |address| Prefix::of(ip(address), 24, 64).to_string();
    assert_eq!(of("192.0.2.77"), "192.0.2.0/24");
    assert_eq!(of("::ffff:192.0.2.77"), "192.0.2.0/24");
    assert_eq!(of("2001:db8::77"), "2001:db8::/64");
}

/// Addresses close to each other, and to the ends, so that prefixes hold one another.
fn addresses() -> impl Strategy<Value = IpAddr> {
    let few = prop_oneof![Just(0u32), Just(0x0a00_0000), Just(u32::MAX), any::<u32>()];
    let v4 = (few, 0u32..1024).prop_map(|(base, low)| IpAddr::V4((base ^ low).into()));
    let few = prop_oneof![
        Just(0u128),
        Just(0xffff_0a00_0000),
        Just(0x2001_0db8 << 96),
        Just(u128::MAX),
        any::<u128>(),
    ];
    let v6 = (few, 0u128..1024).prop_map(|(base, low)| IpAddr::V6((base ^ low).into()));
    prop_oneof![v4, v6]
}

fn prefixes() -> impl Strategy<Value = Prefix> {
    (addresses(), any::<u8>()).prop_map(|(address, length)| {
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        match Prefix::new(address, length % (bits + 1)) {
            Ok(prefix) | Err(PrefixError::HostBits(prefix)) => prefix,
            Err(error) => panic!("{error}"),
        }
    })
}

/// One after the other.
fn naive(table: &[(Prefix, u8)], address: IpAddr) -> Option<u8> {
    let holding = table.iter().filter(|(prefix, _)| prefix.contains(address));
    holding
        .max_by_key(|(prefix, _)| prefix.length)
        .map(|(_, value)| *value)
}

proptest! {
    #[test]
    fn a_table_says_what_its_prefixes_say(
        entries in vec((prefixes(), 0u8..4), 0..60),
        others in vec(addresses(), 1..20),
    ) {
        let table = Prefixes::new(entries.iter().copied());
        // With an index as well, however few there are.
        let mut indexed = Prefixes::new(entries.iter().copied());
        indexed.v4.below = indexed.v4.count_below();
        indexed.v6.below = indexed.v6.count_below();
        prop_assert!(table.v4.starts.is_sorted_by(|one, next| one < next));
        prop_assert!(table.v6.starts.is_sorted_by(|one, next| one < next));
        let own = entries.iter().map(|(prefix, _)| prefix.address);
        for address in own.chain(others) {
            let expected = naive(&entries, address);
            prop_assert_eq!(table.find(address), expected);
            prop_assert_eq!(indexed.find(address), expected);
        }
    }

    #[test]
    fn text_comes_back(prefix in prefixes()) {
        prop_assert_eq!(Prefix::parse(&prefix.to_string()), Ok(prefix));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9a-f.:/]{0,24}|\\PC*") {
        if let Ok(prefix) = Prefix::parse(&text) {
            prop_assert!(prefix.contains(prefix.address));
        }
    }

    #[test]
    fn addresses_are_one_source_if_one_prefix_holds_them(
        one in addresses(),
        other in addresses(),
        prefix4 in 0u8..=32,
        prefix6 in 0u8..=128,
    ) {
        let (one, other) = (one.to_canonical(), other.to_canonical());
        let length = if one.is_ipv4() { prefix4 } else { prefix6 };
        let together = match Prefix::new(one, length) {
            Ok(prefix) | Err(PrefixError::HostBits(prefix)) => prefix.contains(other),
            Err(error) => panic!("{error}"),
        };
        let same = source_key(one, prefix4, prefix6) == source_key(other, prefix4, prefix6);
        prop_assert_eq!(same, together);
        prop_assert_eq!(Prefix::of(one, prefix4, prefix6).contains(other), together);
    }
}
