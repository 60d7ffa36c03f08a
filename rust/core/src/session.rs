//! One session, from its accept to its end. Linear: each step is a call that says what happens.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use fail::fail_point;
use socket2::SockRef;

use crate::admission::{self, Admitted, Applicant};
use crate::client::Client;
use crate::doors::Doors;
use crate::farewell;
use crate::holdings::Holdings;
use crate::kernel_path::{self, Carried, Guest, Handed, KernelPath, Legs, Passage};
use crate::limits::Terms;
use crate::moment::ProcessDrain;
use crate::occupancy::Occupancy;
use crate::record::{End, EndBy, EndReason, Ledger, Record};
use crate::relay::pipes::Pipes;
use crate::relay::{Ending, Ends, Traffic, relay};
use crate::roster::InFlight;
use crate::seek::{self, Found, Seeking, Unserved};
use crate::smtp::words;
use crate::snapshot::{Listener, Snapshot};
use crate::spec::{Protocol, Refuse};
use crate::troubles::Troubles;

/// What the sessions of a worker share.
#[derive(Debug)]
pub(crate) struct Commons {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) pipes: Arc<Pipes>,
    /// Sessions of the whole process.
    pub(crate) occupancy: Arc<Occupancy>,
    pub(crate) holdings: Arc<Holdings>,
    /// Of the whole process.
    pub(crate) doors: Arc<Doors>,
    /// Since when the process drains, if it does.
    pub(crate) drains: Arc<ProcessDrain>,
    pub(crate) troubles: Arc<Troubles>,
    /// Once it is wanted and can be had.
    pub(crate) kernel: Arc<OnceLock<Arc<KernelPath>>>,
}

/// Serves a client of the listener with this index. `snapshot` is kept to the end.
pub(crate) async fn serve(
    client: Client,
    snapshot: Arc<Snapshot>,
    listener: usize,
    commons: Arc<Commons>,
) {
    let session = Session {
        snapshot,
        listener,
        commons,
    };
    let mut record = session.open_record(&client).await;
    fail_point!("session");
    // In a box: it is over soon, and is larger than what comes then.
    let found = Box::pin(session.find_server(&client, &mut record)).await;
    match found {
        Ok((admitted, found)) => session.carry(client, admitted, found, record).await,
        Err(unserved) => {
            let Unserved { end, words } = unserved;
            let (listener, from) = (session.listener(), client.address.ip());
            let source = listener.source();
            listener.state.refused(from, source, end.reason);
            let ending = before_the_greeting(client, end);
            session.end(ending, words, record).await;
        }
    }
}

/// What a session goes by.
struct Session {
    snapshot: Arc<Snapshot>,
    /// The listener's index in that.
    listener: usize,
    commons: Arc<Commons>,
}

impl Session {
    fn listener(&self) -> &Listener {
        &self.snapshot.listeners[self.listener]
    }

    async fn open_record(&self, client: &Client) -> Record {
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        let listener = self.listener();
        let pool = &listener.pool.name;
        let ledger = &self.commons.ledger;
        Record::open(ledger, &listener.state, pool, client.address, waker)
    }

    /// A place for the session and a server that takes it, or how it ends without.
    async fn find_server(
        &self,
        client: &Client,
        record: &mut Record,
    ) -> Result<(Admitted, Found), Unserved> {
        let applicant = Applicant {
            client: client.address.ip(),
            snapshot: &self.snapshot,
            listener: self.listener(),
            process: &self.commons.occupancy,
            holdings: &self.commons.holdings,
        };
        let admitted = admission::admit(&applicant, record).map_err(End::ours)?;
        let seeking = Seeking {
            client,
            listener: self.listener(),
            troubles: &self.commons.troubles,
            holdings: &self.commons.holdings,
            doors: &self.commons.doors,
            kernel: self.kernel_path(client),
        };
        let found = seek::find_server(&seeking, record).await?;
        Ok((admitted, found))
    }

    /// The kernel path, if the session is to take it, and the client as that has to know it.
    fn kernel_path(&self, client: &Client) -> Option<(&Arc<KernelPath>, Guest)> {
        let listener = self.listener();
        if !listener.may_leave() {
            return None;
        }
        let path = self.commons.kernel.get()?;
        match path.guest(client) {
            Ok(guest) => Some((path, guest)),
            Err(why) => {
                path.refused(self.commons.ledger.worker, why);
                spare_acknowledgements(client);
                None
            }
        }
    }

    /// Carries the session of a client and the server that was found for it, to its end or to
    /// where it goes on without us.
    async fn carry(self, client: Client, admitted: Admitted, found: Found, mut record: Record) {
        let Admitted { mut place, held } = admitted;
        let Found {
            stream,
            asked,
            said,
            passage,
            port,
            in_flight,
        } = found;
        let legs = Legs {
            client,
            server: stream,
            said,
            told: 0,
            port,
        };
        let port;
        // A block, so that nothing is kept for the session's length that is moved on here.
        let ending = {
            let tried = self.try_kernel(passage, legs, &in_flight, &record);
            let relayed = match tried.await {
                Ok(handed) => {
                    handed.count_greeting(&mut record, &in_flight);
                    if !self.snapshot.counts_flows {
                        place.leave_process();
                    }
                    let carried = Carried {
                        record,
                        place,
                        held: Some(held),
                        in_flight,
                        snapshot: Arc::clone(&self.snapshot),
                        listener: self.listener,
                    };
                    handed.go_on(carried);
                    return;
                }
                Err(mut legs) => {
                    port = legs.port.take();
                    self.relay(legs, asked, &in_flight, &record)
                }
            };
            match relayed {
                Ok(relayed) => relayed.await,
                Err(ending) => ending,
            }
        };
        in_flight.ended(&record, ending.end);
        drop((place, held, in_flight));
        self.end(ending, None, record).await;
        // The server's socket had it until now.
        drop(port);
    }

    /// Hands the session over to the kernel, if it has a passage there and nothing is against that.
    async fn try_kernel(
        &self,
        passage: Option<Passage>,
        legs: Legs,
        in_flight: &InFlight,
        record: &Record,
    ) -> Result<Handed, Legs> {
        match passage {
            // In a box: it is much larger than what a session needs on the relay.
            Some(passage) => Box::pin(self.hand_over(passage, legs, in_flight, record)).await,
            None => Err(legs),
        }
    }

    async fn hand_over(
        &self,
        passage: Passage,
        legs: Legs,
        in_flight: &InFlight,
        record: &Record,
    ) -> Result<Handed, Legs> {
        let Some(outline) = record.outline() else {
            return Err(legs);
        };
        let limit = self.listener().timeouts.greeting;
        let server = in_flight.server();
        let result = kernel_path::hand_over(passage, legs, server, &outline, limit).await;
        if let Err(legs) = &result {
            // Refused, it is carried as it is.
            let _ = legs.server.set_nodelay(true);
            spare_acknowledgements(&legs.client);
        }
        result
    }

    /// The rest of the session, or how it ends where the reactor has no room for the client.
    fn relay<'a>(
        &'a self,
        legs: Legs,
        asked: Vec<u8>,
        in_flight: &'a InFlight,
        record: &'a Record,
    ) -> Result<Pin<Box<impl Future<Output = Ending> + use<'a>>>, Ending> {
        let (listener, server) = (self.listener(), in_flight.server());
        let traffic = Traffic {
            process: record.process(),
            listener: record.listener(),
            server: server.counters.of(record.worker()),
            live: record.live(),
        };
        let terms = Terms {
            id: record.id(),
            timeouts: &listener.timeouts,
            drain: &self.snapshot.drain,
            process: &self.commons.drains,
            drains: [&listener.state.drains, &server.drains],
            aged: listener.max_age.map(|age| record.began() + age),
        };
        let Ok(client) = legs.client.into_stream() else {
            return Err(Ending {
                end: End::ours(EndReason::OutOfDescriptors),
                client: None,
                server: Some(legs.server),
            });
        };
        let ends = Ends {
            client,
            server: legs.server,
            asked,
            said: legs.said,
            told: legs.told,
        };
        let pipes = &self.commons.pipes;
        // In a box: waited for in its place, it would have two.
        Ok(Box::pin(relay(
            ends,
            listener.protocol,
            terms,
            pipes,
            traffic,
        )))
    }

    /// Tells whoever may be told, the client in `words` where they aren't to be ours, and closes
    /// the record.
    async fn end(&self, ending: Ending, words: Option<Vec<u8>>, mut record: Record) {
        record.decided();
        let end = ending.end;
        // Whatever comes of the farewell: the process may stop meanwhile.
        record.ends(end);
        if ending.client.is_some() || ending.server.is_some() {
            let line = words.unwrap_or_else(|| self.last_word(end.reason));
            // In a box: most sessions end by themselves, and don't need the room.
            Box::pin(part(ending, self.listener(), &line, &self.commons.holdings)).await;
        }
        record.close(end);
    }

    /// What a client is told whose session ends so, where it may be told anything.
    fn last_word(&self, reason: EndReason) -> Vec<u8> {
        let listener = self.listener();
        match listener.protocol {
            Protocol::Smtp => {
                words::last_word(&self.snapshot.hostname, reason, listener.deny_code).into()
            }
            // TLS or anything: nothing that we could say would be understood.
            Protocol::Smtps | Protocol::Tcp => vec![],
        }
    }
}

/// Has the client's first command acknowledged with its reply, not by a segment of its own: it
/// takes the relay, although its listener was prepared for the kernel path.
fn spare_acknowledgements(client: &Client) {
    // Refused: as it was.
    let _ = SockRef::from(client).set_tcp_quickack(false);
}

/// How a session ends that no server took: a client that is still there may be told.
fn before_the_greeting(client: Client, end: End) -> Ending {
    Ending {
        end,
        client: (end.by != EndBy::Client)
            .then(|| client.into_stream().ok())
            .flatten(),
        server: None,
    }
}

/// Closes what is still open, politely: the client is told to come back later, where the
/// protocol has words for it, and the server that nobody will say anything more.
async fn part(ending: Ending, listener: &Listener, line: &[u8], holdings: &Holdings) {
    let reason = ending.end.reason;
    let tell_client = async {
        match ending.client {
            Some(client) if reason == EndReason::OutOfDescriptors => {
                if let Ok(client) = client.into_std() {
                    farewell::hurry_away(client, line);
                }
            }
            Some(client) if reason.is_by_source() && listener.refuse == Refuse::Reset => {
                farewell::reset(&client);
            }
            Some(client) if reason.is_by_source() && listener.refuse == Refuse::Drop => {
                farewell::forget(&client);
            }
            Some(client) => farewell::say(client, line, holdings).await,
            None => {}
        }
    };
    let tell_server = async {
        if let Some(server) = ending.server {
            farewell::say(server, words::QUIT, holdings).await;
        }
    };
    tokio::join!(tell_client, tell_server);
}
