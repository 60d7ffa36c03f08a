//! The hand-over: from two sockets to a flow.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use fail::fail_point;
use mailweir_flow::{Direction, Flow, Reserved, State, Translation};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::Client;
use crate::record::{Course, Outline, Path, Record, Side};
use crate::roster::InFlight;
use crate::scales::LEAST;
use crate::server::Server;

use super::carried::Carried;
use super::gates::MappedGate;
use super::greeting_progress::{Heard, LONGEST, Progress};
use super::leg::{self, Info, Numbers, Repaired};
use super::note::Note;
use super::passage::{Passage, Port};
use super::refusal::Refusal;
use super::tenancy::Stay;

/// How far a peer may say something at first, at least; what it is told later moves it on. As much
/// is announced where windows aren't scaled: in a SYN, say.
const FIRST_WINDOW: u32 = 65_535;
/// What is read of the greeting at a time.
const PIECE: usize = 2048;
/// A client's first answer takes as long as its round trip, and a server waits for 200 ms at least
/// before it says again what nobody has acknowledged. Nearer ones' answer is to be the
/// acknowledgement: by that a server learns how far it is, and one that takes its client to be next
/// door says much more slowly than it could (CUBIC's HyStart).
const FAR: Duration = Duration::from_millis(150);

/// A session's two connections, the client not greeted yet.
#[derive(Debug)]
pub(crate) struct Legs {
    pub(crate) client: Client,
    pub(crate) server: TcpStream,
    /// What the server said so far; more is added as it comes.
    pub(crate) said: Vec<u8>,
    /// How much of that the client has.
    pub(crate) told: usize,
    /// Our own that the server's has, once the kernel path was refused.
    pub(crate) port: Option<Port>,
}

/// A session that was handed over; its client may not have heard all of the greeting yet.
#[derive(Debug)]
pub(crate) struct Handed {
    passage: Passage,
    client: Client,
    /// Bytes of it.
    greeting: usize,
    /// Until it is a flow.
    _stay: Stay,
}

/// Waits for the end of the greeting, for `limit` at most, and hands the session over.
///
/// # Errors
/// It takes the relay, which is counted; both connections are as they were, and say what the
/// client has of the greeting.
pub(crate) async fn hand_over(
    passage: Passage,
    mut legs: Legs,
    server: &Server,
    outline: &Outline,
    limit: Duration,
) -> Result<Handed, Legs> {
    let heard = timeout(limit, legs.hear_greeting()).await;
    fail_point!("hand_over_greeted");
    let handed = heard.unwrap_or(Err(Refusal::Greeting)).and_then(|()| {
        let stay = passage.path().stay().ok_or(Refusal::HandedOn)?;
        legs.begin(&passage, server, outline).map(|()| stay)
    });
    let stay = match handed {
        Ok(stay) => stay,
        Err(why) => {
            legs.port = passage.refused(why);
            return Err(legs);
        }
    };
    fail_point!("hand_over_held");
    passage.gate().set(State::Live);
    fail_point!("hand_over_live");
    legs.tell();
    fail_point!("hand_over_told");
    if let Err(why) = legs.prove(&passage) {
        legs.port = passage.refused(why);
        return Err(legs);
    }
    passage.path().took(passage.worker());
    // The server's socket is closed here, without a word.
    leg::silence(&legs.server);
    Ok(Handed {
        passage,
        client: legs.client,
        greeting: legs.said.len(),
        _stay: stay,
    })
}

impl Handed {
    /// Counts what was said before the hand-over.
    pub(crate) fn count_greeting(&self, record: &mut Record, in_flight: &InFlight) {
        let size = self.greeting as u64;
        record.decided();
        record.process().copied_bytes.add(size);
        record.listener().sent_bytes.add(size);
        let server = in_flight.server().counters.of(record.worker());
        server.received_bytes.add(size);
        record.live().carried(Side::Server, size);
        let course = Course {
            spoke_last: Some(Side::Server),
            tls: false,
            in_data: None,
            path: Path::Kernel,
        };
        record.live().note(course, Instant::now());
    }

    /// From now on the session is a flow.
    pub(crate) fn go_on(self, carried: Carried) {
        self.passage.keep(carried, self.client.into_socket().ok());
    }
}

impl Legs {
    /// Reads the greeting to its end. What comes in pieces is passed on in pieces: postscreen's
    /// teaser has to be there long before the rest of it.
    async fn hear_greeting(&mut self) -> Result<(), Refusal> {
        let mut progress = Progress::default();
        loop {
            match progress.read_on(&self.said) {
                Heard::Part => {}
                Heard::Whole => return Ok(()),
                Heard::TooMuch => return Err(Refusal::Greeting),
            }
            self.tell();
            if self.told < self.said.len() {
                return Err(Refusal::Busy);
            }
            tokio::select! {
                biased;
                // Data, its end, or an error.
                _ = self.client.speaks() => return Err(Refusal::EarlyTalker),
                _ = self.server.readable() => self.hear_more()?,
            }
        }
    }

    fn hear_more(&mut self) -> Result<(), Refusal> {
        // Not into what is kept, which would grow by as much as the server likes to say.
        let mut piece = [0; PIECE];
        let room = PIECE.min(LONGEST.saturating_sub(self.said.len()));
        match self.server.try_read(&mut piece[..room]) {
            Ok(0) => Err(Refusal::Closed),
            Ok(size) => {
                self.said.extend(&piece[..size]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => Err(Refusal::Closed),
        }
    }

    /// Says what the client hasn't heard yet.
    fn tell(&mut self) {
        // What isn't taken is told by whoever has the session then.
        if let Ok(size) = self.client.tell(&self.said[self.told..]) {
            self.told += size;
        }
    }

    /// Tells the program how the one leg's segments become the other's, and holds them back.
    /// Nothing is waited for.
    fn begin(&self, passage: &Passage, server: &Server, outline: &Outline) -> Result<(), Refusal> {
        let infos = self.check(passage, server)?;
        let [client, _] = &infos;
        if client.round_trip() > FAR {
            // Our own socket's acknowledgement of the greeting would wait for what answers it, and
            // that comes when the server has said it again already. Refused: it does.
            let _ = self.server.set_quickack(true);
        }
        let rest = (self.said.len() - self.told) as u32;
        let numbers = self.numbers(passage)?;
        fail_point!("hand_over_read");
        let both = BothLegs {
            numbers,
            infos,
            said: self.said.len() as u32,
            rest,
        };
        let flow = both.flow(passage, &Note::of(outline, self.said.len()))?;
        let set = passage.set_flow(&flow);
        set.map_err(|_| Refusal::System)?;
        let gate = passage.gate();
        gate.expect_greeting();
        gate.owe_record(true);
        gate.set(State::Hold);
        let quiet = self.is_quiet(gate);
        if quiet.is_err() {
            gate.set(State::Passed);
            gate.owe_record(false);
        }
        quiet
    }

    /// Whether the one's segments can be made the other's.
    fn check(&self, passage: &Passage, of_server: &Server) -> Result<[Info; 2], Refusal> {
        let system = |_| Refusal::System;
        let client = Info::read(&self.client).map_err(system)?;
        let server = Info::read(&self.server).map_err(system)?;
        if of_server.scale.hear(server.peer_scale(), Instant::now()) {
            passage.path().outdated.store(true, Relaxed);
        }
        let unoffered = passage.gate().unoffered();
        let answers = &of_server.answers;
        if answers.hear(server.lacking(), unoffered, Instant::now()) {
            passage.path().outdated.store(true, Relaxed);
        }
        if !client.is_established() || !server.is_established() {
            return Err(Refusal::Closed);
        }
        client.check()?;
        server.check()?;
        if client.lacking() != server.lacking() {
            return Err(Refusal::Options);
        }
        let [_, way_to_server] = passage.gate().ways();
        if !passage.path().interfaces.has(way_to_server) {
            let [_, from_server] = passage.keys;
            return Err(passage.unseen(from_server));
        }
        if passage.gate().server_is_cut() {
            return Err(Refusal::Fragments);
        }
        let server_mss = u32::from(server_mss(passage))
            .min(server.way_takes())
            .min(server.peer_window());
        let client_mss = u32::from(passage.client_mss).min(client.way_takes());
        if server_mss < client.announced() || client_mss < server.announced() {
            return Err(Refusal::SegmentSize);
        }
        // A window of less than one unit of what the other one was told is told as none. Up to the
        // least scale that is no more than 7 bytes, and whoever has announced so little says so
        // when it is more again (RFC 9293, 3.8.6.2.2).
        let fits = |ours: u8, peers: u8| ours <= peers.max(LEAST);
        if !fits(server.our_scale(), client.peer_scale())
            || !fits(client.our_scale(), server.peer_scale())
        {
            return Err(Refusal::WindowScale);
        }
        // What came before the program was told to count. What came without its beginning was
        // acknowledged too (SACK), and its server would never hear of it.
        if client.received() > 0 || client.out_of_order() > 0 {
            return Err(Refusal::EarlyTalker);
        }
        if server.unacknowledged() > 0 {
            return Err(Refusal::Busy);
        }
        Ok([client, server])
    }

    /// Whether the program sees the client's leg: what it doesn't see it can't carry. It has seen
    /// the server's, by all that was said there. Of the client there was nothing to be seen until
    /// its greeting went out, at once as a rule; that hasn't left the host any other way.
    fn prove(&self, passage: &Passage) -> Result<(), Refusal> {
        let gate = passage.gate();
        let is_told = self.told == self.said.len();
        if is_told && gate.ways()[0] != 0 {
            return Ok(());
        }
        // From here on nothing gets through, so that both sockets are whole if nothing has.
        if !gate.change(State::Live, State::Hold) {
            // Its peers have ended it already.
            return Ok(());
        }
        let [from_client, _] = gate.counted();
        if is_told && from_client != 0 {
            gate.lead([Some(passage.came_by), None]);
            gate.set(State::Live);
            return Ok(());
        }
        gate.set(State::Passed);
        let is_out = Info::read(&self.client).is_ok_and(|info| info.unsent() == 0);
        let [from_client, _] = passage.keys;
        Err(if is_told && is_out {
            passage.unseen(from_client)
        } else {
            Refusal::Busy
        })
    }

    /// The numbers of both legs, as their sockets know them: what the program has seen may have
    /// come in another order, or from somebody else. The client has said nothing since its SYN.
    fn numbers(&self, passage: &Passage) -> Result<[Numbers; 2], Refusal> {
        let system = |_| Refusal::System;
        // Never for long in a mode in which a process that dies says nothing to its peers.
        let of_server = Repaired::begin(&self.server)
            .and_then(|server| Ok((server.snd_nxt()?, server.rcv_nxt()?)));
        let (snd_nxt, rcv_nxt) = of_server.map_err(system)?;
        let server = Numbers {
            snd_nxt,
            rcv_nxt,
            clock: leg::clock(&self.server).map_err(system)?,
        };
        let sent = Repaired::begin(&self.client).and_then(|client| client.snd_nxt());
        let client = Numbers {
            snd_nxt: sent.map_err(system)?,
            rcv_nxt: passage.gate().client_rcv_nxt(),
            clock: leg::clock(&self.client).map_err(system)?,
        };
        Ok([client, server])
    }

    /// Whether nothing has come that nobody has read, nor an end. All that comes is dropped now,
    /// and what came before was counted.
    fn is_quiet(&self, gate: MappedGate<'_>) -> Result<(), Refusal> {
        let [from_client, from_server] = gate.counted();
        if from_client != 0 {
            Err(Refusal::EarlyTalker)
        } else if from_server as usize != self.said.len() {
            Err(Refusal::Busy)
        } else {
            Ok(())
        }
    }
}

/// What is known of both legs before the one's segments become the other's: of the client's, then
/// of the server's.
struct BothLegs {
    numbers: [Numbers; 2],
    infos: [Info; 2],
    /// Bytes of the greeting, and of it that the client wasn't told.
    said: u32,
    rest: u32,
}

impl BothLegs {
    /// How the segments of both are told.
    fn flow(&self, passage: &Passage, note: &Note) -> Result<Flow, Refusal> {
        let [client, server] = self.numbers;
        let [of_client, of_server] = self.infos;
        // Without time stamps there is nothing to be told of.
        let has_clocks = !of_client.lacking().timestamps;
        let clocks = passage.gate().clocks();
        let [client_clock, server_clock] = clocks;
        if has_clocks && clocks.contains(&0) {
            return Err(Refusal::Clock);
        }
        let greeting_end = client.snd_nxt.wrapping_add(self.rest);
        let to_server = server.snd_nxt.wrapping_sub(client.rcv_nxt);
        let to_client = greeting_end.wrapping_sub(server.rcv_nxt);
        let ahead = |ours: u32, theirs| {
            if has_clocks {
                ours.wrapping_sub(theirs)
            } else {
                0
            }
        };
        let client_ahead = ahead(server.clock, client_clock);
        let server_ahead = ahead(client.clock, server_clock);
        let [from_client, from_server] = passage.keys;
        let told_to_server = Translation {
            seq_add: to_server,
            ack_add: 0_u32.wrapping_sub(to_client),
            tsval_add: client_ahead,
            tsecr_add: 0_u32.wrapping_sub(server_ahead),
            ..Translation::to(from_server.reversed())
        };
        let told_to_client = Translation {
            seq_add: to_client,
            ack_add: 0_u32.wrapping_sub(to_server),
            tsval_add: server_ahead,
            tsecr_add: 0_u32.wrapping_sub(client_ahead),
            ..Translation::to(from_client.reversed())
        };
        Ok(Flow {
            greeting_begin: client.snd_nxt,
            greeting_end,
            greeting_seq: server.rcv_nxt.wrapping_sub(self.said),
            lock: Reserved,
            note: note.to_bytes(),
            sides: [
                Direction {
                    mss: passage.client_mss,
                    ..side(told_to_server, client.rcv_nxt, &of_client, &of_server)
                },
                Direction {
                    mss: server_mss(passage),
                    ..side(told_to_client, server.rcv_nxt, &of_server, &of_client)
                },
            ],
        })
    }
}

/// The largest segment that the server takes, options included.
fn server_mss(passage: &Passage) -> u16 {
    leg::takes(u16::try_from(passage.gate().server_mss()).ok())
}

/// A side that is `heard` up to there, with its windows told in our scale.
fn side(told_as: Translation, heard: u32, own: &Info, others: &Info) -> Direction {
    let (peers, ours) = (own.peer_scale(), others.our_scale());
    let told_as = Translation {
        left: peers.saturating_sub(ours),
        right: ours.saturating_sub(peers),
        scale: peers,
        ..told_as
    };
    Direction {
        max_window: FIRST_WINDOW.div_ceil(1 << peers) as u16,
        wnd_end: heard.wrapping_add(FIRST_WINDOW.max(own.told_window())),
        ..Direction::begin(told_as, heard)
    }
}
