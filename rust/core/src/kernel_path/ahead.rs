//! Flows that are looked at together, read from their table many at a time: a call of bpf(2) for each
//! costs more than all that is done with it.

use std::ops::Range;

use mailweir_flow::Flow;

use super::{KernelPath, lock};

/// Flows that are read at once, one behind the other.
const BLOCK: u32 = 256;
/// Where so many of them are wanted: the others are read for nothing.
const ENOUGH: u32 = BLOCK / 8;

/// Which flows are wanted, and those that were read last.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// How many of each block, as far as was asked.
    wanted: Vec<u32>,
    /// The block that was read, and all of it.
    read: Option<u32>,
    bytes: Vec<u8>,
}

impl Ahead {
    /// For flows that are about to be looked at.
    pub(super) fn of(numbers: impl Iterator<Item = u32>) -> Self {
        let mut ahead = Self::default();
        for number in numbers {
            let block = (number / BLOCK) as usize;
            if ahead.wanted.len() <= block {
                ahead.wanted.resize(block + 1, 0);
            }
            ahead.wanted[block] += 1;
        }
        ahead
    }

    /// A flow as it was a moment ago; none where it wasn't read with others. `fetch` is told all that are
    /// read at once, before it.
    pub(super) fn flow(
        &mut self,
        path: &KernelPath,
        number: u32,
        fetch: impl FnOnce(Range<u32>),
    ) -> Option<Flow> {
        let block = number / BLOCK;
        if self.read != Some(block) {
            let wanted = self.wanted.get_mut(block as usize)?;
            // Once: what moves later isn't as it was.
            if std::mem::take(wanted) < ENOUGH {
                return None;
            }
            self.read = Some(block);
            fetch(block * BLOCK..(block + 1) * BLOCK);
            self.bytes.resize(BLOCK as usize * Flow::SIZE, 0);
            let tables = lock(path.of_sweeper());
            let found = tables.flows_from(block * BLOCK, &mut self.bytes);
            drop(tables);
            // What can't be had so is read one by one.
            self.bytes.truncate(found * Flow::SIZE);
        }
        let (flows, _) = self.bytes.as_chunks();
        flows.get((number % BLOCK) as usize).map(Flow::from_bytes)
    }
}

#[cfg(test)]
mod tests {
    use mailweir_flow::Program;

    use super::*;

    /// Where the program can be loaded at all; the flow crate's tests fail in CI where it can't.
    #[test]
    fn those_of_a_block_are_read_at_once() {
        let Ok(mut program) = Program::load() else {
            return;
        };
        let tables = program.tables();
        let all = tables.most_flows();
        for number in 0..all {
            let mut flow = Flow::from_bytes(&[0; Flow::SIZE]);
            flow.greeting_seq = 1_000 + number;
            tables.set_flow(number, &flow).unwrap();
        }
        let read = |first, most: u32| {
            let mut bytes = vec![0; most as usize * Flow::SIZE];
            let found = tables.flows_from(first, &mut bytes);
            let (flows, _) = bytes.as_chunks();
            let flows = flows.iter().take(found).map(Flow::from_bytes);
            flows.map(|flow| flow.greeting_seq).collect::<Vec<_>>()
        };
        for (first, most, expected) in [(0, 10, 0..10), (7, 9, 7..16), (0, 2 * all, 0..all)] {
            let expected: Vec<_> = expected.map(|number| 1_000 + number).collect();
            assert_eq!(read(first, most), expected);
        }
        assert_eq!(read(all - 1, 5), [1_000 + all - 1]);
        assert!(read(all, 5).is_empty());
    }

    #[test]
    fn a_few_are_not_worth_it() {
        let wanted = |numbers: std::ops::Range<u32>| Ahead::of(numbers).wanted;
        assert_eq!(wanted(0..0), [0; 0]);
        assert_eq!(wanted(0..ENOUGH), [ENOUGH]);
        assert_eq!(wanted(BLOCK - 5..2 * BLOCK), [5, BLOCK]);
    }
}
