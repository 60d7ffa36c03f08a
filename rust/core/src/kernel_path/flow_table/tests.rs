//! Random histories of a table, beside a world that knows the truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};

use super::*;

mod planted;
use planted::Planted;

const NUMBERS: u32 = 8;
const PORTS: u16 = 24;
const IDLE: Duration = Duration::from_secs(330);

/// A flow as it really is.
#[derive(Debug, Clone, Copy)]
struct Truth {
    session: u64,
    client: bool,
    sight: Sight,
    /// Up to when it may go on.
    until: Instant,
    greeted_by: Option<Instant>,
    is_closed: bool,
    is_recorded: bool,
    keys: [Key; 2],
}

struct World {
    table: FlowTable<u64, u64>,
    now: Instant,
    random: u64,
    planted: Option<Planted>,
    free: Vec<u32>,
    ports: Vec<u16>,
    flows: BTreeMap<u32, Truth>,
    /// What the program has marked.
    marked: BTreeSet<u32>,
    over: BTreeMap<u32, Instant>,
    /// Flows that are about to be nothing but keys.
    together: Vec<(u32, [Key; 2])>,
    lingers: HashMap<Key, Instant>,
    sessions: u64,
    closed: u64,
    last_second: Instant,
    /// Nobody says anything any more.
    settles: bool,
}

type Checked = Result<(), String>;

impl World {
    fn new(seed: u64, planted: Option<Planted>) -> Self {
        let now = Instant::now();
        Self {
            table: FlowTable::new(now, Patience::here()),
            now,
            random: seed,
            planted,
            free: (0..NUMBERS).collect(),
            ports: (0..PORTS).collect(),
            flows: BTreeMap::new(),
            marked: BTreeSet::new(),
            over: BTreeMap::new(),
            together: vec![],
            lingers: HashMap::new(),
            sessions: 0,
            closed: 0,
            last_second: now,
            settles: false,
        }
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn draw(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.random;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (drawn ^ (drawn >> 31)) % below
    }

    fn is_planted(&mut self, fault: Planted) -> bool {
        // Now and then, as faults are.
        self.planted == Some(fault) && self.draw(8) == 0
    }

    fn step(&mut self) -> Checked {
        let some = self.some_flow();
        match (self.draw(12), some) {
            (0..=2, _) => self.arrives(),
            (3, Some(number)) => self.moves(number),
            // Of who was given up, before a panic, it is too late.
            (4, Some(number)) if self.table.effects.is_empty() => self.hears_greeting(number),
            (5, Some(number)) => self.ends(number, State::Closing),
            (6, Some(number)) if self.draw(8) == 0 => self.ends(number, State::Passed),
            (7, Some(number)) if self.draw(8) == 0 => self.is_killed(number),
            (8, _) if self.draw(64) == 0 => self.panics(),
            (9, _) => self.writes_the_log(),
            (10, _) if self.draw(4) == 0 => self.now += Duration::from_secs(1 + self.random % 90),
            _ => self.now += Duration::from_millis(20),
        }
        self.looks();
        self.carries_out()?;
        self.is_as_it_should()
    }

    fn some_flow(&mut self) -> Option<u32> {
        let drawn = self.draw(u64::from(NUMBERS)) as u32;
        let truth = self.flows.get(&drawn)?;
        truth.sight.lives().then_some(drawn)
    }

    fn arrives(&mut self) {
        if self.free.is_empty() || self.ports.is_empty() {
            return;
        }
        let at = self.draw(self.free.len() as u64) as usize;
        let number = self.free.swap_remove(at);
        let port = self.ports.remove(0);
        let at = |last, port| SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), port);
        let keys = [
            Key {
                from: at(1, port),
                to: at(2, 25),
            },
            Key {
                from: at(3, 25),
                to: at(4, port),
            },
        ];
        self.sessions += 1;
        let client = self.draw(4) > 0;
        let truth = Truth {
            session: self.sessions,
            client,
            sight: Sight {
                state: Some(State::Live),
                greeting_is_due: client,
            },
            until: self.now + IDLE,
            greeted_by: client.then(|| self.now + GREETING_LIMIT),
            is_closed: false,
            is_recorded: false,
            keys,
        };
        self.flows.insert(number, truth);
        self.table.arrive(
            self.now,
            number,
            keys,
            truth.session,
            client.then_some(truth.session),
        );
        self.marked.insert(number);
    }

    fn moves(&mut self, number: u32) {
        let until = self.now + IDLE;
        if let Some(truth) = self.flows.get_mut(&number) {
            truth.until = until;
            self.marked.insert(number);
        }
    }

    fn hears_greeting(&mut self, number: u32) {
        if let Some(truth) = self.flows.get_mut(&number) {
            truth.sight.greeting_is_due = false;
            truth.greeted_by = None;
        }
        self.moves(number);
    }

    fn ends(&mut self, number: u32, state: State) {
        if let Some(truth) = self.flows.get_mut(&number) {
            truth.sight.state = Some(state);
            self.marked.insert(number);
        }
    }

    fn is_killed(&mut self, number: u32) {
        let now = self.now;
        if let Some(truth) = self.flows.get_mut(&number) {
            truth.until = now;
            self.marked.insert(number);
        }
    }

    fn panics(&mut self) {
        let new = FlowTable::new(self.now, Patience::here());
        let mut table = std::mem::replace(&mut self.table, new);
        if self.is_planted(Planted::PanicLosesFlows) {
            table.flows.pop();
        }
        self.table = table.again(self.now);
        self.marked.extend(self.flows.keys().copied());
    }

    fn writes_the_log(&mut self) {
        let owed = self
            .flows
            .iter()
            .find(|(_, truth)| truth.is_closed && !truth.is_recorded);
        if let Some(number) = owed.map(|(number, _)| *number) {
            if let Some(truth) = self.flows.get_mut(&number) {
                truth.is_recorded = true;
            }
            self.table.recorded(number);
        }
    }

    /// As the sweeper does.
    fn looks(&mut self) {
        for number in std::mem::take(&mut self.marked) {
            if let Some(truth) = self.flows.get(&number) {
                self.table.look(self.now, number, truth.sight);
            }
        }
        let ahead = self.is_planted(Planted::PortTooSoon);
        self.table
            .tick(self.now + if ahead { LINGER } else { Duration::ZERO });
        if self.now >= self.last_second + Duration::from_secs(1) {
            self.last_second = self.now;
            self.table.second(self.now);
        }
        if self.is_planted(Planted::KeysBeforeTheRecord)
            && let Some((number, _)) = self.flows.iter().find(|(_, truth)| truth.is_closed)
        {
            self.table.recorded(*number);
        }
    }

    /// As the sweeper does, which may panic between any two, and stand still for a while.
    fn carries_out(&mut self) -> Checked {
        self.lingers_together()?;
        loop {
            if !self.settles && self.draw(500) == 0 {
                self.panics();
                self.now += GRACE;
                return Ok(());
            }
            let Some(effect) = self.table.next_effect() else {
                break;
            };
            let again = match &effect {
                Effect::FreeNumber(number) if self.is_planted(Planted::NumberTwice) => {
                    Some(Effect::FreeNumber(*number))
                }
                Effect::Close {
                    number,
                    session,
                    why,
                    ..
                } if self.is_planted(Planted::RecordTwice) => {
                    let (number, session, why) = (*number, *session, *why);
                    Some(Effect::Close {
                        number,
                        session,
                        client: None,
                        why,
                    })
                }
                _ => None,
            };
            let is_lost = match &effect {
                Effect::FreeNumber(_) => self.is_planted(Planted::NumberIsLost),
                Effect::Forget {
                    of_server: true, ..
                } => self.is_planted(Planted::PortIsLost),
                Effect::Close { .. } => self.is_planted(Planted::RecordIsLost),
                Effect::Silence { .. } => self.is_planted(Planted::SocketIsLost),
                Effect::Measure(_) => self.is_planted(Planted::LimitIsForgotten),
                _ => false,
            };
            if !is_lost {
                self.carry_out(&effect)?;
            }
            if let Some(effect) = again {
                self.carry_out(&effect)?;
            }
        }
        self.lingers_together()
    }

    fn lingers_together(&mut self) -> Checked {
        let stands_still = !self.settles && self.draw(100) == 0;
        if stands_still && !self.together.is_empty() {
            self.now += Duration::from_secs(2);
        }
        while let Some((number, keys)) = self.together.pop() {
            self.lingers(number, keys)?;
            if self.planted != Some(Planted::TimeGoesTooSoon) {
                self.table.lingers(self.now, number, keys);
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: &Effect<u64, u64>) -> Checked {
        match *effect {
            Effect::Measure(number) => self.measures(number),
            Effect::Silence { client, .. } => self.loses_socket(client),
            Effect::Abandon(number) => self.gives_up(number),
            Effect::Close {
                number,
                session,
                client,
                ..
            } => self.closes(number, session, client),
            Effect::Linger(number, keys) => {
                self.together.push((number, keys));
                if self.planted == Some(Planted::TimeGoesTooSoon) {
                    self.table.lingers(self.now, number, keys);
                }
                Ok(())
            }
            Effect::FreeNumber(number) => self.frees(number),
            Effect::Forget { key, of_server } => self.forgets(key, of_server),
        }
    }

    fn measures(&mut self, number: u32) -> Checked {
        if let Some(truth) = self.flows.get(&number).filter(|truth| !truth.is_closed) {
            let (sight, until) = (truth.sight, truth.until);
            if self.table.stands(self.now, number, sight, until) {
                return self.cuts(number);
            }
        }
        Ok(())
    }

    fn loses_socket(&mut self, client: u64) -> Checked {
        let mut flows = self.flows.values_mut();
        let truth = flows.find(|truth| truth.session == client);
        let truth = truth.ok_or("a socket of nobody")?;
        if truth.sight.lives() && truth.sight.greeting_is_due {
            return Err("a client is left before it has its greeting".into());
        }
        if !std::mem::take(&mut truth.client) {
            return Err("a socket is closed twice".into());
        }
        Ok(())
    }

    fn gives_up(&mut self, number: u32) -> Checked {
        let truth = self.flows.get_mut(&number).ok_or("nobody is given up")?;
        let is_late = truth.greeted_by.is_some_and(|by| self.now >= by);
        truth.sight.state = Some(State::Closing);
        if is_late {
            Ok(())
        } else {
            Err("a client had more time".into())
        }
    }

    fn cuts(&mut self, number: u32) -> Checked {
        // Meanwhile it may move, and isn't cut then.
        if !self.settles && self.draw(3) == 0 {
            self.moves(number);
        }
        let careless = self.is_planted(Planted::CutThoughItMoved);
        let truth = self.flows.get_mut(&number).ok_or("nobody is cut")?;
        if careless || (truth.until <= self.now && truth.sight.lives()) {
            if truth.until > self.now {
                return Err("one that moves is cut".into());
            }
            truth.sight.state = Some(State::Closing);
            self.table
                .was_cut(number, End::ours(crate::record::EndReason::IdleClient));
        }
        Ok(())
    }

    fn closes(&mut self, number: u32, session: u64, client: Option<u64>) -> Checked {
        let truth = self.flows.get_mut(&number).ok_or("no such flow to close")?;
        if truth.session != session || truth.is_closed {
            return Err(format!("{session} is closed twice, or another one"));
        }
        if truth.sight.lives() {
            return Err("a record is closed of one that lives".into());
        }
        if client.is_some() != truth.client {
            return Err("its socket isn't where it should be".into());
        }
        truth.is_closed = true;
        self.closed += 1;
        Ok(())
    }

    fn lingers(&mut self, number: u32, keys: [Key; 2]) -> Checked {
        let truth = self.flows.remove(&number).ok_or("nobody lingers")?;
        if !truth.is_recorded || truth.keys != keys {
            return Err("only keys are left of one that the log lacks".into());
        }
        self.over.insert(number, self.now);
        self.lingers.extend(keys.map(|key| (key, self.now)));
        Ok(())
    }

    fn frees(&mut self, number: u32) -> Checked {
        let over = self.over.remove(&number).ok_or("a number is free twice")?;
        let least = if self.is_planted(Planted::NumberAtOnce) {
            Duration::from_secs(1)
        } else {
            GRACE
        };
        self.free.push(number);
        let waited = self.now.duration_since(over);
        if waited >= least {
            Ok(())
        } else {
            Err("a number is free at once".into())
        }
    }

    fn forgets(&mut self, key: Key, of_server: bool) -> Checked {
        let since = self
            .lingers
            .remove(&key)
            .ok_or("a key is forgotten twice")?;
        if of_server {
            self.ports.push(key.to.port());
        }
        let waited = self.now.duration_since(since);
        if waited >= LINGER {
            Ok(())
        } else {
            Err("a port is free too soon".into())
        }
    }

    fn is_as_it_should(&self) -> Checked {
        let live = self.flows.values().filter(|truth| !truth.is_closed).count();
        let found = self.table.sessions().count();
        // Unless a panic has left some to be closed.
        if found != live && self.table.effects.is_empty() {
            return Err(format!("{found} flows live, not {live}"));
        }
        let late = |truth: &&Truth| !truth.is_closed && !truth.sight.greeting_is_due;
        let mut late = self.flows.values().filter(late);
        // A second until it is due, one until it is looked at, one until it is tried again.
        let most = Duration::from_secs(91 + 4);
        if late.any(|truth| self.now > truth.until + most) {
            return Err("one goes on that is over".into());
        }
        let all = self.free.len() + self.over.len() + self.flows.len();
        if all != NUMBERS as usize {
            return Err(format!("{all} numbers"));
        }
        Ok(())
    }

    /// To the end of all flows: everything is back.
    fn ends_well(&mut self) -> Checked {
        self.settles = true;
        for _ in 0..2_000 {
            self.now += Duration::from_secs(1);
            self.writes_the_log();
            self.looks();
            self.carries_out()?;
            self.is_as_it_should()?;
            if self.ports.len() == usize::from(PORTS) && self.free.len() == NUMBERS as usize {
                break;
            }
        }
        let back = (self.free.len(), self.ports.len(), self.closed);
        let lingering = self.table.lingering();
        if back == (NUMBERS as usize, usize::from(PORTS), self.sessions) && lingering == 0 {
            Ok(())
        } else {
            Err(format!("{back:?} came back of {} sessions", self.sessions))
        }
    }
}

fn history(seed: u64, steps: u64, planted: Option<Planted>) -> Result<(), (u64, String)> {
    let mut world = World::new(seed, planted);
    for step in 0..steps {
        world.step().map_err(|what| (step, what))?;
    }
    world.ends_well().map_err(|what| (steps, what))
}

#[test]
fn every_flow_ends_once_and_all_comes_back() {
    // `make test-long`: 10 million steps.
    let histories = if std::env::var_os("MAILWEIR_LONG").is_some() {
        2_000
    } else {
        40
    };
    for seed in 0..histories {
        if let Err((step, what)) = history(seed, 5_000, None) {
            panic!("seed {seed}, step {step}: {what}");
        }
    }
}
