//! What becomes of segments between the stack and the wire.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use smoltcp::wire::TcpSeqNumber;

use super::args::{Ecn, Habits, Options};
use super::delay::DelayLine;
use super::segment::{Segment, each_option};

const MSS: u8 = 2;
const SCALE: u8 = 3;
pub(crate) const TIMESTAMPS: u8 = 8;
/// Of both ends, at the beginning of a frame.
const ADDRESSES: usize = 12;
/// Priority 5 and VLAN 0, by the type of such frames.
const PRIORITY_TAG: [u8; 4] = [0x81, 0x00, 0xa0, 0x00];

/// Changes what goes out, and takes back in what comes what concerns that.
pub(crate) struct Wire {
    habits: Habits,
    /// By what the numbers of each connection are moved, by its ports.
    moved: HashMap<(u16, u16), u32>,
    /// By how many bits more the windows of each are scaled than the stack does.
    scaled: HashMap<(u16, u16), u8>,
    /// One that the next one overtakes.
    held: Option<Vec<u8>>,
    delayed: DelayLine,
    passed: Passed,
    random: u32,
}

/// What became of segments with these habits.
#[derive(Default, Serialize)]
pub(crate) struct Passed {
    segments: u32,
    payloads: u32,
    lost: u32,
    twice: u32,
    swapped: u32,
}

impl Wire {
    pub(crate) fn new(habits: &Habits) -> Self {
        Self {
            habits: habits.clone(),
            moved: HashMap::new(),
            scaled: HashMap::new(),
            held: None,
            delayed: DelayLine::default(),
            passed: Passed::default(),
            random: habits.seed,
        }
    }

    /// What is sent now instead of this frame, in its order.
    pub(crate) fn out(&mut self, now: Instant, frame: Vec<u8>) -> Vec<Vec<u8>> {
        let Some(segment) = Segment::read(&frame) else {
            return vec![frame];
        };
        let mut out = vec![];
        for segment in self.pieces(segment) {
            self.send(segment, &mut out);
        }
        self.delay(now, out)
    }

    /// What waits to be overtaken, and wasn't; and what is late enough.
    pub(crate) fn rest(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let held = self.held.take().into_iter().collect();
        let mut rest = self.delay(now, held);
        rest.extend(self.delayed.take(now));
        rest
    }

    /// When the next one is late enough.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.delayed.next()
    }

    /// What became of segments so far.
    pub(crate) fn report(&self) -> serde_json::Value {
        json!({ "passed": self.passed, "delayed": self.delayed.passed() })
    }

    fn delay(&mut self, now: Instant, frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let Habits { delay, jitter, .. } = self.habits;
        if delay == 0 && jitter == 0 {
            return frames;
        }
        for frame in frames {
            let late = delay + self.random() % (jitter + 1);
            self.delayed
                .hold(now + Duration::from_millis(late.into()), frame);
        }
        vec![]
    }

    /// What the stack gets instead of this frame.
    pub(crate) fn come(&self, frame: Vec<u8>) -> Vec<u8> {
        let Some(mut segment) = Segment::read(&frame) else {
            return frame;
        };
        let (from, to) = segment.ports();
        if let Some(by) = self.moved.get(&(to, from)) {
            segment.move_ack(0_u32.wrapping_sub(*by));
        }
        segment.into_frame()
    }

    fn pieces(&mut self, mut segment: Segment) -> Vec<Segment> {
        let all = segment.payload().len();
        let Some(most) = self.habits.chop.filter(|_| all > 1) else {
            return vec![segment];
        };
        let mut pieces = vec![];
        let mut at = 0;
        while at < all {
            let size = 1 + self.random() as usize % most;
            let end = all.min(at + size);
            pieces.push(segment.part(at, end));
            at = end;
        }
        pieces
    }

    fn send(&mut self, mut segment: Segment, out: &mut Vec<Vec<u8>>) {
        self.change(&mut segment);
        let has_payload = !segment.payload().is_empty();
        self.passed.segments += 1;
        self.passed.payloads += u32::from(has_payload);
        let is_due =
            |each: Option<u32>, count: u32| each.is_some_and(|each| count.is_multiple_of(each));
        let is_first = self.habits.lose_first && self.passed.payloads == 1;
        if has_payload && (is_first || is_due(self.habits.lose, self.passed.payloads)) {
            self.passed.lost += 1;
            return;
        }
        let mut frame = segment.into_frame();
        if !has_payload {
            // There is room for it.
            frame.extend(vec![0xa5; self.habits.padding]);
        }
        if self.habits.priority_tag {
            frame.splice(ADDRESSES..ADDRESSES, PRIORITY_TAG);
        }
        if is_due(self.habits.twice, self.passed.segments) {
            self.passed.twice += 1;
            out.push(frame.clone());
        }
        if self.held.is_none() && is_due(self.habits.swap, self.passed.segments) {
            self.passed.swapped += 1;
            self.held = Some(frame);
            return;
        }
        out.push(frame);
        out.extend(self.held.take());
    }

    fn change(&mut self, segment: &mut Segment) {
        let is_syn = segment.tcp().syn();
        let ports = segment.ports();
        if is_syn {
            self.greet(segment, ports);
        }
        if let Some(by) = self.moved.get(&ports) {
            segment.move_seq(*by);
        }
        if let Some(by) = self.scaled.get(&ports).filter(|_| !is_syn) {
            let window = segment.tcp().window_len() >> by;
            segment.tcp().set_window_len(window);
        }
        if self.habits.odd_options && !is_syn {
            let options = odd(segment.options());
            segment.set_options(&options);
        }
        if self.habits.no_push {
            segment.tcp().set_psh(false);
        }
        let mut ip = segment.ip();
        ip.set_hop_limit(self.habits.ttl);
        ip.set_dont_frag(!self.habits.never_df && (is_syn || !self.habits.no_df));
        if self.habits.congested && !is_syn {
            ip.set_ecn(3);
            segment.tcp().set_ece(true);
            segment.tcp().set_cwr(true);
        }
    }

    /// What is said in a SYN alone.
    fn greet(&mut self, segment: &mut Segment, ports: (u16, u16)) {
        if let Some(first) = self.habits.begin_at {
            let TcpSeqNumber(own) = segment.tcp().seq_number();
            let by = first.wrapping_sub(own.cast_unsigned());
            self.moved.insert(ports, by);
        }
        let is_answer = segment.tcp().ack();
        if let Some(ecn) = self.habits.ecn.filter(|_| !is_answer) {
            let mut tcp = segment.tcp();
            tcp.set_ece(true);
            tcp.set_cwr(true);
            // The bit that ECN nonces had before.
            tcp.set_ns(ecn == Ecn::Accurate);
        }
        if let Some(Options(wanted)) = &self.habits.syn {
            let (options, by) = arranged(wanted.clone(), &mut segment.options());
            self.scaled.insert(ports, by);
            segment.set_options(&options);
            return;
        }
        let mut options = vec![];
        each_option(&mut segment.options(), |kind, value| {
            if kind == SCALE && self.habits.no_scale {
                return;
            }
            options.extend([kind, value.len() as u8 + 2]);
            match self.habits.mss {
                Some(mss) if kind == MSS => options.extend(mss.to_be_bytes()),
                _ => options.extend_from_slice(value),
            }
        });
        segment.set_options(&options);
    }

    /// Xorshift; the same in each run.
    fn random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}

/// Options as they are wanted: those of them that the stack has too, with its time; and by how many
/// bits more windows are scaled.
fn arranged(mut wanted: Vec<u8>, own: &mut [u8]) -> (Vec<u8>, u8) {
    let mut had = HashMap::new();
    each_option(own, |kind, value| {
        had.insert(kind, value.to_vec());
    });
    let mut by = 0;
    let (mut at, all) = (0, wanted.len());
    while let [kind, rest @ ..] = &mut wanted[at..] {
        let size = match (*kind, &*rest) {
            (0, _) => break,
            (1, _) => 1,
            (_, [size, ..]) => usize::from(*size).clamp(2, all - at),
            _ => break,
        };
        let value = rest.get_mut(1..size - 1).unwrap_or_default();
        match (*kind, had.get(kind)) {
            (TIMESTAMPS, Some(times)) => value.copy_from_slice(times),
            (SCALE, Some(scale)) => by = value[0].saturating_sub(scale[0]),
            (1 | MSS, _) | (_, Some(_)) => {}
            // It wasn't asked for.
            (_, None) => wanted[at..at + size].fill(1),
        }
        at += size;
    }
    (wanted, by)
}

/// The same options, time stamps last and at an odd place.
fn odd(mut options: Vec<u8>) -> Vec<u8> {
    let mut first = vec![];
    let mut times = vec![];
    each_option(&mut options, |kind, value| {
        let to = if kind == TIMESTAMPS {
            &mut times
        } else {
            &mut first
        };
        to.extend([kind, value.len() as u8 + 2]);
        to.extend_from_slice(value);
    });
    if !times.is_empty() {
        first.push(1);
    }
    first.extend(times);
    first
}
