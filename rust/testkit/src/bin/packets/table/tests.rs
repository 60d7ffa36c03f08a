//! Sessions between a table and servers, by a way that loses, repeats and reorders.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::super::serve::Server;
use super::*;

const SESSIONS: u32 = 3;
const STEP: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(120);

/// What becomes of a segment.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Arrives,
    IsLost,
    ComesTwice,
    IsOvertaken,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        Just(Fate::Arrives),
        Just(Fate::IsLost),
        Just(Fate::ComesTwice),
        Just(Fate::IsOvertaken),
    ]
}

fn plan() -> Plan {
    Plan {
        to: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 25),
        addresses: "198.51.100.1/2".parse().unwrap(),
        first_port: 1024,
        messages: 2,
        rests: false,
        every: None,
    }
}

/// Clients, servers and the way between.
struct World {
    table: Table,
    server: Server,
    under_way: VecDeque<Segment<'static>>,
    fates: std::vec::IntoIter<Fate>,
    now: Duration,
    news: Vec<News>,
}

impl World {
    fn new(plan: Plan, fates: Vec<Fate>) -> Self {
        let mut table = Table::new(plan);
        let begun = (0..SESSIONS).map(|_| table.begin(Duration::ZERO).unwrap());
        let under_way = begun.collect();
        Self {
            table,
            server: Server::default(),
            under_way,
            fates: fates.into_iter(),
            now: Duration::ZERO,
            news: vec![],
        }
    }

    /// Until everything has arrived that is under way.
    fn settle(&mut self) {
        while let Some(segment) = self.under_way.pop_front() {
            match self.fates.next().unwrap_or(Fate::Arrives) {
                Fate::Arrives => self.arrives(&segment),
                Fate::IsLost => {}
                Fate::ComesTwice => {
                    self.arrives(&segment);
                    self.arrives(&segment);
                }
                Fate::IsOvertaken => self.under_way.push_back(segment),
            }
        }
        self.news.append(&mut self.table.news);
    }

    fn arrives(&mut self, segment: &Segment<'static>) {
        let answer = if segment.to == plan().to {
            self.server.answer(segment, clock(self.now))
        } else {
            self.table.hear(self.now, segment)
        };
        self.under_way.extend(answer);
    }

    fn wait(&mut self) {
        self.now += STEP;
        while let Some(segment) = self.table.due(self.now) {
            self.under_way.push_back(segment);
        }
        self.settle();
    }

    fn ends(&self) -> Vec<End> {
        let ends = self.news.iter().filter_map(|news| match news {
            News::Over(end, ..) => Some(*end),
            _ => None,
        });
        ends.collect()
    }

    fn resting(&self) -> usize {
        let rest = self
            .news
            .iter()
            .filter(|news| matches!(news, News::Rests(_)));
        rest.count()
    }

    fn until_over(&mut self) -> Vec<End> {
        while self.ends().len() < SESSIONS as usize && self.now < LIMIT {
            self.wait();
        }
        self.ends()
    }

    /// What the server of the first session says next is that instead.
    fn hears_instead(
        &mut self,
        control: TcpControl,
        payload: &'static [u8],
    ) -> Option<Segment<'static>> {
        let first = self.table.end_of(0).unwrap();
        let rcv_nxt = self.table.talks[0].rcv_nxt;
        let heard = Segment {
            from: plan().to,
            to: first,
            control,
            seq: rcv_nxt,
            ack: Some(self.table.talks[0].snd_nxt),
            stamps: None,
            payload,
        };
        let said = self.table.hear(self.now, &heard);
        self.news.append(&mut self.table.news);
        said
    }
}

proptest! {
    #[test]
    fn each_is_done_whatever_the_way_does(fates in prop::collection::vec(fate(), 0..25)) {
        let mut world = World::new(plan(), fates);
        world.settle();
        let ends = world.until_over();
        prop_assert_eq!(ends, vec![End::Done; SESSIONS as usize]);
        prop_assert_eq!(world.server.not_as_sent, 0);
        prop_assert!(world.server.mails >= u64::from(SESSIONS) * 2);
    }

    #[test]
    fn those_that_rest_go_on_when_they_are_roused(
        fates in prop::collection::vec(fate(), 0..25),
        speaks: bool,
    ) {
        let every = speaks.then_some(Duration::from_secs(1));
        let mut world = World::new(Plan { rests: true, every, ..plan() }, fates);
        world.settle();
        while world.resting() < SESSIONS as usize && world.now < LIMIT {
            world.wait();
        }
        let lines = world.server.lines;
        for _ in 0..30 {
            world.wait();
        }
        prop_assert_eq!(world.server.lines > lines, speaks);
        prop_assert_eq!(world.ends(), vec![]);
        for _ in 0..SESSIONS {
            let said = world.table.rouse(world.now);
            world.under_way.extend(said);
        }
        world.settle();
        prop_assert_eq!(world.until_over(), vec![End::Done; SESSIONS as usize]);
    }
}

#[test]
fn without_loss_nothing_is_said_twice() {
    let mut world = World::new(plan(), vec![]);
    world.settle();
    assert_eq!(world.until_over(), [End::Done; SESSIONS as usize]);
    assert!(!world.news.contains(&News::Again));
    let server = &world.server;
    let known = u64::from(SESSIONS);
    assert_eq!(
        (server.calls, server.mails, server.closed),
        (known, 2 * known, known)
    );
}

#[test]
fn each_end_has_its_name() {
    for (control, payload, end) in [
        (TcpControl::Rst, &b""[..], End::Reset),
        (TcpControl::Fin, b"", End::Closed),
        (TcpControl::Psh, b"421 later\r\n", End::Refused),
        (TcpControl::Fin, b"421 later\r\n", End::Refused),
    ] {
        // Only its SYN-ACK arrives, and what is said instead of a greeting.
        let mut world = World::new(plan(), vec![]);
        let call = world.under_way.pop_front().unwrap();
        world.under_way.clear();
        let answer = world.server.answer(&call, 1).unwrap();
        world.table.hear(world.now, &answer);
        let said = world.hears_instead(control, payload);
        assert_eq!(world.ends(), [end]);
        let is_told = said.is_some_and(|said| said.control == TcpControl::Rst);
        assert_eq!(is_told, end != End::Reset);
    }
}

/// Who is asked whether he is there says so, and nobody answers that.
#[test]
fn keepalives_are_answered() {
    let mut world = World::new(
        Plan {
            rests: true,
            ..plan()
        },
        vec![],
    );
    world.settle();
    assert_eq!(world.resting(), SESSIONS as usize);
    let client = world.table.acknowledgement(world.now, 0).unwrap();
    let of_client = Segment {
        seq: client.seq.wrapping_sub(1),
        ..client.clone()
    };
    let of_server = Segment {
        from: client.to,
        to: client.from,
        seq: client.ack.unwrap().wrapping_sub(1),
        ack: Some(client.seq),
        ..client.clone()
    };
    let server_says = world.server.answer(&of_client, 1).unwrap();
    assert_eq!(
        (server_says.length(), server_says.seq),
        (0, client.ack.unwrap())
    );
    assert_eq!(world.table.hear(world.now, &server_says), None);
    assert_eq!(world.table.hear(world.now, &of_server), Some(client));
}

#[test]
fn who_hears_nothing_gives_up() {
    let mut world = World::new(plan(), vec![]);
    world.under_way.clear();
    while world.ends().is_empty() && world.now < LIMIT {
        world.now += STEP;
        // Nobody hears it.
        while world.table.due(world.now).is_some() {}
        world.news.append(&mut world.table.news);
    }
    assert_eq!(world.ends(), [End::Silent; SESSIONS as usize]);
    let again = world
        .news
        .iter()
        .filter(|news| **news == News::Again)
        .count();
    assert_eq!(again, SESSIONS as usize * usize::from(MOST_AGAIN));
}

#[test]
fn each_number_has_an_end_of_its_own() {
    let table = Table::new(plan());
    let all: Vec<_> = (0..7).map(|number| table.end_of(number).unwrap()).collect();
    for (number, end) in (0..).zip(&all) {
        let heard = Segment {
            from: plan().to,
            to: *end,
            control: TcpControl::None,
            seq: 0,
            ack: None,
            stamps: None,
            payload: b"",
        };
        assert_eq!(table.number(&heard), Some(number));
    }
    assert_eq!(table.end_of(2 * (65_536 - 1024)), None);
}
