//! Values survive the tables, and both languages have the same tables.

use std::fmt::Debug;
use std::net::SocketAddrV4;

use mailweir_flow::layout::{
    CAME_BITS, CUT, Direction, END_FIN, END_FIN_ACKED, END_FIRST, END_RST, Field, Flow, GATE_WORDS,
    Gate, Key, Late, Listener, MARK, Place, State, Translation, WITHOUT_SACK, WITHOUT_TIMESTAMPS,
    Word,
};
use mailweir_flow::{Counter, SYN_WORDS, Unavailable};
use proptest::prelude::*;

use crate::btf::Btf;
use crate::rig::absent;

/// Empty where it was built without clang.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/flow.o"));
static SOURCE: &str = include_str!("../../bpf/tables.h");

fn btf() -> Option<Btf> {
    if OBJECT.is_empty() {
        return absent(&Unavailable::NotBuilt);
    }
    Some(Btf::of(OBJECT))
}

#[test]
fn structs_are_as_in_c() {
    let Some(btf) = btf() else {
        return;
    };
    for (name, size, fields) in [
        ("key", Key::SIZE, Key::FIELDS),
        ("listener", Listener::SIZE, Listener::FIELDS),
        ("place", Place::SIZE, Place::FIELDS),
        ("gate", Gate::SIZE, Gate::FIELDS),
        ("side", Direction::SIZE, Direction::FIELDS),
        ("flow", Flow::SIZE, Flow::FIELDS),
        ("translation", Translation::SIZE, Translation::FIELDS),
        ("late", Late::SIZE, Late::FIELDS),
    ] {
        let (size_in_c, in_c) = btf.layout(name);
        let field = |field: &Field| (field.name.to_owned(), field.offset, field.size);
        let in_rust: Vec<_> = fields.iter().map(field).collect();
        assert_eq!(
            in_c, in_rust,
            "the fields of struct {name}: C on the left, Rust on the right"
        );
        assert_eq!(size_in_c, size, "struct {name}");
    }
}

#[test]
fn tables_are_as_large_as_in_c() {
    let Some(btf) = btf() else {
        return;
    };
    // User space says how large the others are.
    assert_eq!(btf.max_entries("counters") as usize, Counter::ALL.len());
    assert_eq!(2 * btf.max_entries("syns") as usize, SYN_WORDS);
}

#[test]
fn enums_are_as_in_c() {
    let states = State::ALL.map(|state| (name_in_c(state), state.number()));
    assert_eq!(enumerators("state"), states);
    let counters = Counter::ALL.map(|counter| (name_in_c(counter), counter as u32));
    let last = ("COUNTERS".to_owned(), Counter::ALL.len() as u32);
    assert_eq!(enumerators("counter"), [&counters[..], &[last]].concat());
}

#[test]
fn constants_are_as_in_c() {
    let expected = [
        ("MARK", MARK),
        ("LINGERS", Place::LINGERS),
        ("FORGOTTEN", Place::FORGOTTEN),
        ("CUT", CUT),
        ("WITHOUT_TIMESTAMPS", WITHOUT_TIMESTAMPS),
        ("WITHOUT_SACK", WITHOUT_SACK),
        ("END_FIN", END_FIN),
        ("END_FIN_ACKED", END_FIN_ACKED),
        ("END_RST", END_RST),
        ("END_FIRST", END_FIRST),
        ("CAME_BITS", CAME_BITS),
    ];
    assert_eq!(constants(), expected);
}

/// `DroppedHeader` is `DROPPED_HEADER` there.
fn name_in_c(value: impl Debug) -> String {
    let mut name = String::new();
    for letter in format!("{value:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// What an enum of the source has. BTF knows only the enums that a field or a table has.
fn enumerators(name: &str) -> Vec<(String, u32)> {
    let (_, behind) = SOURCE.split_once(&format!("\nenum {name} {{")).unwrap();
    let (within, _) = behind.split_once('}').unwrap();
    let code = within.lines().map(|line| line.split("//").next().unwrap());
    let code: String = code.collect();
    assert!(
        !code.contains('='),
        "enum {name} numbers by itself, which isn't read here"
    );
    let names = code
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    names.map(str::to_owned).zip(0..).collect()
}

/// Every number that the source defines as a macro, which BTF doesn't know.
fn constants() -> Vec<(&'static str, u32)> {
    let defines = SOURCE
        .lines()
        .filter_map(|line| line.strip_prefix("#define "));
    let words = defines.map(|define| define.split_whitespace());
    let named = words.filter_map(|mut words| Some((words.next()?, words.next()?)));
    let constants = named.filter(|(name, _)| name.chars().all(is_of_constants));
    let numbers = constants.map(|(name, value)| {
        let number = match value.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => value.parse(),
        };
        (name, number.unwrap())
    });
    numbers.collect()
}

/// Other macros have small letters in their names, or parameters.
fn is_of_constants(letter: char) -> bool {
    matches!(letter, 'A'..='Z' | '0'..='9' | '_')
}

proptest! {
    #[test]
    fn keys_come_back(from: (u32, u16), to: (u32, u16)) {
        let address = |(ip, port): (u32, u16)| SocketAddrV4::new(ip.into(), port);
        let key = Key { from: address(from), to: address(to) };
        prop_assert_eq!(Key::from_bytes(&key.to_bytes()), key);
        prop_assert_eq!(key.reversed().reversed(), key);
    }

    /// Bytes that the program may have written are read and written as they are, but for what is
    /// reserved.
    #[test]
    fn flows_come_back(bytes in prop::collection::vec(any::<u8>(), Flow::SIZE)) {
        let mut bytes: [u8; Flow::SIZE] = bytes.try_into().unwrap();
        let flow = Flow::from_bytes(&bytes);
        for at in reserved() {
            bytes[at] = 0;
        }
        prop_assert_eq!(flow.to_bytes(), bytes);
        prop_assert_eq!(Flow::from_bytes(&bytes), flow);
    }

    #[test]
    fn gates_come_back(words: [u32; GATE_WORDS], state in 0..5_u32, greeting in 0..2_u32) {
        let mut words = words;
        words[Word::State as usize] = state;
        words[Word::Greeting as usize] = greeting;
        let gate = Gate::from_bytes(&bytes_of(words));
        prop_assert_eq!(gate.state.map(State::number), Some(state));
        prop_assert_eq!(gate.tsval[1], words[Word::Tsval as usize + 1]);
        prop_assert_eq!(gate.mss, words[Word::Mss as usize]);
        prop_assert_eq!(gate.to_bytes(), bytes_of(words));
        words[Word::State as usize] = 5;
        prop_assert_eq!(Gate::from_bytes(&bytes_of(words)).state, None);
    }

    #[test]
    fn places_come_back(flow: u32, side: u32) {
        let place = Place { flow, side };
        prop_assert_eq!(Place::from_bytes(&place.to_bytes()), place);
    }
}

/// The bytes of a flow that mean nothing to user space.
fn reserved() -> impl Iterator<Item = usize> {
    let find = |fields: &[Field], name| *fields.iter().find(|field| field.name == name).unwrap();
    let lock = find(Flow::FIELDS, "lock");
    let sides = find(Flow::FIELDS, "sides").offset;
    let in_side =
        find(Direction::FIELDS, "told_as").offset + find(Translation::FIELDS, "reserved").offset;
    let in_sides = [sides + in_side, sides + Direction::SIZE + in_side];
    (lock.offset..lock.offset + lock.size).chain(in_sides)
}

fn bytes_of(words: [u32; GATE_WORDS]) -> [u8; Gate::SIZE] {
    let bytes = words.map(u32::to_ne_bytes);
    bytes.as_flattened().try_into().unwrap()
}
