//! What SYNs offer is taken back where the other leg hasn't it; all else stays as it was.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddrV4};

use mailweir_flow::{Counter, Gate, State, Tables, Without};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::rig::{CLIENT, LISTENER, Rig, SERVER, SOURCE, UNSPEC, flow, gate};
use crate::segment::{ACK, AE, CWR, ECE, SYN, Segment};

const TIMES: [u8; 10] = [8, 10, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0];
const NOTHING: Without = Without {
    timestamps: false,
    sack: false,
};
const TIMESTAMPS: Without = Without {
    timestamps: true,
    ..NOTHING
};
const SACK: Without = Without {
    sack: true,
    ..NOTHING
};
const BOTH: Without = Without {
    timestamps: true,
    sack: true,
};

/// A program that knows a listener and no flow of this client.
fn listening(at: SocketAddrV4, without: Without) -> Option<Rig> {
    let mut rig = Rig::new(State::Setup)?;
    rig.program
        .tables()
        .set_listeners(&[(at, without)])
        .unwrap();
    Some(rig)
}

fn stranger() -> SocketAddrV4 {
    SocketAddrV4::new(*CLIENT.ip(), 1)
}

fn syn(options: Vec<u8>) -> Segment {
    Segment {
        flags: SYN,
        ack: 0,
        options,
        ..Segment::new(stranger(), LISTENER)
    }
}

fn comes_in(rig: &mut Rig, segment: &Segment) -> Segment {
    let (verdict, out) = rig.ingress(segment);
    assert_eq!(verdict, UNSPEC);
    out
}

/// Every order that systems have them in, and odd ones; checksums are looked at by `parse`.
#[test]
fn options_are_blanked_wherever_they_stand() {
    let nothing = [1; 10];
    let mss = [2, 4, 0x05, 0xb4];
    let scale = [3, 3, 8];
    for (before, behind) in [
        // Linux, Windows, macOS, OpenBSD; nothing before them; nothing behind.
        (vec![&mss[..], &[4, 2]], vec![&[1][..], &scale]),
        (vec![&mss, &[1], &scale, &[4, 2]], vec![]),
        (vec![&mss, &[1], &scale, &[1, 1]], vec![&[4, 2, 0, 0]]),
        (vec![&mss, &[1, 1, 4, 2, 1], &scale, &[1, 1]], vec![]),
        (vec![], vec![&mss, &[1, 1]]),
        (vec![&[1]], vec![&[4, 2, 0, 0, 0]]),
        // At the end of all that there is room for.
        (vec![&mss, &scale, &[1; 23]], vec![]),
        // An unknown one before them, and bytes behind the end that look like one.
        (vec![&[254, 6, 8, 10, 0, 0]], vec![&[0, 8, 10, 1]]),
    ] {
        let [before, behind] = [before.concat(), behind.concat()];
        let options = [&before[..], &TIMES, &behind].concat();
        assert_eq!(options.len() % 4, 0, "{options:?}");
        let Some(mut rig) = listening(LISTENER, TIMESTAMPS) else {
            return;
        };
        let expected = syn([&before[..], &nothing, &behind].concat());
        assert_eq!(comes_in(&mut rig, &syn(options)), expected);
        assert_eq!(rig.counted(Counter::SynBlanked), 1);
        // What hasn't any goes by as it is.
        assert_eq!(comes_in(&mut rig, &expected), expected);
        assert_eq!(rig.counted(Counter::SynBlanked), 1);
    }
}

#[test]
fn each_option_by_itself_and_both() {
    let linux = [&[2, 4, 5, 0xb4, 4, 2][..], &TIMES, &[1, 3, 3, 7]].concat();
    for (without, times, sack) in [
        (NOTHING, TIMES, [4, 2]),
        (TIMESTAMPS, [1; 10], [4, 2]),
        (SACK, TIMES, [1; 2]),
        (BOTH, [1; 10], [1; 2]),
    ] {
        let Some(mut rig) = listening(LISTENER, without) else {
            return;
        };
        let expected = [&[2, 4, 5, 0xb4][..], &sack, &times, &[1, 3, 3, 7]].concat();
        let out = comes_in(&mut rig, &syn(linux.clone()));
        assert_eq!(out.options, expected, "{without:?}");
    }
}

#[test]
fn one_that_is_there_twice_goes_twice() {
    let twice = [&TIMES[..], &TIMES, &[4, 2, 4, 2]].concat();
    let Some(mut rig) = listening(LISTENER, BOTH) else {
        return;
    };
    assert_eq!(comes_in(&mut rig, &syn(twice)), syn(vec![1; 24]));
}

/// By the old way and by accurate ECN, whatever else is to go.
#[test]
fn ecn_is_never_offered() {
    for without in [NOTHING, BOTH] {
        let Some(mut rig) = listening(LISTENER, without) else {
            return;
        };
        for (flags, reserved) in [(ECE | CWR, 0), (ECE | CWR, AE), (0, AE), (ECE, 0)] {
            let offers = Segment {
                flags: SYN | flags,
                // The other ones are nobody's.
                reserved: reserved | 0b1010,
                ..syn(vec![2, 4, 5, 0xb4])
            };
            let expected = Segment {
                flags: SYN,
                reserved: 0b1010,
                ..offers.clone()
            };
            assert_eq!(comes_in(&mut rig, &offers), expected);
        }
    }
}

#[test]
fn listeners_at_all_addresses() {
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, LISTENER.port());
    let Some(mut rig) = listening(any, TIMESTAMPS) else {
        return;
    };
    let offers = [&TIMES[..], &[1, 1]].concat();
    assert_eq!(comes_in(&mut rig, &syn(offers)), syn(vec![1; 12]));
}

#[test]
fn what_is_none_of_ours_goes_by() {
    let offers = Segment {
        flags: SYN | ECE | CWR,
        ..syn([&TIMES[..], &[4, 2]].concat())
    };
    let others = [
        Segment {
            to: SocketAddrV4::new(*LISTENER.ip(), 26),
            ..offers.clone()
        },
        Segment {
            to: SOURCE,
            ..offers.clone()
        },
        // An answer, and what comes later.
        Segment {
            flags: SYN | ACK | ECE,
            ..offers.clone()
        },
        Segment {
            flags: ACK | ECE | CWR,
            ..offers.clone()
        },
    ];
    let Some(mut rig) = listening(LISTENER, BOTH) else {
        return;
    };
    for segment in others {
        assert_eq!(comes_in(&mut rig, &segment), segment);
    }
    // Nobody listens there any more.
    rig.program.tables().set_listeners(&[]).unwrap();
    assert_eq!(comes_in(&mut rig, &offers), offers);
    assert_eq!(rig.counted(Counter::SynBlanked), 0);
}

/// Of whoever goes up to the stack, and of nothing else: user space goes by that.
#[test]
fn each_is_noted() {
    let runner = &mut TestRunner::default();
    let Some(rig) = listening(LISTENER, NOTHING) else {
        return;
    };
    let rig = RefCell::new(rig);
    let clients = (any::<u32>(), any::<u16>(), any::<u32>(), any::<bool>());
    let looks = |(address, port, seq, answers)| {
        let mut rig = rig.borrow_mut();
        let from = SocketAddrV4::new(Ipv4Addr::from_bits(address), port);
        prop_assume!(from != CLIENT && from != SERVER);
        let flags = if answers { SYN | ACK } else { SYN };
        let said = Segment {
            from,
            seq,
            flags,
            ..syn(vec![2, 4, 5, 0xb4])
        };
        let (before, (_, words)) = (rig.noted(from), Tables::syn_of(from, seq));
        rig.ingress(&said);
        prop_assert_eq!(rig.noted(from), if answers { before } else { words });
        Ok(())
    };
    runner.run(&clients, looks).unwrap();
}

/// Of a flow that has ended, or of a session that takes the relay.
#[test]
fn who_comes_back_from_the_same_port() {
    let offers = Segment {
        from: CLIENT,
        ..syn([&TIMES[..], &[4, 2]].concat())
    };
    let expected = Segment {
        options: vec![1; 12],
        ..offers.clone()
    };
    for state in [State::Setup, State::Closing, State::Passed] {
        let Some(mut rig) = listening(LISTENER, BOTH) else {
            return;
        };
        rig.replace(&gate(state), &flow());
        assert_eq!(comes_in(&mut rig, &offers), expected, "{state:?}");
    }
}

#[test]
fn our_own_to_a_server() {
    let linux = [&[2, 4, 5, 0xb4, 4, 2][..], &TIMES, &[1, 3, 3, 7]].concat();
    let offers = Segment {
        flags: SYN | ECE | CWR,
        reserved: AE,
        options: linux,
        ..Segment::new(SOURCE, SERVER)
    };
    for (without, times, sack) in [
        (NOTHING, TIMES, [4, 2]),
        (TIMESTAMPS, [1; 10], [4, 2]),
        (BOTH, [1; 10], [1; 2]),
    ] {
        let gate = Gate {
            mss: without.bits(),
            ..Gate::new(State::Setup)
        };
        let Some(mut rig) = Rig::with(&gate, &flow()) else {
            return;
        };
        let expected = Segment {
            flags: SYN,
            reserved: 0,
            options: [&[2, 4, 5, 0xb4][..], &sack, &times, &[1, 3, 3, 7]].concat(),
            ..offers.clone()
        };
        // And again, where it isn't answered.
        for _ in 0..2 {
            let (verdict, out) = rig.guard(&offers);
            assert_eq!((verdict, out), (UNSPEC, expected.clone()));
        }
        assert_eq!(rig.gate().snd_nxt[1], offers.seq + 1);
        // The server's answer doesn't change what the next one is without.
        let answer = Segment {
            flags: SYN | ACK,
            options: vec![2, 4, 5, 0x14],
            ..Segment::new(SERVER, SOURCE)
        };
        let answer = Segment {
            ack: offers.seq + 1,
            ..answer
        };
        assert_eq!(comes_in(&mut rig, &answer), answer);
        assert_eq!(rig.gate().mss & 0xffff, 0x514);
        assert_eq!(Without::of(rig.gate().mss), without);
    }
}

/// Our answer to a client says what was agreed on.
#[test]
fn our_own_answer_goes_by() {
    let gate = Gate {
        mss: BOTH.bits(),
        ..Gate::new(State::Setup)
    };
    let Some(mut rig) = Rig::with(&gate, &flow()) else {
        return;
    };
    let answer = Segment {
        flags: SYN | ACK | ECE,
        options: [&TIMES[..], &[4, 2]].concat(),
        ..Segment::new(LISTENER, CLIENT)
    };
    assert_eq!(rig.guard(&answer), (UNSPEC, answer));
}

/// As Linux reads them: what a SYN offers by its options.
fn offered(options: &[u8]) -> (bool, bool) {
    let (mut rest, mut times, mut sack) = (options, false, false);
    while let [kind, more @ ..] = rest {
        let size = match (kind, more) {
            (0, _) => break,
            (1, _) => 1,
            (_, [size, ..]) if *size >= 2 && usize::from(*size) <= rest.len() => (*size).into(),
            _ => break,
        };
        times |= (*kind, size) == (8, 10);
        sack |= (*kind, size) == (4, 2);
        rest = &rest[size..];
    }
    (times, sack)
}

/// Whatever bytes: what is to go is gone, what isn't offered is as it was, checksums are right.
#[test]
fn any_options() {
    let Some(rig) = listening(LISTENER, NOTHING) else {
        return;
    };
    let rig = RefCell::new(rig);
    let piece = prop_oneof![
        Just(TIMES.to_vec()),
        Just(vec![4, 2]),
        Just(vec![1]),
        Just(vec![2, 4, 5, 0xb4]),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    let pieces = prop::collection::vec(piece, 0..8);
    let cases = (pieces, any::<bool>(), any::<bool>());
    let mut runner = TestRunner::new(ProptestConfig::with_cases(1000));
    let result = runner.run(&cases, |(pieces, timestamps, sack)| {
        let mut options = pieces.concat();
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), 0);
        let mut rig = rig.borrow_mut();
        let without = Without { timestamps, sack };
        let at = [(LISTENER, without)];
        rig.program.tables().set_listeners(&at).unwrap();
        let out = comes_in(&mut rig, &syn(options.clone()));
        let (times, permitted) = offered(&options);
        let (still_times, still_permitted) = offered(&out.options);
        prop_assert_eq!(still_times, times && !timestamps);
        // Of these, four are looked for.
        let many = options.windows(2).filter(|two| *two == [4, 2]).count() > 4;
        prop_assert!(many || still_permitted == (permitted && !sack));
        for (was, is) in options.iter().zip(&out.options) {
            prop_assert!(was == is || *is == 1);
        }
        let same = Segment {
            options: out.options.clone(),
            ..syn(vec![])
        };
        prop_assert_eq!(out, same);
        Ok(())
    });
    result.unwrap();
}
