//! The sessions on the kernel path, from their hand-over to the day that nothing of them is left.
//! Pure: no sockets, no clock, no map inside. The sweeper's thread alone has it.
//!
//! In come arrivals, flows that moved, what was read of them, and the time. Out go effects, which
//! the sweeper carries out in their order. What a session and its client's socket are is not known
//! here: they come in with an arrival, and go out with the effect that needs them.
//!
//! A flow is [greeting](Phase::Greets) its client, lives, owes its record to the log, and is over.
//! Then its keys linger, and its number is free.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mailweir_flow::{Key, State};

use crate::record::End;

use super::calendar::Calendar;
use super::keepalive::{Keepalive, Outlook, Patience};

/// For a client to acknowledge its greeting.
const GREETING_LIMIT: Duration = Duration::from_secs(60);
/// How long the keys of a flow are kept that has ended: as long as a server's TIME_WAIT, so that
/// late repetitions find them and its port isn't used too soon.
pub(super) const LINGER: Duration = if cfg!(feature = "failpoints") {
    // For tests, which wait for it.
    Duration::from_secs(1)
} else {
    Duration::from_secs(60)
};
/// A number is another flow's only when no segment that found the old one is still looked at.
const GRACE: Duration = Duration::from_millis(20);
/// Limits are looked at so exactly.
const EXACT: Duration = Duration::from_secs(1);

/// All flows. `S` is a session as it is kept, `C` its client's socket.
#[derive(Debug)]
pub(super) struct FlowTable<S, C> {
    flows: Vec<Option<Box<Known<S, C>>>>,
    /// When each flow is to be looked at, whether or not it moves: by seconds since `began`. A flow
    /// may stand at several; the one that it has itself counts.
    due: Calendar,
    began: Instant,
    patience: Patience,
    /// Flows that moved since they were counted last, a bit for each.
    moved: Vec<u64>,
    /// Keys of flows that are over, the first first.
    lingering: VecDeque<Lingering>,
    /// Numbers that are about to be free.
    freed: VecDeque<(Instant, u32)>,
    effects: VecDeque<Effect<S, C>>,
}

#[derive(Debug)]
struct Known<S, C> {
    /// By which segments of client and server find it.
    keys: [Key; 2],
    phase: Phase<S, C>,
    /// The second in which it is to be looked at.
    due: u64,
    /// Since its peers are nobody's else to ask whether they are there.
    keepalive: Keepalive,
}

#[derive(Debug)]
enum Phase<S, C> {
    /// The client's socket says the greeting until that is acknowledged.
    Greets {
        session: S,
        client: C,
        until: Instant,
    },
    Lives {
        session: S,
    },
    /// Its record isn't in the log: if the process ends before, the next one finds it by its keys.
    Owes,
}

#[derive(Debug)]
struct Lingering {
    until: Instant,
    key: Key,
    /// Whether the server says it: then it has a port of ours.
    of_server: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect<S, C> {
    /// Read how the flow stands, count it, and say until when it may go on.
    Measure(u32),
    /// The client has its greeting: close its socket without a word.
    Silence {
        /// Its flow.
        number: u32,
        /// Of its flow.
        keys: [Key; 2],
        /// That socket.
        client: C,
    },
    /// The client never acknowledged its greeting: tell both peers.
    Abandon(u32),
    /// Close its record.
    Close {
        /// Its number, which stays its own until the record is in the log.
        number: u32,
        /// With its record.
        session: S,
        /// Its client's socket, if it still had that.
        client: Option<C>,
        /// None where it ended by itself.
        why: Option<End>,
    },
    /// From now on it is to be nothing but keys: it [`lingers`](FlowTable::lingers) then.
    Linger(u32, [Key; 2]),
    /// Nothing leads to that number any more.
    FreeNumber(u32),
    /// Late segments of it can't come any more; with the server's key its port is free.
    Forget {
        /// What a peer said.
        key: Key,
        /// Whether that is the server.
        of_server: bool,
    },
}

/// What the program says of a flow, in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sight {
    /// None where it makes no sense.
    pub(super) state: Option<State>,
    /// The client hasn't acknowledged all of its greeting.
    pub(super) greeting_is_due: bool,
}

impl Sight {
    fn lives(self) -> bool {
        matches!(self.state, Some(State::Live | State::Hold))
    }
}

impl<S, C> FlowTable<S, C> {
    pub(super) fn new(now: Instant, patience: Patience) -> Self {
        Self {
            flows: vec![],
            due: Calendar::default(),
            began: now,
            patience,
            moved: vec![],
            lingering: VecDeque::new(),
            freed: VecDeque::new(),
            effects: VecDeque::new(),
        }
    }

    /// Keys of flows that are over.
    pub(super) fn lingering(&self) -> usize {
        self.lingering.len()
    }

    /// Each flow that hasn't ended.
    pub(super) fn sessions(&self) -> impl Iterator<Item = ([Key; 2], u32, &S)> {
        let flows = (0..).zip(&self.flows);
        flows.filter_map(|(number, entry)| {
            let entry = entry.as_deref()?;
            Some((entry.keys, number, entry.phase.session()?))
        })
    }

    /// A flow that hasn't ended.
    pub(super) fn session(&mut self, number: u32) -> Option<&mut S> {
        match &mut self.entry(number)?.phase {
            Phase::Greets { session, .. } | Phase::Lives { session } => Some(session),
            Phase::Owes => None,
        }
    }

    /// Whether some client may not have its greeting yet.
    pub(super) fn greets(&self) -> bool {
        let mut all = self.flows.iter().flatten();
        all.any(|entry| matches!(entry.phase, Phase::Greets { .. }))
    }

    /// A session that was handed over, or that an earlier process left: then it has no socket.
    pub(super) fn arrive(
        &mut self,
        now: Instant,
        number: u32,
        keys: [Key; 2],
        session: S,
        client: Option<C>,
    ) {
        let second = self.second_of(now);
        let (phase, keepalive) = match client {
            Some(client) => {
                let until = now + GREETING_LIMIT;
                let phase = Phase::Greets {
                    session,
                    client,
                    until,
                };
                (phase, Keepalive::begin(second, &self.patience))
            }
            None => {
                let keepalive = Keepalive::go_on(second, number, &self.patience);
                (Phase::Lives { session }, keepalive)
            }
        };
        self.put(number, keys, phase, keepalive);
        self.moves(number);
    }

    /// One whose record is owed: closed by whoever found it, known by its keys until that is in
    /// the log.
    pub(super) fn owe(&mut self, now: Instant, number: u32, keys: [Key; 2]) {
        let keepalive = Keepalive::begin(self.second_of(now), &self.patience);
        self.put(number, keys, Phase::Owes, keepalive);
    }

    /// A key of a flow that is over; also one that an earlier process left.
    pub(super) fn linger(&mut self, now: Instant, key: Key, of_server: bool) {
        self.lingering.push_back(Lingering {
            until: now + LINGER,
            key,
            of_server,
        });
    }

    /// It was looked at: it moved, or somebody wants it to be looked at.
    pub(super) fn look(&mut self, now: Instant, number: u32, sight: Sight) {
        if self.see(now, number, sight) {
            self.moves(number);
        }
    }

    /// It was measured, and its peers had said so many segments: whom of them to ask, and when it is to be
    /// measured again for that. None where its client's own socket waits for an answer.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        number: u32,
        said: [u32; 2],
    ) -> Option<(Outlook, Instant)> {
        let (second, began, patience) = (self.second_of(now), self.began, self.patience);
        let entry = self.entry(number)?;
        if !matches!(entry.phase, Phase::Lives { .. }) {
            return None;
        }
        let step = entry.keepalive.look(second, said, &patience);
        Some((step, began + Duration::from_secs(step.next.into())))
    }

    /// It was measured, and may go on until then. Whether it is to be cut now: unless it moves
    /// meanwhile.
    pub(super) fn stands(
        &mut self,
        now: Instant,
        number: u32,
        sight: Sight,
        until: Instant,
    ) -> bool {
        if !self.see(now, number, sight) {
            return false;
        }
        let began = self.began;
        let Some(entry) = self.entry(number) else {
            return false;
        };
        let (until, is_over) = match &entry.phase {
            // A client that hasn't heard the greeting can't be silent yet.
            Phase::Greets { until, .. } => (*until, false),
            Phase::Lives { .. } if until > now => (until, false),
            // It is looked at again where it moved meanwhile.
            _ => (now + EXACT, true),
        };
        let second = until.saturating_duration_since(began);
        let second = second.as_secs() + u64::from(second.subsec_nanos() > 0);
        // The one that it stands at, if any, is soon enough otherwise.
        if entry.due == 0 || second < entry.due {
            entry.due = second;
            self.due.put(second, number);
        }
        is_over
    }

    /// It was cut.
    pub(super) fn was_cut(&mut self, number: u32, why: End) {
        self.end(number, Some(why));
    }

    /// Its record is in the log, or will never be.
    pub(super) fn recorded(&mut self, number: u32) {
        let owes = |entry: &mut Box<Known<S, C>>| matches!(entry.phase, Phase::Owes);
        let entry = self.flows.get_mut(number as usize);
        if let Some(entry) = entry.and_then(|entry| entry.take_if(owes)) {
            self.effects.push_back(Effect::Linger(number, entry.keys));
        }
    }

    /// It is nothing but keys now. From then on the time goes after which they are over, and after which
    /// its number is free, however long that took.
    pub(super) fn lingers(&mut self, now: Instant, number: u32, keys: [Key; 2]) {
        let [client, server] = keys;
        self.linger(now, client, false);
        self.linger(now, server, true);
        self.freed.push_back((now, number));
    }

    /// Time went on: numbers and keys that are over, and flows whose second has come.
    pub(super) fn tick(&mut self, now: Instant) {
        self.effects.extend(self.due.tick().map(Effect::Measure));
        while let Some((since, number)) = self.freed.front().copied()
            && now >= since + GRACE
        {
            self.freed.pop_front();
            self.effects.push_back(Effect::FreeNumber(number));
        }
        while let Some(first) = self.lingering.front()
            && now >= first.until
        {
            let (key, of_server) = (first.key, first.of_server);
            self.lingering.pop_front();
            self.effects.push_back(Effect::Forget { key, of_server });
        }
    }

    /// A second has gone by: those that moved in it are to be counted, and those whose time has come
    /// are to be looked at.
    pub(super) fn second(&mut self, now: Instant) {
        for (word, bits) in (0..).zip(&mut self.moved) {
            let mut bits = std::mem::take(bits);
            while bits != 0 {
                let number = word * u64::BITS + bits.trailing_zeros();
                self.effects.push_back(Effect::Measure(number));
                bits &= bits - 1;
            }
        }
        let second = now.saturating_duration_since(self.began).as_secs();
        let flows = &mut self.flows;
        self.due.reach(second, |number, at| {
            let entry = flows.get_mut(number as usize).and_then(Option::as_mut);
            let due = entry.map(|entry| &mut entry.due);
            due.filter(|due| **due == at).map(std::mem::take).is_some()
        });
    }

    /// Flows that are to be measured, as far as is known.
    pub(super) fn to_be_measured(&self) -> impl Iterator<Item = u32> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Measure(number) => Some(*number),
            _ => None,
        })
    }

    /// What is to be done next.
    pub(super) fn next_effect(&mut self) -> Option<Effect<S, C>> {
        self.effects.pop_front()
    }

    /// After a panic in the middle of something: the same flows, each to be looked at anew. One whose
    /// session was under way is over.
    pub(super) fn again(mut self, now: Instant) -> Self {
        let mut table = Self::new(now, self.patience);
        table.lingering = std::mem::take(&mut self.lingering);
        table.freed = std::mem::take(&mut self.freed);
        table.effects = std::mem::take(&mut self.effects);
        for (number, entry) in (0..).zip(self.flows) {
            let Some(entry) = entry else { continue };
            match entry.phase {
                Phase::Greets {
                    session, client, ..
                } => table.arrive(now, number, entry.keys, session, Some(client)),
                Phase::Lives { session } => table.arrive(now, number, entry.keys, session, None),
                Phase::Owes => table.owe(now, number, entry.keys),
            }
        }
        table
    }

    /// The process ends: one that it had, with its number and its client's socket.
    pub(super) fn take_session(&mut self) -> Option<(u32, S, Option<C>)> {
        while let Some(entry) = self.flows.pop() {
            let number = self.flows.len() as u32;
            match entry.map(|entry| entry.phase) {
                Some(Phase::Greets {
                    session, client, ..
                }) => return Some((number, session, Some(client))),
                Some(Phase::Lives { session }) => return Some((number, session, None)),
                Some(Phase::Owes) | None => {}
            }
        }
        None
    }

    /// What follows from how it is; whether it goes on. A number that was given back before its last
    /// segment was seen is nobody's.
    fn see(&mut self, now: Instant, number: u32, sight: Sight) -> bool {
        let is_due = sight.lives() && sight.greeting_is_due;
        let until = match self.entry(number).map(|entry| &entry.phase) {
            None | Some(Phase::Owes) => return false,
            Some(Phase::Greets { until, .. }) => Some(*until),
            Some(Phase::Lives { .. }) => None,
        };
        if until.is_some_and(|until| is_due && now >= until) {
            self.effects.push_back(Effect::Abandon(number));
            self.end(number, None);
            return false;
        }
        if until.is_some() && !is_due {
            self.silence(number);
        }
        if !sight.lives() {
            self.end(number, None);
        }
        sight.lives()
    }

    fn put(&mut self, number: u32, keys: [Key; 2], phase: Phase<S, C>, keepalive: Keepalive) {
        let at = number as usize;
        if self.flows.len() <= at {
            self.flows.resize_with(at + 1, || None);
        }
        self.flows[at] = Some(Box::new(Known {
            keys,
            phase,
            due: 0,
            keepalive,
        }));
    }

    fn second_of(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.began).as_secs() as u32
    }

    fn entry(&mut self, number: u32) -> Option<&mut Known<S, C>> {
        self.flows.get_mut(number as usize)?.as_deref_mut()
    }

    fn moves(&mut self, number: u32) {
        let (word, bit) = ((number / u64::BITS) as usize, number % u64::BITS);
        if self.moved.len() <= word {
            self.moved.resize(word + 1, 0);
        }
        self.moved[word] |= 1 << bit;
    }

    fn silence(&mut self, number: u32) {
        let Some(entry) = self.entry(number) else {
            return;
        };
        match std::mem::replace(&mut entry.phase, Phase::Owes) {
            Phase::Greets {
                session, client, ..
            } => {
                let keys = entry.keys;
                entry.phase = Phase::Lives { session };
                self.effects.push_back(Effect::Silence {
                    number,
                    keys,
                    client,
                });
            }
            other => entry.phase = other,
        }
    }

    fn end(&mut self, number: u32, why: Option<End>) {
        let Some(entry) = self.entry(number) else {
            return;
        };
        let (session, client) = match std::mem::replace(&mut entry.phase, Phase::Owes) {
            Phase::Greets {
                session, client, ..
            } => (session, Some(client)),
            Phase::Lives { session } => (session, None),
            Phase::Owes => return,
        };
        self.effects.push_back(Effect::Close {
            number,
            session,
            client,
            why,
        });
    }
}

impl<S, C> Phase<S, C> {
    fn session(&self) -> Option<&S> {
        match self {
            Self::Greets { session, .. } | Self::Lives { session } => Some(session),
            Self::Owes => None,
        }
    }
}

#[cfg(test)]
mod asking;
#[cfg(test)]
mod tests;
