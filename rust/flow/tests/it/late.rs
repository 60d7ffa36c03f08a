//! What is left of a flow that is over: its keys, and how what comes late is told.

use mailweir_flow::{Counter, Key, Late, Place, State};

use crate::rig::{C, NUMBER, REDIRECT, Rig, S, SHOT, UNSPEC, flow, gate, keys};
use crate::segment::{ACK, FIN, RST, SYN, Segment};

fn said(key: Key, [own, others]: [u32; 2], flags: u8) -> Segment {
    Segment {
        seq: own,
        ack: others,
        flags,
        ..Segment::new(key.from, key.to)
    }
}

/// Its gate and its flow are somebody else's by now.
fn over() -> Option<Rig> {
    let mut rig = Rig::new(State::Hold)?;
    let of = flow();
    for (side, key) in (0..).zip(keys()) {
        let late = Late {
            told_as: of.sides[side as usize].told_as,
            out: 1,
            until: 7,
        };
        rig.program.tables().linger(&[(key, side, late)]);
    }
    Some(rig)
}

#[test]
fn it_is_told_as_before() {
    let Some(mut rig) = over() else { return };
    let mut lives = Rig::new(State::Live).unwrap();
    let [client, server] = keys();
    for (key, own, flags) in [
        (client, C, ACK),
        (client, C, ACK | FIN),
        (server, S, ACK | FIN),
        (server, S, RST),
    ] {
        let said = said(key, own, flags);
        assert_eq!(rig.rewritten(&said), lives.rewritten(&said));
    }
    // It counts nowhere.
    assert_eq!(rig.flow(), flow());
    assert_eq!(rig.gate().counted, [0, 0]);
}

#[test]
fn our_own_stack_says_nothing_about_it() {
    let Some(mut rig) = over() else { return };
    let [client, _] = keys();
    let ours = said(client.reversed(), [C[1], C[0]], RST);
    assert_eq!(rig.guard(&ours).0, SHOT);
    assert_eq!(rig.counted(Counter::Guarded), 1);
}

#[test]
fn its_client_may_come_back_from_the_same_port() {
    let Some(mut rig) = over() else { return };
    let [client, server] = keys();
    let late = said(client, C, ACK);
    let again = said(client, [5, 0], SYN);
    assert_eq!(rig.ingress(&late).0, REDIRECT);
    assert_eq!(rig.ingress(&again).0, UNSPEC);
    // From here on the stack decides, and answers.
    assert_eq!(rig.ingress(&late).0, UNSPEC);
    let answer = said(client.reversed(), [1, 6], SYN | ACK);
    assert_eq!(rig.guard(&answer).0, UNSPEC);
    // A server's SYN is none that may begin anything.
    let servers = said(server, [5, 0], SYN);
    assert_eq!(rig.ingress(&servers).0, REDIRECT);
}

#[test]
fn it_is_forgotten_and_what_leads_to_a_flow_stays() {
    let Some(mut rig) = over() else { return };
    let [client, server] = keys();
    let tables = rig.program.tables();
    assert_eq!(tables.lingers_until(client), Some(7));
    assert_eq!(tables.place(client).and_then(|place| place.number()), None);
    let place = Place {
        flow: NUMBER,
        side: 0,
    };
    tables.replace(client, place).unwrap();
    tables.forget(&[server]);
    for key in [client, server] {
        assert_eq!(tables.lingers_until(key), None);
    }
    assert_eq!(tables.place(client), Some(place));
    assert_eq!(tables.place(server), None);
}

#[test]
fn flows_that_move_are_marked() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let [client, _] = keys();
    assert!(!rig.has_moved());
    let ehlo = |seq| Segment {
        payload: b"EHLO x\r\n".to_vec(),
        ..said(client, [seq, C[1]], ACK)
    };
    rig.rewritten(&ehlo(C[0]));
    assert!(rig.has_moved());
    // What nobody takes moves nothing.
    rig.ingress(&ehlo(C[0].wrapping_add(1 << 30)));
    assert!(!rig.has_moved());
    rig.rewritten(&said(client, [C[0] + 8, 0], RST));
    assert_eq!(rig.gate().state, Some(State::Closing));
    assert!(rig.has_moved());
}

#[test]
fn each_flow_has_its_bit() {
    let Some(mut rig) = Rig::new(State::Live) else {
        return;
    };
    let [client, _] = keys();
    for number in [0, 31, 32, 63] {
        let tables = rig.program.tables();
        tables.set_gate(number, &gate(State::Live)).unwrap();
        tables.set_flow(number, &flow()).unwrap();
        let place = Place {
            flow: number,
            side: 0,
        };
        tables.replace(client, place).unwrap();
        rig.rewritten(&said(client, C, ACK));
        assert_eq!(rig.marked(), [number]);
    }
}
