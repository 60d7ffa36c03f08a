//! Values survive the tables.

use std::net::SocketAddrV4;

use mailweir_flow::layout::{FLOW_SIZE, Flow, Key};
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
    fn flows_come_back(bytes in prop::collection::vec(any::<u8>(), FLOW_SIZE), state in 0..5_u32) {
        let mut bytes: [u8; FLOW_SIZE] = bytes.try_into().unwrap();
        bytes[..4].copy_from_slice(&state.to_ne_bytes());
        let flow = Flow::from_bytes(&bytes).unwrap();
        prop_assert_eq!(Flow::from_bytes(&flow.to_bytes()), Some(flow));
        bytes[..4].copy_from_slice(&5_u32.to_ne_bytes());
        prop_assert_eq!(Flow::from_bytes(&bytes), None);
    }
}
