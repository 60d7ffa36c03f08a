//! The time stamps that the peers of a live flow say: who speaks in their name has to know the newest.

use mailweir_flow::{Gate, State};

use crate::rig::{C, Rig, S, flow, from_client, from_server, gate};
use crate::segment::{ACK, FIN, RST, SYN, Segment, sack, timestamps};

fn rig(tsval: [u32; 2], greeting: bool) -> Option<Rig> {
    let gate = Gate {
        tsval,
        greeting,
        ..gate(State::Live)
    };
    Rig::with(&gate, &flow())
}

/// Wherever it stands among the options.
#[test]
fn the_newest_is_kept_of_each_side() {
    let Some(mut rig) = rig([50, 0xffff_fff0], false) else {
        return;
    };
    let nothing = vec![1, 1, 1, 1];
    let clients = [
        (timestamps(51, 1), 51),
        (timestamps(51, 1), 51),
        (timestamps(49, 1), 51),
        (vec![], 51),
        // A repetition is acknowledged: the last that one says, perhaps.
        ([timestamps(60, 1), sack(&[3, 4])].concat(), 60),
        ([nothing.clone(), timestamps(61, 1)].concat(), 61),
        (timestamps(0, 1), 61),
    ];
    for (options, expected) in clients {
        let said = Segment {
            options,
            ..from_client()
        };
        rig.rewritten(&said);
        assert_eq!(rig.gate().tsval, [expected, 0xffff_fff0], "{said:?}");
    }
    for (time, expected) in [(0xffff_ffff, 0xffff_ffff), (5, 5), (0xffff_fff7, 5)] {
        let said = Segment {
            options: timestamps(time, 1),
            payload: b"250 fine\r\n".to_vec(),
            ..from_server()
        };
        rig.rewritten(&said);
        assert_eq!(rig.gate().tsval, [61, expected]);
    }
}

/// Also of a server that says its greeting again, which the client hears behind our own socket's.
#[test]
fn a_server_is_heard_while_its_client_is_greeted() {
    let Some(mut rig) = rig([50, 50], true) else {
        return;
    };
    rig.rewritten(&Segment {
        options: timestamps(70, 1),
        ..from_server()
    });
    assert_eq!(rig.gate().tsval, [50, 70]);
}

/// What its receiver doesn't take has no time: somebody else may have said it.
#[test]
fn what_does_not_fit_moves_no_clock() {
    let Some(mut rig) = rig([50, 50], false) else {
        return;
    };
    let base = Segment {
        options: timestamps(90, 1),
        ..from_client()
    };
    for said in [
        // A keepalive, which its receiver doesn't take the time from (RFC 7323, 5.3).
        Segment {
            seq: C[0] - 1,
            ..base.clone()
        },
        Segment {
            seq: C[0] + 100_000,
            ..base.clone()
        },
        Segment {
            ack: C[1].wrapping_add(1),
            ..base.clone()
        },
        Segment {
            flags: SYN,
            ..base.clone()
        },
        Segment {
            flags: RST,
            seq: C[0] + 5,
            ..base.clone()
        },
    ] {
        rig.rewritten(&said);
        assert_eq!(rig.gate().tsval, [50, 50], "{said:?}");
    }
    rig.rewritten(&Segment {
        flags: FIN | ACK,
        ..base
    });
    assert_eq!(rig.gate().tsval, [90, 50]);
}

/// What is said in its peer's name is answered by a segment that moves the flow, and nothing else:
/// nobody has spoken.
#[test]
fn the_answer_to_a_keepalive_is_heard() {
    let Some(mut rig) = rig([50, 50], false) else {
        return;
    };
    rig.has_moved();
    let before = (rig.gate().acked, rig.flow());
    let told = rig.rewritten(&Segment {
        options: timestamps(80, 40),
        ..from_client()
    });
    assert_eq!((told.seq, told.ack), (S[1], S[0]));
    assert!(rig.has_moved());
    let (acked, mut flow) = (rig.gate().acked, rig.flow());
    assert_eq!(flow.sides[0].segs_in, before.1.sides[0].segs_in + 1);
    flow.sides[0].segs_in -= 1;
    flow.sides[1].wnd_end = before.1.sides[1].wnd_end;
    flow.sides[0].max_window = before.1.sides[0].max_window;
    assert_eq!((acked, flow), before);
}
