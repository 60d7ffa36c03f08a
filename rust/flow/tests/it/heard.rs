//! What a segment moves: only what its receiver would take, and for good only what it acknowledges
//! (RFC 9293, RFC 5961).

use mailweir_flow::layout::{END_FIN, END_FIN_ACKED, END_FIRST, END_RST};
use mailweir_flow::{Flow, Gate, State};

use crate::rig::{C, CLIENT, Rig, S, SERVER, UNSPEC, flow, from_client, from_server, gate};
use crate::segment::{ACK, FIN, PSH, RST, SYN, Segment};

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
    assert_eq!(rig.gate().state, Some(State::Live));
    let last = Segment {
        seq: C[0] + 1,
        ack: C[1].wrapping_add(1),
        ..from_client()
    };
    rig.rewritten(&last);
    assert_eq!(rig.gate().state, Some(State::Closing));
    // Late repetitions still get through, and a new connection gets to the stack.
    assert_eq!(rig.rewritten(&last).to, SERVER);
    let of_server = Segment {
        flags: SYN,
        ..from_server()
    };
    assert_eq!(rig.rewritten(&of_server).to, CLIENT);
    let again = Segment {
        flags: SYN,
        ..from_client()
    };
    assert_eq!(rig.ingress(&again).0, UNSPEC);
    assert_eq!(rig.gate().state, Some(State::Passed));
}

#[test]
fn a_reset_ends_a_flow_only_with_a_number_that_is_due() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    for seq in [C[0] + 1, C[0] - 1, 0, C[0] + 30_000] {
        assert_eq!(rig.rewritten(&reset(seq)).flags, RST);
        assert_eq!(rig.gate().state, Some(State::Live));
    }
    rig.rewritten(&reset(C[0]));
    assert_eq!(rig.gate().state, Some(State::Closing));
    assert_eq!(rig.flow().sides[0].ends, END_RST | END_FIRST);
}

/// Who resets goes by what he has said, whether anybody has acknowledged it or not; who answers
/// for somebody who is gone goes by what the other has acknowledged.
#[test]
fn a_reset_behind_what_is_on_its_way_ends_a_flow() {
    let quit = Segment {
        payload: b"QUIT\r\n".to_vec(),
        ..from_client()
    };
    let end = Segment {
        flags: FIN | ACK,
        seq: C[0] + 6,
        ..from_client()
    };
    for (said, behind, ends) in [
        (vec![&quit], 6, true),
        (vec![&quit], 0, true),
        (vec![&quit, &end], 7, true),
        // A stack that counts its end only once it is acknowledged.
        (vec![&quit, &end], 6, true),
        (vec![&quit], 1, false),
        (vec![&quit], 7, false),
        (vec![&quit, &end], 8, false),
    ] {
        let Some(mut rig) = Rig::new(State::Live) else {
            return;
        };
        for segment in said {
            rig.rewritten(segment);
        }
        rig.rewritten(&reset(C[0] + behind));
        let expected = Some(if ends { State::Closing } else { State::Live });
        assert_eq!(rig.gate().state, expected, "{behind}");
        assert_eq!(rig.flow().sides[0].words, *b"\0\0QUIT\r\n");
    }
}

fn reset(seq: u32) -> Segment {
    Segment {
        flags: RST,
        seq,
        ..from_client()
    }
}

/// What nobody acknowledges was said by somebody else, or its checksum is wrong.
#[test]
fn what_is_not_acknowledged_does_not_count() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let before = (rig.gate().acked, rig.flow().sides[0].bytes_acked);
    let forged = |flags, distance| Segment {
        flags,
        seq: C[0] + distance,
        payload: b"QUIT\r\n".to_vec(),
        ..from_client()
    };
    // In the window, and with a number that was said.
    rig.rewritten(&forged(PSH | ACK, 60_000));
    rig.rewritten(&forged(FIN | ACK, 60_000));
    assert_eq!((rig.gate().acked, rig.flow().sides[0].bytes_acked), before);
    // The client goes on, and what it says is heard.
    rig.rewritten(&forged(PSH | ACK, 0));
    let hears = |ack| Segment {
        ack: S[1] + ack,
        ..from_server()
    };
    rig.rewritten(&hears(6));
    let flow = rig.flow();
    assert_eq!(
        (flow.sides[0].bytes_acked, flow.sides[0].snd_una),
        (6, C[0] + 6)
    );
    assert_eq!(flow.sides[0].ends & END_FIN_ACKED, 0);
    // What it says behind an end that it didn't say takes that back.
    for thousand in 0..61 {
        rig.rewritten(&Segment {
            seq: C[0] + 6 + 1000 * thousand,
            payload: vec![b'x'; 1000],
            ..from_client()
        });
        rig.rewritten(&hears(1006 + 1000 * thousand));
    }
    let side = rig.flow().sides[0];
    assert_eq!(
        (side.bytes_acked, side.ends, side.outstanding()),
        (61_006, 0, 0)
    );
}

/// Somebody says in its name more than it ever does: it ends as it always would have.
#[test]
fn an_end_before_what_was_forged_is_one() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    rig.rewritten(&Segment {
        seq: C[0] + 60_000,
        payload: b"QUIT\r\n".to_vec(),
        ..from_client()
    });
    rig.rewritten(&Segment {
        flags: FIN | ACK,
        ..from_client()
    });
    rig.rewritten(&Segment {
        flags: FIN | ACK,
        ack: S[1] + 1,
        ..from_server()
    });
    let side = rig.flow().sides[0];
    assert_eq!((side.bytes_acked, side.outstanding()), (0, 0));
    rig.rewritten(&Segment {
        seq: C[0] + 1,
        ack: C[1].wrapping_add(1),
        ..from_client()
    });
    assert_eq!(rig.gate().state, Some(State::Closing));
}

/// An end in the middle of what was said already, of which the first part is acknowledged.
#[test]
fn an_end_in_the_middle_is_none() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    rig.rewritten(&Segment {
        payload: vec![b'x'; 1000],
        ..from_client()
    });
    rig.rewritten(&Segment {
        flags: FIN | ACK,
        seq: C[0] + 499,
        ..from_client()
    });
    for (heard, ends) in [(500, END_FIN | END_FIN_ACKED | END_FIRST), (1000, 0)] {
        rig.rewritten(&Segment {
            ack: S[1] + heard,
            ..from_server()
        });
        assert_eq!(rig.flow().sides[0].ends, ends);
    }
    assert_eq!(rig.flow().sides[0].bytes_acked, 1000);
}

/// RFC 5961, 5.2: up to what the other one said, and back as far as it could ever send at once.
#[test]
fn acknowledgements_that_nobody_can_mean_move_nothing() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let before = moved(&mut rig);
    let most = 512 << 7;
    for distance in [
        1,
        40_000,
        0x7fff_ffff,
        0x8000_0000,
        0_u32.wrapping_sub(most + 1),
    ] {
        let guess = Segment {
            flags: FIN | ACK,
            ack: C[1].wrapping_add(distance),
            payload: b"MAIL FROM".to_vec(),
            window: 60_000,
            ..from_client()
        };
        rig.rewritten(&guess);
        assert_eq!(moved(&mut rig), before, "{distance}");
    }
    let late = Segment {
        ack: C[1].wrapping_sub(most),
        payload: b"MAIL FROM".to_vec(),
        ..from_client()
    };
    rig.rewritten(&late);
    assert_eq!(rig.flow().sides[0].snd_nxt, C[0] + 9);
    assert_eq!(rig.flow().sides[1].snd_una, S[0]);
}

/// A window that is shut is asked for with a byte more, or with one that was heard already, and an
/// end may come as well.
#[test]
fn a_shut_window_is_asked_for() {
    let mut flow = flow();
    flow.sides[0].wnd_end = C[0];
    let Some(mut rig) = Rig::with(&gate(State::Live), &flow) else {
        return;
    };
    let asks = |flags, payload: &[u8]| Segment {
        flags,
        payload: payload.to_vec(),
        ..from_client()
    };
    rig.rewritten(&asks(ACK, b"12"));
    assert_eq!(rig.flow().sides[0].snd_nxt, C[0]);
    rig.rewritten(&asks(FIN | ACK, b""));
    assert_eq!(rig.flow().sides[0].ends, END_FIN | END_FIRST);
    rig.rewritten(&asks(ACK, b"1"));
    assert_eq!(rig.flow().sides[0].snd_nxt, C[0] + 1);
}

/// Not everybody who speaks keeps to the window, and not everybody who hears cuts off what is
/// beyond it (Linux before 6.17).
#[test]
fn what_begins_in_the_window_is_said_to_its_end() {
    let mut flow = flow();
    flow.sides[0].wnd_end = C[0] + 100;
    let Some(mut rig) = Rig::with(&gate(State::Live), &flow) else {
        return;
    };
    let says = |at, flags| Segment {
        seq: C[0] + at,
        flags,
        payload: vec![b'x'; 1000],
        ..from_client()
    };
    rig.rewritten(&says(100, ACK));
    assert_eq!(rig.flow().sides[0].snd_nxt, C[0]);
    rig.rewritten(&says(0, ACK));
    rig.rewritten(&Segment {
        ack: S[1] + 1000,
        ..from_server()
    });
    let side = rig.flow().sides[0];
    assert_eq!((side.bytes_acked, side.outstanding()), (1000, 0));
    rig.rewritten(&says(1000, FIN | ACK));
    assert_eq!(rig.flow().sides[0].ends, END_FIN | END_FIRST);
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
    for flags in [SYN, SYN | ACK] {
        let syn = Segment {
            flags,
            payload: b"MAIL FROM".to_vec(),
            ..from_client()
        };
        assert_eq!(rig.rewritten(&syn).flags, flags);
    }
    assert_eq!(moved(&mut rig), before);
}

/// What a segment moves, but for counts of segments.
fn moved(rig: &mut Rig) -> (Gate, Flow) {
    let (mut gate, mut flow) = (rig.gate(), rig.flow());
    gate.counted = [0; 2];
    flow.sides[0].segs_in = 0;
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
    let known = |rig: &mut Rig| (rig.flow().sides[0].snd_una, rig.flow().sides[0].wnd_end);
    let expected = (C[0] + 1000, C[0] + 1000 + (2000 << 7));
    assert_eq!(known(&mut rig), expected);
    for (ack, window) in [(1000, 0), (500, 1000), (0, 0), (1000, 1)] {
        rig.rewritten(&announces(ack, window));
    }
    assert_eq!(known(&mut rig), expected);
}
