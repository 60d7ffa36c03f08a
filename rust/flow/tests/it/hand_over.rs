//! What the program does for a hand-over: before it, and until the greeting is acknowledged.

use mailweir_flow::layout::CUT;
use mailweir_flow::{Flow, Gate, State};

use crate::rig::{
    C, CLIENT, LISTENER, REDIRECT, Rig, S, SERVER, SHOT, SOURCE, UNSPEC, flow, from_client,
    from_server, gate,
};
use crate::segment::{ACK, FIN, RST, SYN, Segment, timestamps};

/// RFC 791, 3.1.
const DONT_FRAGMENT: u16 = 0x4000;

/// Where BPF_PROG_TEST_RUN has the segments come and go.
const LOOPBACK: u32 = 1;

/// The hand-over has to know where both are, and their clocks.
#[test]
fn before_the_hand_over_peers_are_heard() {
    let Some(mut rig) = Rig::with(&Gate::new(State::Setup), &flow()) else {
        return;
    };
    let syn = Segment {
        flags: SYN,
        seq: S[1].wrapping_sub(1),
        ..Segment::new(SOURCE, SERVER)
    };
    assert_eq!(rig.guard(&syn).0, UNSPEC);
    assert_eq!(rig.gate().snd_nxt, [0, S[1]]);
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
    assert_eq!((gate.rcv_nxt[1], gate.mss), (S[0] + 1, 1460));
    let greeting = Segment {
        options: timestamps(0x1234_5700, 1),
        payload: b"220 mx\r\n".to_vec(),
        fragment: DONT_FRAGMENT,
        ..from_server()
    };
    assert_eq!(rig.ingress(&greeting), (UNSPEC, greeting.clone()));
    let gate = rig.gate();
    assert_eq!((gate.tsval, gate.counted), ([0, 0x1234_5700], [0, 8]));
    assert_eq!((gate.rcv_nxt[1], gate.mss), (S[0] + 8, 1460));
    let cut = Segment {
        fragment: 0,
        payload: vec![],
        ..greeting
    };
    assert_eq!(rig.ingress(&cut).0, UNSPEC);
    assert_eq!(rig.ingress(&syn_ack).0, UNSPEC);
    assert_eq!(rig.gate().mss, 1460 | CUT, "also where a SYN comes late");
    let end = Segment {
        flags: FIN | ACK,
        seq: S[0] + 8,
        ..from_server()
    };
    assert_eq!(rig.ingress(&end).0, UNSPEC);
    assert_eq!(rig.gate().counted, [0, 9], "an end counts as well");
}

#[test]
fn a_server_whose_segments_may_be_cut_is_known_by_its_syn() {
    let mut gate = Gate::new(State::Setup);
    gate.snd_nxt[1] = S[1];
    let Some(mut rig) = Rig::with(&gate, &flow()) else {
        return;
    };
    let cut = Segment {
        flags: SYN | ACK,
        options: vec![2, 4, 5, 0xb4],
        fragment: 0,
        ..from_server()
    };
    assert_eq!(rig.ingress(&cut).0, UNSPEC);
    assert_eq!(rig.gate().mss, 1460 | CUT);
}

#[test]
fn before_the_hand_over_a_third_party_moves_nothing() {
    let mut gate = gate(State::Setup);
    gate.rcv_nxt = [C[0], S[0]];
    gate.snd_nxt[1] = S[1].wrapping_add(100);
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
        let elsewhere = Segment {
            seq: S[0].wrapping_add(0x20000 ^ distance),
            options: timestamps(77, 1),
            ..from_server()
        };
        rig.ingress(&elsewhere);
    }
    assert_eq!(rig.gate(), gate);
    // They themselves do.
    for said in [from_client(), from_server()] {
        let options = timestamps(78, 1);
        rig.ingress(&Segment { options, ..said });
    }
    let moved = rig.gate();
    assert_eq!((moved.tsval, moved.rcv_nxt), ([78, 78], [C[0], S[0]]));
}

/// A greeting in two segments that were swapped, an acknowledgement that is late, and one more
/// SYN-ACK.
#[test]
fn before_the_hand_over_nothing_moves_back() {
    let mut gate = gate(State::Setup);
    (gate.rcv_nxt, gate.snd_nxt) = ([C[0], S[0]], [0, S[1]]);
    (gate.tsval, gate.mss) = ([0, 50], 1460);
    let Some(mut rig) = Rig::with(&gate, &flow()) else {
        return;
    };
    let says = |after: u32, payload: &[u8], time| Segment {
        seq: S[0] + after,
        payload: payload.to_vec(),
        options: timestamps(time, 1),
        fragment: DONT_FRAGMENT,
        ..from_server()
    };
    let syn_ack = Segment {
        flags: SYN | ACK,
        seq: S[0] - 1,
        options: [vec![2, 4, 0, 9], timestamps(40, 1)].concat(),
        fragment: DONT_FRAGMENT,
        ..from_server()
    };
    for late in [
        says(8, b"220 mx\r\n", 61),
        says(0, b"220-mx\r\n", 60),
        says(0, b"", 50),
        syn_ack,
    ] {
        assert_eq!(rig.ingress(&late).0, UNSPEC);
        let now = rig.gate();
        assert_eq!((now.rcv_nxt, now.tsval), ([C[0], S[0] + 16], [0, 61]));
        assert_eq!(now.mss, 1460);
    }
    assert_eq!(rig.gate().counted, [0, 16]);
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
    // More than anybody has said.
    let beyond = Segment {
        ack: C[1].wrapping_add(21),
        ..from_client()
    };
    assert_eq!(rig.ingress(&beyond).0, REDIRECT);
    assert!(rig.gate().greeting);
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
    let mut flow = Flow {
        greeting_begin: C[1],
        greeting_end: C[1].wrapping_add(20),
        ..flow()
    };
    // The server has said it.
    let server = &mut flow.sides[1];
    (server.snd_nxt, server.snd_una) = (S[0] + 20, S[0] + 20);
    Rig::with(&gate, &flow)
}

/// What another way out would be.
const ELSEWHERE: u32 = 77;

#[test]
fn our_own_segments_show_the_way_out() {
    let ours = |flags, seq| Segment {
        flags,
        seq,
        ..Segment::new(SOURCE, SERVER)
    };
    let mut gate = Gate::new(State::Setup);
    let Some(mut rig) = Rig::with(&gate, &flow()) else {
        return;
    };
    assert_eq!(rig.guard(&ours(SYN, 10)).0, UNSPEC);
    assert_eq!(
        (rig.gate().out, rig.gate().snd_nxt),
        ([0, LOOPBACK], [0, 11])
    );
    // One that is said again takes nothing back.
    for (seq, sent) in [(20, 20), (11, 20), (21, 21)] {
        assert_eq!(rig.guard(&ours(ACK, seq)).0, UNSPEC);
        assert_eq!(rig.gate().snd_nxt, [0, sent]);
    }
    // It passes a link below that as well.
    gate.out = [0, ELSEWHERE];
    rig.replace(&gate, &flow());
    assert_eq!(rig.guard(&ours(ACK, 21)).0, UNSPEC);
    assert_eq!(rig.gate().out, [0, ELSEWHERE]);
}

/// Its socket says it once the flow is live; what the stack says else shows nothing.
#[test]
fn the_greeting_shows_the_way_to_the_client() {
    let gate = Gate {
        greeting: true,
        out: [0, 1],
        ..gate(State::Live)
    };
    let Some(mut rig) = Rig::with(&gate, &flow()) else {
        return;
    };
    let greeting = Segment {
        seq: C[1],
        payload: b"220 mx\r\n".to_vec(),
        ..Segment::new(LISTENER, CLIENT)
    };
    let end = Segment {
        flags: FIN | ACK,
        ..greeting.clone()
    };
    assert_eq!(rig.guard(&end).0, SHOT);
    assert_eq!(rig.gate().out, [0, 1]);
    assert_eq!(rig.guard(&greeting).0, UNSPEC);
    assert_eq!(rig.gate().out, [LOOPBACK, 1]);
}

/// A link that stands on this one has its turn; or an interface hears what is for others.
#[test]
fn what_is_for_another_address_is_left_alone() {
    for state in [State::Setup, State::Hold, State::Live] {
        let Some(mut rig) = Rig::new(state) else {
            return;
        };
        let before = rig.gate();
        let mut frame = Segment {
            payload: b"EHLO a\r\n".to_vec(),
            ..from_client()
        }
        .frame();
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        assert_eq!(rig.ingress_of(&frame), (UNSPEC, frame.clone()));
        assert_eq!(rig.gate(), before);
    }
}

/// Any user here can have the stack say that (SO_BINDTODEVICE, connect(2)).
#[test]
fn a_local_user_diverts_nothing() {
    for state in [State::Setup, State::Hold, State::Live, State::Closing] {
        let mut gate = gate(state);
        (gate.out, gate.snd_nxt) = ([ELSEWHERE; 2], [500; 2]);
        let Some(mut rig) = Rig::with(&gate, &flow()) else {
            return;
        };
        for (from, to) in [(SOURCE, SERVER), (LISTENER, CLIENT)] {
            for flags in [SYN, RST, RST | ACK, FIN | ACK] {
                rig.guard(&Segment {
                    flags,
                    seq: 9_000,
                    ..Segment::new(from, to)
                });
            }
        }
        assert_eq!(rig.gate(), gate, "{state:?}");
    }
    // Nor before the client was greeted: our own stack says it no SYN then.
    let gate = Gate {
        out: [0, ELSEWHERE],
        ..gate(State::Setup)
    };
    let Some(mut rig) = Rig::with(&gate, &flow()) else {
        return;
    };
    rig.guard(&Segment {
        flags: SYN,
        ..Segment::new(LISTENER, CLIENT)
    });
    assert_eq!(rig.gate(), gate);
}
