//! Ends are counted once, whatever way they come; live sessions are listed, woken and killed.

use super::*;
use crate::prefixes::Prefix;

struct Book {
    ledger: Arc<Ledger>,
    listener: Arc<ListenerState>,
}

impl Book {
    fn new() -> Self {
        let ledger = Ledger::new(
            WorkerId::new(0),
            Arc::new(PerWorker::new(1)),
            Arc::new(LiveSessions::new(1)),
            Arc::new(SessionLog::start().unwrap()),
        );
        Self {
            ledger: Arc::new(ledger),
            listener: Arc::new(ListenerState::new("mx", 1)),
        }
    }

    fn open(&self) -> Record {
        self.open_from("192.0.2.1:1025")
    }

    fn open_from(&self, client: &str) -> Record {
        let pool = Arc::from("farm");
        Record::open(
            &self.ledger,
            &self.listener,
            &pool,
            client.parse().unwrap(),
            Waker::noop().clone(),
        )
    }

    fn ended(&self) -> Vec<EndReason> {
        assert_eq!(self.ledger.counters.sum(|one| &one.begun), 1);
        assert_eq!(self.ledger.counters.sum(|one| &one.ended), 1);
        let counters = self.listener.counters.of(WorkerId::new(0));
        let counted = |reason: &EndReason| counters.ended(*reason) == 1;
        EndReason::ALL.into_iter().filter(counted).collect()
    }
}

fn ended(end: impl FnOnce(Record)) -> Vec<EndReason> {
    let book = Book::new();
    end(book.open());
    book.ended()
}

#[test]
fn every_end_is_counted_once() {
    let idle = |record: Record| record.close(End::ours(EndReason::IdleServer));
    assert_eq!(ended(idle), [EndReason::IdleServer]);
    assert_eq!(ended(drop), [EndReason::Stopped]);
    let panic = |record: Record| {
        let thread = std::thread::spawn(move || {
            let _record = record;
            panic!("as a bug would");
        });
        thread.join().unwrap_err();
    };
    assert_eq!(ended(panic), [EndReason::Panicked]);
}

#[test]
fn what_goes_on_without_us_has_not_ended() {
    assert_eq!(ended(Record::leave), []);
}

#[test]
fn a_message_that_was_cut_off_is_told_from_any_other_end() {
    let in_data = |record: &Record| {
        let course = Course {
            in_data: Some(true),
            ..record.live().course()
        };
        record.live().note(course, Instant::now());
    };
    for (end, expected) in [
        (End::by_client(EndReason::ClientLost), EndReason::CutInData),
        (
            End::by_server(EndReason::ServerClosed),
            EndReason::CutInData,
        ),
        (End::ours(EndReason::DrainDeadline), EndReason::CutInData),
        (End::ours(EndReason::IdleServer), EndReason::IdleServer),
    ] {
        let cut = |record: Record| {
            in_data(&record);
            record.close(end);
        };
        assert_eq!(ended(cut), [expected]);
    }
    let stopped = |record: Record| in_data(&record);
    assert_eq!(ended(stopped), [EndReason::CutInData]);
}

/// How a session is seen as served that ends so, `silent` after a word in a message or outside one.
fn served(end: End, in_data: Option<bool>, silent: Duration) -> &'static str {
    let book = Book::new();
    let record = book.open();
    let course = Course {
        in_data,
        ..record.live().course()
    };
    let spoke = Instant::now();
    record.live().note(course, spoke);
    match record.served(end, spoke + silent) {
        Served::Well { taken } => {
            assert!(taken >= record.began());
            "well"
        }
        Served::CutOff => "cut off",
        Served::Unclear => "unclear",
    }
}

#[test]
fn a_server_is_blamed_for_what_it_does_alone() {
    use EndReason::{ClientClosed, ClientLost, Drain, Killed, Server421, ServerClosed, ServerLost};
    let [soon, late] = [Duration::ZERO, SERVERS_PATIENCE + Duration::from_secs(1)];
    for (end, in_data, silent, expected) in [
        (End::by_server(ServerClosed), Some(true), soon, "cut off"),
        (End::by_server(ServerLost), Some(true), soon, "cut off"),
        // The client said nothing for so long.
        (End::by_server(ServerClosed), Some(true), late, "unclear"),
        (End::by_server(ServerClosed), Some(false), soon, "unclear"),
        // Inside TLS, say.
        (End::by_server(ServerLost), None, soon, "unclear"),
        (End::by_server(Server421), Some(true), soon, "unclear"),
        (End::by_client(ClientLost), Some(true), soon, "well"),
        (End::by_client(ClientClosed), Some(false), soon, "well"),
        (End::by_server(EndReason::TlsClosed), None, soon, "well"),
        (End::ours(Drain), Some(false), soon, "unclear"),
        (End::ours(Killed), Some(true), soon, "unclear"),
    ] {
        assert_eq!(
            served(end, in_data, silent),
            expected,
            "{end:?} {in_data:?}"
        );
    }
}

#[test]
fn live_sessions_are_listed_until_they_end() {
    use EndReason::{Killed, ServerDown};

    let book = Book::new();
    let live = &book.ledger.live;
    let mut record = book.open();
    let id = record.id();
    let everything = SessionFilter::default();
    assert_eq!(live.read(everything, 9)[0].server, None);
    let taker = Taker {
        pool: "farm".into(),
        server: "a".into(),
    };
    record.taken(&Arc::new(taker), Greeted::default());
    record.live().carried(Side::Client, 10);
    let course = Course {
        spoke_last: Some(Side::Client),
        tls: true,
        in_data: Some(false),
        path: Path::Splice,
    };
    record.live().note(course, Instant::now());
    let listed = live.read(everything, 9);
    assert_eq!(listed[0].id, id);
    assert_eq!(listed[0].server.as_deref(), Some("a"));
    assert_eq!((listed[0].received_bytes, listed[0].sent_bytes), (10, 0));
    assert_eq!(listed[0].spoke_last, Some(Side::Client));
    assert!(listed[0].tls);
    let of = |server| SessionFilter {
        listener: Some("mx"),
        server: Some(("farm", server)),
        client: None,
    };
    assert_eq!(live.read(of("a"), 9).len(), 1);
    assert_eq!(live.read(of("b"), 9).len(), 0);
    assert_eq!(live.read(everything, 0).len(), 0);

    assert_eq!(record.live().killed(), None);
    assert!(live.kill(id));
    assert_eq!(record.live().killed(), Some(Killed));
    // The first word counts.
    assert_eq!(live.kill_all(of("a"), ServerDown), 0);
    assert_eq!(record.live().killed(), Some(Killed));
    drop(record);
    assert!(!live.kill(id));
    assert_eq!(live.read(everything, 9).len(), 0);
}

#[test]
fn sessions_of_a_prefix_are_killed_together() {
    use EndReason::Killed;

    let book = Book::new();
    let clients = [
        "192.0.2.1:25",
        "[::ffff:192.0.2.9]:25",
        "192.0.3.1:25",
        "[2001:db8::1]:25",
    ];
    let records = clients.map(|client| book.open_from(client));
    let from = |prefix| SessionFilter {
        client: Some(Prefix::parse(prefix).unwrap()),
        ..SessionFilter::default()
    };
    let killed = || {
        records
            .each_ref()
            .map(|record| record.live().killed() == Some(Killed))
    };
    let live = &book.ledger.live;
    let kill = |prefix| live.kill_all(from(prefix), Killed);
    assert_eq!(live.read(from("192.0.2.0/24"), 9).len(), 2);
    assert_eq!(live.read(from("192.0.2.9"), 9).len(), 1);
    assert_eq!(kill("198.51.100.0/24"), 0);
    assert_eq!(kill("192.0.2.0/24"), 2);
    assert_eq!(killed(), [true, true, false, false]);
    assert_eq!(kill("2001:db8::/32"), 1);
    assert_eq!(kill("0.0.0.0/0"), 1);
    assert_eq!(killed(), [true; 4]);
}

#[test]
fn numbers_are_read_as_they_are_written() {
    let book = Book::new();
    let (first, second) = (book.open(), book.open());
    assert_ne!(first.id(), second.id());
    let text = first.id().to_string();
    assert_eq!(SessionId::parse(&text), Some(first.id()));
    assert_eq!(first.id().text(), text.as_bytes());
    for wrong in ["", "0", "000000000000000g", "00000000000000000"] {
        assert_eq!(SessionId::parse(wrong), None);
    }
}

#[test]
fn what_each_idle_flow_keeps_is_small() {
    assert_eq!((size_of::<Record>(), size_of::<LiveSession>()), (80, 160));
}
