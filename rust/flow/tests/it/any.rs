//! Any segment: moved by the differences, whatever the numbers.

use std::cell::RefCell;

use mailweir_flow::State;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::rig::{Rig, SERVER, SOURCE, flow, from_client, gate};
use crate::segment::{Segment, sack, timestamps};

/// Whatever the numbers: what is told is what was said, moved by the differences, and both
/// checksums are right.
#[test]
fn any_segment_is_moved_by_the_differences() {
    let Some(rig) = Rig::new(State::Live) else {
        return;
    };
    // Loaded once: the kernel takes longer to verify it than to run it a thousand times.
    let rig = RefCell::new(rig);
    let numbers = (any::<[u32; 2]>(), any::<[u32; 2]>(), any::<[u32; 4]>());
    let edges = prop::collection::vec(any::<u32>(), 0..6);
    let payload = prop::collection::vec(any::<u8>(), 0..1400);
    let cases = (numbers, edges, payload, any::<u16>());
    let mut runner = TestRunner::new(ProptestConfig::with_cases(1000));
    let result = runner.run(&cases, |(numbers, edges, payload, window)| {
        let ([seq, ack], [tsval, tsecr], [seq_add, ack_add, tsval_add, tsecr_add]) = numbers;
        let mut flow = flow();
        let side = &mut flow.sides[0];
        (side.told_as.seq_add, side.told_as.ack_add) = (seq_add, ack_add);
        (side.told_as.tsval_add, side.told_as.tsecr_add) = (tsval_add, tsecr_add);
        let mut rig = rig.borrow_mut();
        rig.replace(&gate(State::Live), &flow);
        let options = |tsval, tsecr, add: u32| {
            let pairs = edges.chunks_exact(2).flatten();
            let moved: Vec<u32> = pairs.map(|edge| edge.wrapping_add(add)).collect();
            let blocks = if moved.is_empty() {
                vec![]
            } else {
                sack(&moved)
            };
            [timestamps(tsval, tsecr), blocks].concat()
        };
        let said = Segment {
            seq,
            ack,
            window,
            payload,
            options: options(tsval, tsecr, 0),
            ..from_client()
        };
        let told = rig.rewritten(&said);
        let expected = Segment {
            from: SOURCE,
            to: SERVER,
            seq: seq.wrapping_add(seq_add),
            ack: ack.wrapping_add(ack_add),
            ttl: 64,
            options: options(
                tsval.wrapping_add(tsval_add),
                tsecr.wrapping_add(tsecr_add),
                ack_add,
            ),
            ..said
        };
        prop_assert_eq!(told, expected);
        Ok(())
    });
    result.unwrap();
}
