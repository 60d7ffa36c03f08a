//! Segments in, segments out: the program as the kernel runs it (BPF_PROG_TEST_RUN), by itself
//! and without a network. Every segment that comes out has right checksums.

use std::net::SocketAddrV4;

use mailweir_flow::{Counter, Place, State, ticks};

use crate::rig::{
    C, CLIENT, LISTENER, NUMBER, REDIRECT, Rig, S, SERVER, SHOT, SOURCE, UNSPEC, flow, from_client,
    from_server, gate, keys,
};
use crate::segment::{ACK, FIN, PSH, RST, SYN, Segment, sack, timestamps};

#[test]
fn a_segment_is_told_in_the_words_of_the_other_leg() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let said = Segment {
        flags: ACK | PSH,
        options: timestamps(100, 10_000),
        payload: b"EHLO client.test\r\n".to_vec(),
        ..from_client()
    };
    let told = rig.rewritten(&said);
    let expected = Segment {
        from: SOURCE,
        to: SERVER,
        seq: S[1],
        ack: S[0],
        options: timestamps(5_100, 1_000),
        ttl: 64,
        ..said
    };
    assert_eq!(told, expected);
    let side = rig.flow().sides[0];
    assert_eq!((side.bytes_acked, side.segs_in, side.acked_ns), (0, 1, 0));
    assert_eq!((side.snd_nxt, &side.words), (C[0] + 18, b"t.test\r\n"));
    assert_eq!(side.outstanding(), 18);
    // It counts once the server has heard it.
    rig.rewritten(&Segment {
        ack: S[1] + 18,
        ..from_server()
    });
    let side = rig.flow().sides[0];
    assert_eq!((side.bytes_acked, side.outstanding()), (18, 0));
    assert!(side.acked_ns > 0);
    assert_eq!(rig.counted(Counter::Rewritten), 2);
}

#[test]
fn and_so_is_the_answer() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let said = Segment {
        payload: b"250 fine\r\n".to_vec(),
        ip_options: vec![1; 8],
        ..from_server()
    };
    let told = rig.rewritten(&said);
    let expected = Segment {
        from: LISTENER,
        to: CLIENT,
        seq: C[1],
        ack: C[0],
        ttl: 64,
        ..said
    };
    assert_eq!(told, expected);
}

#[test]
fn sack_blocks_follow_the_acknowledgement() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let edges = [10, 20, 30, 40, 50, 60].map(|after| C[1].wrapping_add(after));
    let said = Segment {
        options: [timestamps(1, 9_000), sack(&edges)].concat(),
        ..from_client()
    };
    let told = rig.rewritten(&said);
    let expected = edges.map(|edge| edge.wrapping_sub(C[1]).wrapping_add(S[0]));
    assert_eq!(
        told.options,
        [timestamps(5_001, 0), sack(&expected)].concat()
    );
}

#[test]
fn windows_are_told_in_our_own_scale() {
    for (left, right, window, expected) in [(0, 0, 500, 500), (3, 0, 500, 4_000), (0, 2, 500, 125)]
        .into_iter()
        .chain([(7, 0, 60_000, 65_535)])
    {
        let mut flow = flow();
        let told_as = &mut flow.sides[0].told_as;
        (told_as.left, told_as.right) = (left, right);
        let Some(mut rig) = Rig::with(&gate(State::Live), &flow) else {
            return;
        };
        let said = Segment {
            window,
            ..from_client()
        };
        assert_eq!(rig.rewritten(&said).window, expected);
    }
}

/// As Linux takes them: from where they make no sense on they say nothing.
#[test]
fn options_are_taken_as_they_come() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let times = [
        &[8, 10][..],
        &100_u32.to_be_bytes(),
        &10_000_u32.to_be_bytes(),
    ]
    .concat();
    let told_times = [
        &[8, 10][..],
        &5_100_u32.to_be_bytes(),
        &1_000_u32.to_be_bytes(),
    ]
    .concat();
    let block = |from: u32| {
        let edges = [from, from.wrapping_add(5)].map(u32::to_be_bytes).concat();
        [&[5, 10][..], &edges].concat()
    };
    let nothing = |times: usize| vec![1; times];
    let end = |options: Vec<u8>| {
        let padded = options.len().next_multiple_of(4);
        [options.clone(), vec![0; padded - options.len()]].concat()
    };
    let kind = |kind: u8, size: u8| [vec![kind, size], vec![7; usize::from(size) - 2]].concat();
    let behind = |before: Vec<u8>, times: &[u8]| end([&before, times].concat());
    let mut cases = vec![];
    // Whatever stands before them, also at odd places, and up to the end.
    for before in (0..=30).map(nothing).chain([
        kind(254, 29),
        [kind(254, 2), kind(3, 3), kind(30, 12)].concat(),
        kind(254, 2).repeat(15),
    ]) {
        cases.push((behind(before.clone(), &times), behind(before, &told_times)));
    }
    let said = [
        nothing(7),
        times.clone(),
        block(C[1].wrapping_add(9)),
        nothing(3),
    ]
    .concat();
    let told = [nothing(7), told_times.clone(), block(S[0] + 9), nothing(3)].concat();
    cases.push((end(said), end(told)));
    // Those that are cut off, or have no length, or another one than theirs, are left as they are,
    // and so is what stands behind them.
    for odd in [
        vec![8, 0],
        vec![8, 1],
        vec![254, 41],
        vec![0],
        vec![30, 0, 8, 10],
    ] {
        let left = behind(odd, &times);
        cases.push((left.clone(), left));
    }
    for odd in [kind(8, 8), kind(5, 12), kind(5, 2), kind(2, 9)] {
        let [said, told] = [&times, &told_times].map(|times| behind(odd.clone(), times));
        cases.push((said, told));
    }
    cases.push((vec![8, 10, 0, 0], vec![8, 10, 0, 0]));
    for (said, told) in cases {
        let segment = Segment {
            options: said.clone(),
            ..from_client()
        };
        assert_eq!(rig.rewritten(&segment).options, told, "{said:?}");
    }
    assert_eq!(rig.counted(Counter::DroppedHeader), 0);
}

#[test]
fn states_decide() {
    for (state, verdict, counter) in [
        (State::Setup, UNSPEC, Counter::ToStack),
        (State::Hold, SHOT, Counter::Held),
        (State::Passed, UNSPEC, Counter::ToStack),
        (State::Closing, REDIRECT, Counter::Rewritten),
    ] {
        let Some(mut rig) = Rig::new(state) else {
            return;
        };
        let said = Segment {
            payload: b"NOOP\r\n".to_vec(),
            ..from_client()
        };
        assert_eq!(rig.ingress(&said).0, verdict, "{state:?}");
        assert_eq!(rig.counted(counter), 1, "{state:?}");
        // Whoever flips the state compares this with what it has read.
        assert_eq!(rig.gate().counted, [6, 0], "{state:?}");
    }
}

#[test]
fn what_belongs_to_no_flow_goes_its_way_untouched() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let other = SocketAddrV4::new(*CLIENT.ip(), CLIENT.port() + 1);
    let said = Segment::new(other, LISTENER);
    assert_eq!(rig.ingress(&said), (UNSPEC, said.clone()));
    let later_fragment = Segment {
        fragment: 1,
        ..from_client()
    };
    assert_eq!(rig.ingress(&later_fragment).0, UNSPEC);
    let first_fragment = Segment {
        fragment: 0x2000,
        ..from_client()
    };
    assert_eq!(rig.ingress(&first_fragment).0, SHOT);
    assert_eq!(rig.counted(Counter::DroppedFragment), 1);
}

#[test]
fn ends_of_what_a_client_says_are_kept() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let mut seq = C[0];
    for (said, kept) in [
        ("DATA\r\n", b"\0\0DATA\r\n"),
        ("12345678", b"12345678"),
        ("x", b"2345678x"),
        ("a whole mail\r\n.\r\nQUIT\r\n", b"\r\nQUIT\r\n"),
        // However it is cut.
        ("more\r\n.\r\nQU", b"e\r\n.\r\nQU"),
        ("IT\r\n", b"\r\nQUIT\r\n"),
        ("\x16\x03\x01\x02\x00hello", b"\x16\x03\x01\x02\x00hel"),
    ] {
        let segment = Segment {
            seq,
            payload: said.as_bytes().to_vec(),
            ..from_client()
        };
        rig.rewritten(&segment);
        seq += said.len() as u32;
        assert_eq!(rig.flow().sides[0].words, *kept, "{said:?}");
    }
    assert_eq!(rig.gate().acked, [0, 0]);
    rig.rewritten(&Segment {
        ack: S[1] + (seq - C[0]),
        ..from_server()
    });
    let side = rig.flow().sides[0];
    assert_eq!(u64::from(side.snd_nxt - C[0]), side.bytes_acked);
    assert_eq!(rig.gate().acked, [ticks(side.acked_ns), 0]);
    // What lies between isn't known.
    let behind_a_gap = Segment {
        seq: seq + 100,
        payload: b"IT\r\n".to_vec(),
        ..from_client()
    };
    rig.rewritten(&behind_a_gap);
    assert_eq!(rig.flow().sides[0].words, *b"\0\0\0\0IT\r\n");
}

#[test]
fn beginnings_of_what_a_server_says_are_kept() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let mut seq = S[0];
    for (said, kept) in [
        ("250 fine\r\n221 bye\r\n", b"250 fine"),
        ("22", b"22\0\0\0\0\0\0"),
    ] {
        let segment = Segment {
            seq,
            payload: said.as_bytes().to_vec(),
            ..from_server()
        };
        rig.rewritten(&segment);
        seq += said.len() as u32;
        assert_eq!(rig.flow().sides[1].words, *kept, "{said:?}");
    }
}

#[test]
fn our_own_stack_ends_no_flow_that_lives() {
    for state in [State::Setup, State::Hold, State::Live, State::Closing] {
        let Some(mut rig) = Rig::new(state) else {
            return;
        };
        let guarded = matches!(state, State::Live | State::Closing);
        for flags in [FIN | ACK, RST, SYN, ACK, PSH | ACK] {
            let ours = Segment {
                flags,
                ..Segment::new(LISTENER, CLIENT)
            };
            let ends = flags & (FIN | RST | SYN) != 0;
            let expected = if guarded && ends { SHOT } else { UNSPEC };
            assert_eq!(rig.guard(&ours).0, expected, "{state:?} {flags:#x}");
        }
    }
}

/// Our socket sends its greeting again until the client has it, perhaps behind a segment that the
/// server has sent again: none of these may look old (PAWS).
#[test]
fn our_own_socket_goes_by_the_clock_of_the_server() {
    const BEGIN: u32 = u32::MAX - 8_000;
    for (state, told) in [
        (State::Hold, [77, 77, 77]),
        // 5 000 are added to what the server says, and its newest counts.
        (State::Live, [u32::MAX - 3_000, 5_999, 5_999]),
    ] {
        let mut gate = gate(state);
        (gate.greeting, gate.tsval) = (true, [4_000_000_000, BEGIN]);
        let mut flow = flow();
        // Our stack has heard all of the greeting.
        (flow.sides[1].snd_nxt, flow.sides[1].snd_una) = (S[0] + 20, S[0] + 20);
        let Some(mut rig) = Rig::with(&gate, &flow) else {
            return;
        };
        let greeting = |tsval| Segment {
            flags: ACK | PSH,
            options: timestamps(tsval, 5),
            payload: b"220 mx\r\n".to_vec(),
            ..Segment::new(LISTENER, CLIENT)
        };
        let server_says = |rig: &mut Rig, seq: u32, options: Vec<u8>| {
            let segment = Segment {
                seq,
                options,
                payload: b"220-".to_vec(),
                ..from_server()
            };
            rig.ingress(&segment);
        };
        let [at_first, later, last] = told;
        assert_eq!(rig.guard(&greeting(77)), (UNSPEC, greeting(at_first)));
        // Options in any form; what the client doesn't take doesn't count.
        let unusual = [timestamps(999, 1), vec![1; 4]].concat();
        server_says(&mut rig, S[0], unusual);
        server_says(&mut rig, S[0] - 5, timestamps(7_777, 1));
        assert_eq!(rig.guard(&greeting(77)), (UNSPEC, greeting(later)));
        server_says(&mut rig, S[0], timestamps(998, 1));
        assert_eq!(rig.guard(&greeting(77)), (UNSPEC, greeting(last)));
        // The server's leg has another one: an acknowledgement that comes late goes as it is.
        let late = Segment {
            options: timestamps(78, 5),
            ..Segment::new(SOURCE, SERVER)
        };
        assert_eq!(rig.guard(&late), (UNSPEC, late.clone()));
    }
}

#[test]
fn a_flow_that_is_removed_leaves_its_segments_alone() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let tables = rig.program.tables();
    let place = Place {
        flow: NUMBER + 1,
        side: 0,
    };
    let [client, server] = keys();
    assert!(tables.put(client, place).is_err(), "its place is taken");
    assert_eq!(tables.places().unwrap().len(), 2);
    tables.remove(client);
    assert_eq!(
        tables.places().unwrap(),
        [(
            server,
            Place {
                flow: NUMBER,
                side: 1
            }
        )]
    );
    assert_eq!(rig.ingress(&from_client()).0, UNSPEC);
}
