//! Flows whose peers are silent, in the table: who is asked whether it is there, and when.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;

use super::*;
use crate::record::{EndReason, Side};

const PATIENCE: Patience = Patience {
    first: 60,
    every: 75,
    most: 720,
};
const HOUR: Duration = Duration::from_secs(3600);

/// A flow as it really is.
#[derive(Debug, Clone, Copy)]
struct SilentFlow {
    /// Segments of client and server, and when each said one last.
    said: [u32; 2],
    last: [u64; 2],
    answers: [bool; 2],
    asked: [u32; 2],
    greets: bool,
    is_over: bool,
}

struct SilentWorld {
    table: FlowTable<u32, u32>,
    began: Instant,
    second: u64,
    flows: BTreeMap<u32, SilentFlow>,
    /// How many were measured with the tick that had most of them.
    most: usize,
    lost: Vec<(u64, u32, Side)>,
}

impl SilentWorld {
    fn new() -> Self {
        let began = Instant::now();
        Self {
            table: FlowTable::new(began, PATIENCE),
            began,
            second: 0,
            flows: BTreeMap::new(),
            most: 0,
            lost: vec![],
        }
    }

    fn now(&self) -> Instant {
        self.began + Duration::from_secs(self.second)
    }

    fn arrives(&mut self, number: u32, answers: [bool; 2], greets: bool) {
        let at = |last| SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), 25);
        let key = Key {
            from: at(1),
            to: at(2),
        };
        let client = greets.then_some(number);
        self.table
            .arrive(self.now(), number, [key; 2], number, client);
        let truth = SilentFlow {
            said: [u32::from(!greets); 2],
            last: [self.second; 2],
            answers,
            asked: [0; 2],
            greets,
            is_over: false,
        };
        self.flows.insert(number, truth);
    }

    fn sight(&self, number: u32) -> Sight {
        let truth = &self.flows[&number];
        Sight {
            state: Some(if truth.is_over {
                State::Closing
            } else {
                State::Live
            }),
            greeting_is_due: truth.greets,
        }
    }

    fn says(&mut self, number: u32, side: usize) {
        let second = self.second;
        if let Some(truth) = self.flows.get_mut(&number).filter(|truth| !truth.is_over) {
            truth.said[side] += 1;
            (truth.last[side], truth.asked[side]) = (second, 0);
        }
        let sight = self.sight(number);
        self.table.look(self.now(), number, sight);
    }

    /// A second goes by, with its looks.
    fn goes_on(&mut self) {
        self.second += 1;
        self.table.second(self.now());
        for _ in 0..50 {
            self.table.tick(self.now());
            let mut measured = 0;
            while let Some(effect) = self.table.next_effect() {
                if let Effect::Measure(number) = effect {
                    measured += 1;
                    self.measures(number);
                }
            }
            self.most = self.most.max(measured);
        }
    }

    fn measures(&mut self, number: u32) {
        let (now, sight) = (self.now(), self.sight(number));
        let Some(truth) = self.flows.get_mut(&number) else {
            return;
        };
        let Some((step, next)) = self.table.hear(now, number, truth.said) else {
            assert!(!self.table.stands(now, number, sight, now + HOUR));
            return;
        };
        assert!(next > now && !truth.greets);
        if step.lost.is_some() {
            // What was read ahead ends none: it is looked at again.
            let again = self.table.hear(now, number, truth.said);
            assert_eq!(again.map(|(step, _)| step.lost), Some(step.lost));
        }
        for (side, asked) in step.asks.into_iter().enumerate() {
            truth.asked[side] += u32::from(asked);
        }
        let answers = [0, 1].map(|side| step.asks[side] && truth.answers[side]);
        let until = if step.lost.is_some() { now } else { next };
        if self.table.stands(now, number, sight, until) {
            truth.is_over = true;
            let lost = step.lost.map(|side| (self.second, number, side));
            self.lost.extend(lost);
            let why = End::ours(EndReason::ClientLost);
            self.table.was_cut(number, why);
        }
        for side in (0..2).filter(|side| answers[*side]) {
            self.says(number, side);
        }
    }

    /// Nobody who is silent is left unasked, and nobody else is asked.
    fn is_as_it_should(&self) {
        for (number, truth) in self.flows.iter().filter(|(_, truth)| !truth.is_over) {
            for side in [0, 1] {
                let silent = self.second - truth.last[side];
                // A second until it is heard, and one until it is looked at.
                let is_asked = truth.asked[side] > 0;
                assert!(
                    silent < 62 || is_asked || truth.greets,
                    "{number}: {truth:?}"
                );
                assert!(silent < 720 + 75 + 2 || truth.greets, "{number}: {truth:?}");
            }
        }
    }
}

#[test]
fn silent_peers_of_many_flows_are_asked_a_few_at_a_time() {
    let mut world = SilentWorld::new();
    for number in 0..3000 {
        world.arrives(number, [true; 2], false);
    }
    for _ in 0..5 {
        world.goes_on();
    }
    world.most = 0;
    for _ in 0..300 {
        world.goes_on();
        world.is_as_it_should();
    }
    // What was found at once is spread over a minute; all of them answer, and are measured for that.
    assert!(world.most < 3 * 3000 / 60, "{}", world.most);
    assert!(world.lost.is_empty());
}

#[test]
fn who_is_gone_is_found_and_the_others_stay() {
    let mut world = SilentWorld::new();
    world.arrives(0, [true, true], true);
    world.arrives(1, [false, true], true);
    world.arrives(2, [true, false], true);
    for number in 0..3 {
        if let Some(truth) = world.flows.get_mut(&number) {
            truth.greets = false;
        }
        world.says(number, 0);
    }
    for _ in 0..900 {
        world.goes_on();
        world.is_as_it_should();
    }
    // The server was heard a second before the clients.
    let found: Vec<_> = world.lost.iter().map(|one| (one.1, one.2)).collect();
    assert_eq!(found, [(2, Side::Server), (1, Side::Client)]);
    assert!(world.lost.iter().all(|one| (720..800).contains(&one.0)));
    assert_eq!(world.table.sessions().count(), 1);
}

/// Its own socket waits for its client, which may have all of that time.
#[test]
fn nobody_is_asked_before_the_client_is_greeted() {
    let mut world = SilentWorld::new();
    world.arrives(0, [true; 2], true);
    for _ in 0..59 {
        world.goes_on();
    }
    if let Some(truth) = world.flows.get_mut(&0) {
        assert_eq!(
            std::mem::take(&mut truth.greets).then_some(truth.asked),
            Some([0; 2])
        );
    }
    world.says(0, 0);
    // The server was silent for all of it.
    for _ in 0..3 {
        world.goes_on();
    }
    assert_eq!(world.flows[&0].last, [59, 60]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever they say and whenever, and also where the thread begins again in between.
    #[test]
    fn nobody_is_left_unasked(
        events in prop::collection::vec((0_u32..8, 0_usize..2, 1_u64..90, 0_u32..30), 1..60),
        answers in prop::collection::vec(any::<[bool; 2]>(), 8),
    ) {
        let mut world = SilentWorld::new();
        for (number, answers) in (0..).zip(answers) {
            world.arrives(number, answers, false);
        }
        for (number, side, seconds, panics) in events {
            world.says(number, side);
            if panics == 0 {
                let table = FlowTable::new(world.now(), PATIENCE);
                let table = std::mem::replace(&mut world.table, table);
                world.table = table.again(world.now());
                // What they were asked isn't known any more.
                for truth in world.flows.values_mut() {
                    (truth.last, truth.asked) = ([world.second; 2], [0; 2]);
                }
            }
            for _ in 0..seconds {
                world.goes_on();
                world.is_as_it_should();
            }
        }
        for (_, number, side) in world.lost {
            let answers = world.flows[&number].answers;
            prop_assert!(!answers[usize::from(side == Side::Server)]);
        }
    }
}
