//! Values survive the tables.

use std::net::SocketAddrV4;

use mailweir_flow::layout::{FLOW_SIZE, Flow, GATE_WORDS, Gate, Key, Place, Word};
use proptest::prelude::*;

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
    fn flows_come_back(bytes in prop::collection::vec(any::<u8>(), FLOW_SIZE)) {
        let flow = Flow::from_bytes(&bytes.try_into().unwrap());
        prop_assert_eq!(Flow::from_bytes(&flow.to_bytes()), flow);
    }

    #[test]
    fn gates_come_back(words: [u32; GATE_WORDS], state in 0..5_u32) {
        let mut words = words;
        words[Word::State as usize] = state;
        let gate = Gate::from_words(&words).unwrap();
        prop_assert_eq!(gate.state.number(), state);
        prop_assert_eq!(Gate::from_words(&gate.to_words()), Some(gate));
        words[Word::State as usize] = 5;
        prop_assert_eq!(Gate::from_words(&words), None);
    }

    #[test]
    fn places_come_back(flow: u32, side: u32) {
        let place = Place { flow, side };
        prop_assert_eq!(Place::from_bytes(place.to_bytes()), place);
    }
}
