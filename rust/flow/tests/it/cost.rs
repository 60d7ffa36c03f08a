//! What the program costs: a start the time of the verifier, and a segment: `cargo test --release -p mailweir-flow -- --ignored cost
//! --nocapture`.

use aya::programs::{TestRun, TestRunOptions};
use mailweir_flow::State;

use crate::rig::{CLIENT, LISTENER, REDIRECT, Rig, UNSPEC, flow, from_client, gate};
use crate::segment::{PSH, Segment};

/// Instructions that the verifier looks at until it has seen all of a part: 22 000 and 10 000 on Linux
/// 6.18, in 55 ms for both. A turn of a loop that parts into several ways multiplies that.
const MOST_VERIFIED: u32 = 50_000;

const TIMES: u32 = 1_000_000;

/// As Linux sends them: nothing, nothing, time stamps.
fn time_stamps() -> Vec<u8> {
    vec![1, 1, 8, 10, 0, 0, 1, 0, 0, 0, 2, 0]
}

#[test]
fn the_verifier_is_done_soon() {
    let Some(mut rig) = Rig::with(&gate(State::Live), &flow()) else {
        return;
    };
    let program = &mut rig.program;
    for part in [
        program.ingress().unwrap().info(),
        program.guard().unwrap().info(),
    ] {
        // Linux says so since 5.16.
        let Some(verified) = part.unwrap().verified_instruction_count() else {
            return;
        };
        assert!(verified < MOST_VERIFIED, "{verified} instructions");
    }
}

#[test]
#[ignore = "a figure"]
fn cost_of_a_segment() {
    let mut flow = flow();
    // Told to itself, so that what comes out can go in again.
    let client = &mut flow.sides[0].told_as;
    client.told = crate::rig::keys()[0];
    client.seq_add = 0;
    client.ack_add = 0;
    let Some(mut rig) = Rig::with(&gate(State::Live), &flow) else {
        return;
    };
    let usual = Segment {
        options: time_stamps(),
        ..from_client()
    };
    let data = Segment {
        payload: vec![b'x'; 500],
        flags: PSH | usual.flags,
        ..usual.clone()
    };
    let others = Segment {
        from: LISTENER,
        to: CLIENT,
        ..usual.clone()
    };
    for (what, segment, expected) in [
        ("an acknowledgement", usual, REDIRECT),
        ("500 bytes", data, REDIRECT),
        ("nobody's", others, UNSPEC),
    ] {
        let options = TestRunOptions {
            data_in: Some(&segment.frame()),
            repeat: TIMES,
            ..TestRunOptions::new()
        };
        let result = rig.program.ingress().unwrap().test_run(options).unwrap();
        assert_eq!(result.return_value, expected);
        println!("{what}: {} ns", result.duration.as_nanos());
    }
}
