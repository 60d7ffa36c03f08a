//! An interface's frames, at loopback. Needs root.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test ends by the one and reports by the other

use mailweir_testkit::frames::{Frames, Heard};
use socket2::SockFilter;

const SENT: u32 = 200;
/// Nobody has it, so that the kernel answers nothing and nobody else's frames are counted.
const SOURCE: [u8; 4] = [192, 0, 2, 9];
const SOURCE_AT: usize = 14 + 12;

#[test]
fn those_that_find_no_room_are_counted() {
    let filter = filter();
    let Some(mut frames) = open(&filter) else {
        return;
    };
    for _ in 0..SENT {
        frames.send(&frame()).unwrap();
    }
    let first = heard(&mut frames);
    // It says how many were lost before it.
    frames.send(&frame()).unwrap();
    assert_eq!(heard(&mut frames), 1);
    assert!(first < SENT, "there was no room for {first}");
    assert_eq!(frames.losses().unheard, SENT - first);
}

/// With room for as little as there can be.
fn open(filter: &[SockFilter]) -> Option<Frames> {
    if !may_open() {
        // As tests/harness/needs.py and .ci/need take it.
        let ci = std::env::var("CI").unwrap_or_default();
        assert!(
            matches!(ci.as_str(), "" | "0" | "false"),
            "needs root (a skip, which CI doesn't allow)"
        );
        println!("skipped: needs root");
        return None;
    }
    Some(Frames::open("lo", Heard::Ipv4(filter), 1).unwrap())
}

fn may_open() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let held = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"));
    // CAP_NET_ADMIN, CAP_NET_RAW.
    let needed = 1 << 12 | 1 << 13;
    u64::from_str_radix(held.unwrap(), 16).unwrap() & needed == needed
}

/// How many wait of those that were sent here.
fn heard(frames: &mut Frames) -> u32 {
    let mut count = 0;
    while let Some(frame) = frames.receive().unwrap() {
        count += u32::from(frame.get(SOURCE_AT..SOURCE_AT + 4) == Some(&SOURCE[..]));
    }
    count
}

/// IPv4 without anything in it, as long as a full one.
fn frame() -> Vec<u8> {
    let mut frame = vec![0; 1514];
    frame[12] = 0x08;
    frame[14] = 0x45;
    frame[SOURCE_AT..SOURCE_AT + 4].copy_from_slice(&SOURCE);
    frame
}

/// Takes what is from there.
fn filter() -> [SockFilter; 4] {
    const LOAD_WORD: u16 = 0x20;
    const EQUALS: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_WORD, 0, 0, SOURCE_AT as u32),
        SockFilter::new(EQUALS, 0, 1, u32::from_be_bytes(SOURCE)),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
