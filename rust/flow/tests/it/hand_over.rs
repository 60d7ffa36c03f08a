//! What the program does for a hand-over: before it, and until the greeting is acknowledged.

use mailweir_flow::layout::CUT;
use mailweir_flow::{Flow, Gate, State};

use crate::rig::{
    C, REDIRECT, Rig, S, SERVER, SOURCE, UNSPEC, flow, from_client, from_server, gate,
};
use crate::segment::{ACK, FIN, RST, SYN, Segment, timestamps};

/// RFC 791, 3.1.
const DONT_FRAGMENT: u16 = 0x4000;

/// Where BPF_PROG_TEST_RUN has the segments come and go.
const LOOPBACK: u32 = 1;

/// The hand-over has to know where both are, and their clocks.
#[test]
fn before_the_hand_over_peers_are_heard() {
    let Some(mut rig) = Rig::new(State::Setup) else {
        return;
    };
    let syn = Segment {
        flags: SYN,
        seq: S[1].wrapping_sub(1),
        ..Segment::new(SOURCE, SERVER)
    };
    assert_eq!(rig.guard(&syn).0, UNSPEC);
    assert_eq!(rig.gate().sent, [0, S[1]]);
    // As a SYN-ACK has them: MSS, SACK permitted, time stamps, scale.
    let mut options = vec![2, 4, 5, 0xb4, 4, 2, 8, 10];
    options.extend(0x1234_5678_u32.to_be_bytes());
    options.extend([0, 0, 0, 1, 1, 3, 3, 7]);
    let syn_ack = Segment {
        flags: SYN | ACK,
        options,
        fragment: DONT_FRAGMENT,
        ..from_server()
    };
    assert_eq!(rig.ingress(&syn_ack), (UNSPEC, syn_ack.clone()));
    let gate = rig.gate();
    assert_eq!((gate.tsval[1], gate.counted[1]), (0x1234_5678, 0));
    assert_eq!((gate.next[1], gate.takes), (S[0] + 1, 1460));
    let greeting = Segment {
        options: timestamps(0x1234_5700, 1),
        payload: b"220 mx\r\n".to_vec(),
        fragment: DONT_FRAGMENT,
        ..from_server()
    };
    assert_eq!(rig.ingress(&greeting), (UNSPEC, greeting.clone()));
    let gate = rig.gate();
    assert_eq!((gate.tsval, gate.counted), ([0, 0x1234_5700], [0, 8]));
    assert_eq!((gate.next[1], gate.takes), (S[0] + 8, 1460));
    let cut = Segment {
        fragment: 0,
        payload: vec![],
        ..greeting
    };
    assert_eq!(rig.ingress(&cut).0, UNSPEC);
    assert_eq!(rig.ingress(&syn_ack).0, UNSPEC);
    assert_eq!(rig.gate().takes, 1460 | CUT, "also where a SYN comes late");
    let end = Segment {
        flags: FIN | ACK,
        seq: S[0] + 8,
        ..from_server()
    };
    assert_eq!(rig.ingress(&end).0, UNSPEC);
    assert_eq!(rig.gate().counted, [0, 9], "an end counts as well");
}

#[test]
fn before_the_hand_over_a_third_party_moves_nothing() {
    let mut gate = gate(State::Setup);
    gate.next[0] = C[0];
    gate.sent[1] = S[1].wrapping_add(100);
    let Some(mut rig) = Rig::with(&gate, &flow()) else {
        return;
    };
    for distance in [5000, 0x4000_0000, 0x8000_0000] {
        let of_client = Segment {
            seq: C[0].wrapping_add(distance),
            options: timestamps(77, 1),
            ..from_client()
        };
        rig.ingress(&of_client);
        let of_server = Segment {
            ack: S[1].wrapping_add(distance),
            options: timestamps(77, 1),
            ..from_server()
        };
        rig.ingress(&of_server);
    }
    assert_eq!(rig.gate(), gate);
    // They themselves do.
    for said in [from_client(), from_server()] {
        let options = timestamps(78, 1);
        rig.ingress(&Segment { options, ..said });
    }
    let moved = rig.gate();
    assert_eq!((moved.tsval, moved.next), ([78, 78], [C[0], S[0]]));
}

#[test]
fn our_own_socket_hears_that_its_greeting_arrived() {
    let ack = |ack: u32| Segment {
        ack: C[1].wrapping_add(ack),
        ..from_client()
    };
    let says = |segment: Segment| Segment {
        payload: b"EHLO a\r\n".to_vec(),
        ..segment
    };
    let Some(mut rig) = greeting_is_due() else {
        return;
    };
    // Half of it, then all; what comes with payload is for the server.
    assert_eq!(rig.ingress(&ack(10)).0, UNSPEC);
    assert_eq!(rig.ingress(&says(ack(0))).0, REDIRECT);
    assert!(rig.gate().greeting);
    assert_eq!(rig.ingress(&ack(20)).0, UNSPEC);
    assert!(!rig.gate().greeting);
    assert_eq!(rig.ingress(&ack(20)).0, REDIRECT);
    // The command may come with the acknowledgement.
    let Some(mut rig) = greeting_is_due() else {
        return;
    };
    assert_eq!(rig.ingress(&says(ack(20))).0, REDIRECT);
    assert!(!rig.gate().greeting);
}

#[test]
fn a_third_party_does_not_acknowledge_the_greeting() {
    let Some(mut rig) = greeting_is_due() else {
        return;
    };
    for flags in [ACK, RST] {
        let guess = Segment {
            seq: C[0].wrapping_add(0x4000_0000),
            ack: C[1].wrapping_add(20),
            flags,
            ..from_client()
        };
        assert_eq!(rig.ingress(&guess).0, REDIRECT);
        assert!(rig.gate().greeting);
    }
    let reset = Segment {
        flags: RST,
        ..from_client()
    };
    assert_eq!(rig.ingress(&reset).0, REDIRECT);
    assert!(!rig.gate().greeting, "nobody will acknowledge it any more");
}

/// A greeting of 20 bytes, nothing of which is acknowledged.
fn greeting_is_due() -> Option<Rig> {
    let gate = Gate {
        greeting: true,
        ..gate(State::Live)
    };
    let flow = Flow {
        greeting: [C[1], C[1].wrapping_add(20)],
        ..flow()
    };
    Rig::with(&gate, &flow)
}

#[test]
fn our_own_segments_show_the_way_out() {
    let mut gate = gate(State::Setup);
    gate.out = [0; 2];
    let Some(mut rig) = Rig::with(&gate, &flow()) else {
        return;
    };
    let syn = Segment {
        flags: SYN,
        ..Segment::new(SOURCE, SERVER)
    };
    assert_eq!(rig.guard(&syn).0, UNSPEC);
    assert_eq!(rig.gate().out, [0, LOOPBACK]);
}
