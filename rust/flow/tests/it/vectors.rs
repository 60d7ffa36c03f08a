//! Segments in, segments out: the program as the kernel runs it (BPF_PROG_TEST_RUN), by itself
//! and without a network. Every segment that comes out has right checksums.

use std::net::SocketAddrV4;

use mailweir_flow::layout::{END_FIN, END_FIN_ACKED, END_FIRST, END_RST};
use mailweir_flow::{Counter, Flow, Gate, Place, State, ticks};

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
    assert_eq!((side.bytes, side.packets), (18, 1));
    assert_eq!((side.next, &side.head), (C[0] + 18, b"EHLO cli"));
    assert!(side.said_ns > 0);
    assert_eq!(rig.counted(Counter::Rewritten), 1);
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
        (flow.sides[0].left, flow.sides[0].right) = (left, right);
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

#[test]
fn options_that_make_no_sense_are_dropped() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let odd: [&[u8]; 4] = [
        &[8, 0, 0, 0],
        &[8, 1, 0, 0],
        &[8, 10, 0, 0],
        &[254, 41, 0, 0],
    ];
    for options in odd {
        let said = Segment {
            options: options.to_vec(),
            ..from_client()
        };
        assert_eq!(rig.ingress(&said).0, SHOT, "{options:?}");
    }
    assert_eq!(rig.counted(Counter::DroppedHeader), 4);
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
fn both_ends_of_the_stream_close_a_flow_once_they_are_acknowledged() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let client_ends = Segment {
        flags: FIN | ACK,
        ..from_client()
    };
    rig.rewritten(&client_ends);
    assert_eq!(rig.flow().sides[0].ends, END_FIN | END_FIRST);
    let server_ends = Segment {
        flags: FIN | ACK,
        ack: S[1] + 1,
        ..from_server()
    };
    rig.rewritten(&server_ends);
    assert_eq!(
        rig.flow().sides[0].ends,
        END_FIN | END_FIN_ACKED | END_FIRST
    );
    assert_eq!(rig.flow().sides[1].ends, END_FIN);
    assert_eq!(rig.gate().state, State::Live);
    let last = Segment {
        seq: C[0] + 1,
        ack: C[1].wrapping_add(1),
        ..from_client()
    };
    rig.rewritten(&last);
    assert_eq!(rig.gate().state, State::Closing);
    // Late repetitions still get through, and a new connection gets to the stack.
    assert_eq!(rig.rewritten(&last).to, SERVER);
    let again = Segment {
        flags: SYN,
        ..from_client()
    };
    assert_eq!(rig.ingress(&again).0, UNSPEC);
    assert_eq!(rig.gate().state, State::Passed);
}

#[test]
fn a_reset_ends_a_flow_only_with_the_number_that_is_due() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let reset = |seq| Segment {
        flags: RST,
        seq,
        ..from_client()
    };
    for seq in [C[0] + 1, C[0] - 1, 0, C[0] + 30_000] {
        assert_eq!(rig.rewritten(&reset(seq)).flags, RST);
        assert_eq!(rig.gate().state, State::Live);
    }
    rig.rewritten(&reset(C[0]));
    assert_eq!(rig.gate().state, State::Closing);
    assert_eq!(rig.flow().sides[0].ends, END_RST | END_FIRST);
}

#[test]
fn what_a_third_party_guesses_moves_nothing() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let before = moved(&mut rig);
    let guess = |flags, distance: u32| Segment {
        flags,
        seq: C[0].wrapping_add(distance),
        payload: b"MAIL FROM".to_vec(),
        ..from_client()
    };
    for flags in [ACK, FIN | ACK, PSH | ACK] {
        for distance in [
            0x10000,
            0x4000_0000,
            0x8000_0000,
            0_u32.wrapping_sub(0x10001),
        ] {
            // It goes on to the server, which knows what to do with it.
            rig.rewritten(&guess(flags, distance));
        }
    }
    let syn = Segment {
        flags: SYN,
        ..from_client()
    };
    assert_eq!(rig.rewritten(&syn).flags, SYN);
    assert_eq!(moved(&mut rig), before);
}

/// What a segment moves, but for counts of segments.
fn moved(rig: &mut Rig) -> (Gate, Flow) {
    let (mut gate, mut flow) = (rig.gate(), rig.flow());
    gate.counted = [0; 2];
    flow.sides[0].packets = 0;
    (gate, flow)
}

/// CPUs look at segments in another order than they were sent in: an announcement that is older
/// takes nothing back, or everything behind it would count as a guess.
#[test]
fn nothing_ever_moves_back() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let command = Segment {
        payload: vec![b'x'; 1000],
        ..from_client()
    };
    rig.rewritten(&command);
    let announces = |ack: u32, window| Segment {
        ack: S[1].wrapping_add(ack),
        window,
        ..from_server()
    };
    rig.rewritten(&announces(1000, 2000));
    let known = |rig: &mut Rig| (rig.flow().sides[0].acked, rig.flow().sides[0].edge);
    let expected = (C[0] + 1000, C[0] + 1000 + (2000 << 7));
    assert_eq!(known(&mut rig), expected);
    for (ack, window) in [(1000, 0), (500, 5000), (0, 0), (1001, 1)] {
        rig.rewritten(&announces(ack, window));
    }
    assert_eq!(known(&mut rig), (expected.0 + 1, expected.1));
}

#[test]
fn heads_of_what_was_said_are_kept() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let mut seq = C[0];
    for said in ["DATA\r\n", "x", "12345678", "a longer line\r\n", "QUIT\r\n"] {
        let segment = Segment {
            seq,
            payload: said.as_bytes().to_vec(),
            ..from_client()
        };
        rig.rewritten(&segment);
        seq += said.len() as u32;
        let mut head = [0; 8];
        let size = said.len().min(8);
        head[..size].copy_from_slice(&said.as_bytes()[..size]);
        assert_eq!(rig.flow().sides[0].head, head);
    }
    let side = rig.flow().sides[0];
    assert_eq!(u64::from(side.next - C[0]), side.bytes);
    assert_eq!(rig.gate().said, [ticks(side.said_ns), 0]);
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

#[test]
fn the_clock_of_our_own_socket_stops_at_the_hand_over() {
    for (state, told) in [(State::Hold, 77), (State::Live, 4_000_000_000)] {
        let Some(mut rig) = Rig::new(state) else {
            return;
        };
        let greeting = |tsval| Segment {
            flags: ACK | PSH,
            options: timestamps(tsval, 5),
            payload: b"220 mx\r\n".to_vec(),
            ..Segment::new(LISTENER, CLIENT)
        };
        assert_eq!(rig.guard(&greeting(77)), (UNSPEC, greeting(told)));
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
    tables.remove(client).unwrap();
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
