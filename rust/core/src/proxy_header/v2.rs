//! Version 2: binary (proxy-protocol.txt, 2.2). All numbers are in network order.

use super::{AddressBlock, Addresses, Header};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// PP2_TYPE_UNIQUE_ID and the length of its value, 16.
const UNIQUE_ID: [u8; 3] = [0x05, 0, 16];
/// PP2_TYPE_CRC32C and the length of its value, 4.
const CRC32C: [u8; 3] = [0x03, 0, 4];
/// The two together, with their values.
const ADDITIONS: u8 = 3 + 16 + 3 + 4;

/// Addresses, the unique ID `id` and the checksum over all of it: 54 bytes for IPv4, 78 for
/// IPv6.
pub(super) fn block(addresses: &Addresses, id: &[u8; 16]) -> Header {
    let mut block = match addresses {
        Addresses::V4(ends) => start(TCP_OVER_IPV4, ends, |ip| ip.octets()),
        Addresses::V6(ends) => start(TCP_OVER_IPV6, ends, |ip| ip.octets()),
    };
    block.push(&UNIQUE_ID);
    block.push(id);
    block.push(&CRC32C);
    let place = block.length;
    // 2.2.3: it is made over the whole header, with zeros where it will stand.
    block.push(&[0; 4]);
    let checksum = crc32c::crc32c(&block);
    block.length = place;
    block.push(&checksum.to_be_bytes());
    block
}

/// All before the additions, with the length of all that follows the length.
fn start<A, const WIDTH: usize>(
    family: u8,
    ends: &AddressBlock<A>,
    octets: impl Fn(&A) -> [u8; WIDTH],
) -> Header {
    let mut block = Header::EMPTY;
    block.push(SIGNATURE);
    // Two addresses and two ports: 12 or 36.
    let addresses = 2 * WIDTH as u8 + 4;
    block.push(&[PROXY, family, 0, addresses + ADDITIONS]);
    block.push(&octets(&ends.source));
    block.push(&octets(&ends.destination));
    for port in ends.ports {
        block.push(&port.to_be_bytes());
    }
    block
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use crate::proxy_header::header;
    use crate::spec::ProxyVersion;

    const ID: [u8; 16] = [
        0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee,
        0xff,
    ];

    fn bytes(source: &str, destination: &str) -> Vec<u8> {
        let [source, destination]: [SocketAddr; 2] =
            [source, destination].map(|one| one.parse().unwrap());
        header(ProxyVersion::V2, source, destination, &ID).to_vec()
    }

    /// CRC32c bit by bit, as the polynomial says (RFC 4960, appendix B; 0x1EDC6F41 reversed).
    fn reference(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
            })
        })
    }

    /// RFC 3720, B.4, and the check value that catalogues of checksums give.
    #[test]
    fn the_reference_is_crc32c() {
        assert_eq!(reference(b"123456789"), 0xe306_9283);
        assert_eq!(reference(&[0; 32]), 0x8a91_36aa);
        assert_eq!(reference(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn ipv4_byte_by_byte() {
        let expected = [
            b"\r\n\r\n\0\r\nQUIT\n".as_slice(),
            &[0x21, 0x11, 0, 38],
            &[192, 0, 2, 1],
            &[198, 51, 100, 25],
            &[0x04, 0x01, 0, 25],
            &[0x05, 0, 16],
            &ID,
            &[0x03, 0, 4],
            &[0x71, 0x03, 0x18, 0xd8],
        ]
        .concat();
        assert_eq!(expected.len(), 54);
        assert_eq!(bytes("192.0.2.1:1025", "198.51.100.25:25"), expected);
        let mapped = bytes("[::ffff:192.0.2.1]:1025", "[::ffff:198.51.100.25]:25");
        assert_eq!(mapped, expected);
    }

    #[test]
    fn ipv6_byte_by_byte() {
        let expected = [
            b"\r\n\r\n\0\r\nQUIT\n".as_slice(),
            &[0x21, 0x21, 0, 62],
            &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 2],
            &[0xff, 0xff, 0x02, 0x4b],
            &[0x05, 0, 16],
            &ID,
            &[0x03, 0, 4],
            &[0x0e, 0x77, 0xcf, 0x08],
        ]
        .concat();
        assert_eq!(expected.len(), 78);
        assert_eq!(bytes("[2001:db8::1]:65535", "192.0.2.2:587"), expected);
    }

    proptest! {
        /// As 2.2.3 tells a receiver to: put it aside, put zeros there, make it anew.
        #[test]
        fn the_checksum_is_right(source: SocketAddr, destination: SocketAddr, id: [u8; 16]) {
            let mut wire = header(ProxyVersion::V2, source, destination, &id).to_vec();
            prop_assert!([54, 78].contains(&wire.len()));
            prop_assert_eq!(usize::from(wire[14]) << 8 | usize::from(wire[15]), wire.len() - 16);
            let additions = wire.len() - 26;
            let (unique, checksum) = wire[additions..].split_at(19);
            prop_assert_eq!(unique, [[0x05, 0, 16].as_slice(), &id].concat());
            prop_assert_eq!(&checksum[..3], [0x03, 0, 4]);
            let received = u32::from_be_bytes(checksum[3..].try_into().unwrap());
            wire[additions + 22..].fill(0);
            prop_assert_eq!(received, reference(&wire));
        }
    }
}
