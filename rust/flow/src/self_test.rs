//! Shows the program a few segments before it gets any real one: whether this kernel runs it as
//! it is meant. In tables of its own, which are gone afterwards.

use std::net::{Ipv4Addr, SocketAddrV4};

use aya::programs::{SchedClassifier, TestRun, TestRunOptions};

use crate::layout::{Direction, Flow, Gate, Key, NOTE_SIZE, Place, Reserved, State, Translation};
use crate::program::{Program, Unavailable};
use crate::segment::{ACK, FIN, Segment};

/// linux/pkt_cls.h: left alone, dropped, sent elsewhere.
const UNSPEC: u32 = u32::MAX;
const SHOT: u32 = 2;
const REDIRECT: u32 = 7;

const ETHERNET: [u8; 14] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0];
/// Of RFC 5737, and none that anybody has.
const CLIENT: Key = key([192, 0, 2, 1], 1, [192, 0, 2, 2], 25);
const SERVER: Key = key([192, 0, 2, 3], 25, [192, 0, 2, 4], 2);

/// Loads the program once more and looks what it does.
///
/// # Errors
/// What it did wrong, or why it can't be shown anything.
pub fn self_test() -> Result<(), Unavailable> {
    let mut program = Program::load()?;
    let tables = program.tables();
    tables.set_flow(0, &flow())?;
    let gate = Gate {
        out: [1, 1],
        ..Gate::new(State::Live)
    };
    tables.set_gate(0, &gate)?;
    for (side, key) in [(0, CLIENT), (1, SERVER)] {
        tables.put(key, Place { flow: 0, side })?;
    }
    let plain = said(
        CLIENT,
        100,
        200,
        &time_stamps(7, 8),
        b"EHLO client.test\r\n",
    );
    let sack = [&time_stamps(9, 10)[..], &blocks(300, 400)].concat();
    let told_sack = [&time_stamps(509, 4_294_966_306)[..], &blocks(1_300, 1_400)].concat();
    let nobodys = said(SERVER.reversed(), 1, 1, &[], b"");
    for (what, segment, verdict, told) in [
        (
            "a segment isn't passed on as it should",
            plain,
            REDIRECT,
            said(
                SERVER.reversed(),
                10_100,
                1_200,
                &time_stamps(507, 4_294_966_304),
                b"EHLO client.test\r\n",
            ),
        ),
        (
            "one with selective acknowledgements isn't",
            said(CLIENT, 118, 200, &sack, b""),
            REDIRECT,
            said(SERVER.reversed(), 10_118, 1_200, &told_sack, b""),
        ),
        (
            "a stranger's isn't left alone",
            nobodys.clone(),
            UNSPEC,
            nobodys,
        ),
    ] {
        expect(what, program.ingress()?, &segment, verdict, &told)?;
    }
    let end = Segment {
        key: CLIENT.reversed(),
        seq: 1,
        ack: 1,
        flags: FIN | ACK,
        window: 1,
        options: &[],
        payload: b"",
    };
    let end = frame(&end);
    expect(
        "our own end isn't held back",
        program.guard()?,
        &end,
        SHOT,
        &end,
    )
}

fn expect(
    what: &'static str,
    program: &SchedClassifier,
    segment: &[u8],
    verdict: u32,
    told: &[u8],
) -> Result<(), Unavailable> {
    let mut out = vec![0; segment.len()];
    let options = TestRunOptions {
        data_in: Some(segment),
        data_out: Some(&mut out),
        ..TestRunOptions::new()
    };
    let result = program.test_run(options)?;
    if result.return_value == verdict && out == told {
        Ok(())
    } else {
        Err(Unavailable::SelfTest(what))
    }
}

/// What the client says is told with 10 000 more, what the server says with 1 000 less; clocks
/// differ by 500 and 1 000.
fn flow() -> Flow {
    let side = |told: Key, seq_add: u32, ack_add: u32, next: u32| Direction {
        wnd_end: next + 65_535,
        ..Direction::begin(
            Translation {
                seq_add,
                ack_add,
                tsval_add: 500,
                tsecr_add: 0_u32.wrapping_sub(1_000),
                scale: 7,
                ..Translation::to(told)
            },
            next,
        )
    };
    Flow {
        greeting_begin: 0,
        greeting_end: 0,
        greeting_seq: 0,
        lock: Reserved,
        sides: [
            side(SERVER.reversed(), 10_000, 1_000, 100),
            side(
                CLIENT.reversed(),
                0_u32.wrapping_sub(1_000),
                0_u32.wrapping_sub(10_000),
                1_200,
            ),
        ],
        note: [0; NOTE_SIZE],
    }
}

fn said(key: Key, seq: u32, ack: u32, options: &[u8], payload: &[u8]) -> Vec<u8> {
    frame(&Segment {
        key,
        seq,
        ack,
        flags: ACK,
        window: 512,
        options,
        payload,
    })
}

fn frame(segment: &Segment<'_>) -> Vec<u8> {
    [&ETHERNET[..], &segment.packet()].concat()
}

/// As Linux says them: nothing, nothing, time stamps (RFC 7323).
fn time_stamps(value: u32, echo: u32) -> Vec<u8> {
    let times = [value.to_be_bytes(), echo.to_be_bytes()].concat();
    [&[1, 1, 8, 10][..], &times].concat()
}

/// One block of selective acknowledgement (RFC 2018).
fn blocks(from: u32, to: u32) -> Vec<u8> {
    let edges = [from.to_be_bytes(), to.to_be_bytes()].concat();
    [&[1, 1, 5, 10][..], &edges].concat()
}

const fn key(from: [u8; 4], from_port: u16, to: [u8; 4], to_port: u16) -> Key {
    Key {
        from: address(from, from_port),
        to: address(to, to_port),
    }
}

const fn address([a, b, c, d]: [u8; 4], port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it can be loaded at all; tests/it fails in CI where it can't.
    #[test]
    fn what_is_wrong_is_said() {
        let Ok(mut program) = Program::load() else {
            return;
        };
        assert!(self_test().is_ok());
        let segment = said(CLIENT, 1, 1, &[], b"");
        let other = said(CLIENT, 2, 1, &[], b"");
        let mut seen = |verdict, told| {
            let ingress = program.ingress().unwrap();
            expect("this", ingress, &segment, verdict, told)
        };
        assert!(seen(UNSPEC, &segment).is_ok());
        for wrong in [seen(UNSPEC, &other), seen(SHOT, &segment)] {
            assert_eq!(wrong.unwrap_err().to_string(), "its self-test failed: this");
        }
    }
}
