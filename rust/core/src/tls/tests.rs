//! Real hellos, made ones, and what is none.

use proptest::prelude::*;

use super::Hello::{Complete, Incomplete, Other};
use super::*;

/// By OpenSSL 3.0 for TLS 1.2 and 1.3, with the name mx.test.
const TLS_1_3: &str = "
    1603010200010001fc0303575f1d8c3dc2b8aab9709c149b04b7c250ba1f96ca81354bb88ba5c902680e33
    20b12d37ae4941830195427485ecf56ceb6218b6ff0f7641cc179be36feef823230024130213031301c02c
    c030c02bc02fcca9cca8c024c028c023c027009f009e006b006700ff0100018f0000000c000a0000076d78
    2e74657374000b000403000102000a00160014001d0017001e001900180100010101020103010400230000
    0016000000170000000d002a0028040305030603080708080809080a080b08040805080604010501060103
    0303010302040205020602002b00050403040303002d00020101003300260024001d002014df8fbd89d027
    404e40e5a53bd83f537bf1329620c757f315ee208eb5befa60001500e60000000000000000000000000000
    00000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    00000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    00000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    00000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    00000000000000000000000000000000000000000000000000000000000000000000000000000000000000
    00
";

/// The same for TLS 1.2 at most.
const TLS_1_2: &str = "
    16030100ad010000a903036c6809ef4b51415dcc57236984d5f5321b79b5398b78f3f202dd89b8cc332224
    00001ec02cc030c02bc02fcca9cca8c024c028c023c027009f009e006b006700ff010000620000000c000a
    0000076d782e74657374000b000403000102000a000c000a001d0017001e00190018002300000016000000
    170000000d002a0028040305030603080708080809080a080b080408050806040105010601030303010302
    040205020602
";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|one| one.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn real() -> [Vec<u8>; 2] {
    [TLS_1_3, TLS_1_2].map(hex)
}

fn hello_of(body: usize) -> Vec<u8> {
    let length = u32::try_from(body).unwrap().to_be_bytes();
    [&[CLIENT_HELLO], &length[1..], &vec![0xa5; body]].concat()
}

/// In records that have as many bytes as `lengths` says, over and over.
fn in_records(message: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut stream = vec![];
    let mut rest = message;
    for length in lengths.iter().cycle() {
        let (fragment, after) = rest.split_at((*length).min(rest.len()));
        let length = u16::try_from(fragment.len()).unwrap().to_be_bytes();
        stream.extend([HANDSHAKE, 3, 1, length[0], length[1]]);
        stream.extend(fragment);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    stream
}

/// That `bytes` are `decided` at their last byte and not before.
fn decides_at_the_last_byte(bytes: &[u8], decided: Hello) {
    for end in 0..bytes.len() {
        assert_eq!(
            Hello::parse(&bytes[..end]),
            Incomplete,
            "{end} bytes of {bytes:x?}"
        );
    }
    assert_eq!(Hello::parse(bytes), decided, "{bytes:x?}");
}

#[test]
fn real_hellos_are_complete_with_their_last_byte() {
    for hello in real() {
        assert!(is_record(&hello));
        decides_at_the_last_byte(&hello, Complete);
        let message = &hello[RECORD_HEAD..];
        for lengths in [
            &[1_usize] as &[usize],
            &[2, 1, 1],
            &[3, 500],
            &[4],
            &[5],
            &[64],
        ] {
            decides_at_the_last_byte(&in_records(message, lengths), Complete);
        }
        // What comes with it doesn't matter: early data, or anything.
        assert_eq!(
            Hello::parse(&[&hello, b"anything".as_slice()].concat()),
            Complete
        );
    }
}

#[test]
fn the_first_wrong_byte_decides() {
    let wrong: [&[u8]; 17] = [
        b"E",                                          // EHLO
        b"\r",                                         // a PROXY header
        &[0x80],                                       // SSLv2
        &[21],                                         // an alert
        &[22, 2],                                      // a major version that never was
        &[22, 3, 1, 0x41],                             // a record above 2^14 bytes
        &[22, 3, 1, 0x40, 1],                          // the same, by one
        &[22, 3, 1, 0, 0],                             // an empty fragment
        &[22, 3, 1, 0, 9, 2],                          // a ServerHello
        &[22, 3, 1, 0, 9, 1, 1],                       // 64 KiB
        &[22, 3, 1, 0, 9, 1, 0, 0xff, 0xe9],           // by one too long to fit
        &[22, 3, 1, 0, 9, 1, 0, 0, 40],                // by one too short
        &[22, 3, 1, 0, 1, 1, 23],                      // application data in between
        &[22, 3, 1, 0, 1, 1, 22, 4],                   // another version in between
        &[22, 3, 1, 0, 1, 1, 22, 3, 3, 0, 0],          // an empty fragment in between
        &[22, 3, 1, 0, 1, 1, 22, 3, 3, 0, 1, 1],       // too long, over two records
        &[22, 3, 1, 0, 2, 1, 0, 22, 3, 3, 0, 2, 0, 3], // too short, over two records
    ];
    for bytes in wrong {
        decides_at_the_last_byte(bytes, Other);
    }
}

#[test]
fn the_shortest_and_the_longest() {
    for body in [SHORTEST_BODY, LONGEST_FRAGMENT, LONGEST_BODY] {
        let stream = in_records(&hello_of(body), &[LONGEST_FRAGMENT]);
        assert!(stream.len() <= LONGEST);
        assert_eq!(Hello::parse(&stream), Complete);
        assert_eq!(Hello::parse(&stream[..stream.len() - 1]), Incomplete);
    }
    let longest = in_records(&hello_of(LONGEST_BODY), &[LONGEST_FRAGMENT]);
    assert_eq!(longest.len(), LONGEST);
    // In five records its last bytes are out of reach.
    let more_records = in_records(&hello_of(LONGEST_BODY), &[LONGEST_FRAGMENT - 6]);
    assert_eq!(Hello::parse(&more_records[..LONGEST - 1]), Incomplete);
    assert_eq!(Hello::parse(&more_records[..LONGEST]), Other);
    assert_eq!(Hello::parse(&more_records), Other);
}

/// A byte for each record, and a record for each piece: nothing is read again. As much as that was
/// by the square of its length it took seconds.
#[test]
fn the_longest_in_the_smallest_pieces_is_read() {
    let stream = in_records(&hello_of(LONGEST / (RECORD_HEAD + 1) - 8), &[1]);
    let mut reader = Reader::default();
    let decided = stream.iter().map(|byte| reader.read(&[*byte]));
    assert!(decided.take(stream.len() - 1).all(|one| one == Incomplete));
    assert_eq!(reader.read(&stream[stream.len() - 1..]), Complete);
}

#[test]
fn pieces_that_begin_like_a_record() {
    for kind in 0..=u8::MAX {
        for minor in 0..=u8::MAX {
            let expected = (0x14..=0x17).contains(&kind) && minor <= 4;
            assert_eq!(is_record(&[kind, 3, minor, 0, 1]), expected);
        }
    }
    assert!(is_record(&[0x17, 3, 3]));
    for bytes in [
        b"".as_slice(),
        &[0x16],
        &[0x16, 3],
        &[0x16, 2, 1],
        b"QUIT\r\n",
    ] {
        assert!(!is_record(bytes));
    }
}

/// Bytes that get further than random ones would.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let likely = prop_oneof![
        Just(22_u8),
        Just(3),
        Just(1),
        Just(0),
        Just(41),
        any::<u8>()
    ];
    let changed =
        (any::<bool>(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(new, at, byte)| {
            let mut hello = real()[usize::from(new)].clone();
            let at = at.index(16);
            hello[at] = byte;
            hello
        });
    prop_oneof![
        any::<Vec<u8>>(),
        prop::collection::vec(likely, 0..40),
        changed
    ]
}

proptest! {
    /// However it comes; each byte is looked at once.
    #[test]
    fn pieces_make_no_difference(
        stream in streams(), sizes in prop::collection::vec(1_usize..50, 1..9),
    ) {
        let mut reader = Reader::default();
        let (mut end, mut decided) = (0, Incomplete);
        for size in sizes.into_iter().cycle() {
            if end == stream.len() || decided != Incomplete {
                break;
            }
            let piece = &stream[end..(end + size).min(stream.len())];
            decided = reader.read(piece);
            end += piece.len();
            prop_assert_eq!(decided, Hello::parse(&stream[..end]));
        }
    }

    /// What was decided stays so, whatever comes after it.
    #[test]
    fn more_bytes_never_change_a_decision(stream in streams()) {
        let mut decided = Incomplete;
        for end in 0..=stream.len() {
            let now = Hello::parse(&stream[..end]);
            prop_assert!(decided == Incomplete || now == decided, "at {end}");
            decided = now;
        }
    }

    #[test]
    fn records_of_any_lengths_make_no_difference(
        body in SHORTEST_BODY..600,
        lengths in prop::collection::vec(1_usize..200, 1..9),
        cut: prop::sample::Index,
    ) {
        let stream = in_records(&hello_of(body), &lengths);
        prop_assert_eq!(Hello::parse(&stream), Complete);
        let cut = cut.index(stream.len());
        prop_assert_eq!(Hello::parse(&stream[..cut]), Incomplete);
    }
}

#[test]
fn an_alert_at_the_end_is_known() {
    let record = |kind: u8, body: &[u8]| {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[kind, 3, 3], &length[..], body].concat()
    };
    let text = record(23, &[1; 22]);
    for (piece, expected) in [
        (record(23, &[7; 19]), true),
        (record(21, &[7; 26]), true),
        (record(21, &[1, 0]), true),
        // A client that doesn't like the certificate.
        (record(21, &[2, 48]), false),
        (record(21, &[7; 27]), false),
        (record(22, &[7; 19]), false),
        // The shortest command.
        (record(23, b"QUIT\r\n 17 bytes of tag"), false),
        (text.clone(), false),
        ([&text[..], &record(23, &[7; 19])].concat(), true),
        ([&record(23, &[7; 19])[..], &text].concat(), false),
        (record(23, &[7; 19])[1..].to_vec(), false),
        (vec![], false),
    ] {
        assert_eq!(ends_with_alert(&piece), expected, "{piece:?}");
    }
}
