//! What clients keep of their sessions: some bytes of each. Pure: no socket, no clock.
//!
//! A client says one thing at a time, and says it again where nothing is answered within a second. So
//! what it has said is known by the step that it is at.

use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::time::Duration;

use smoltcp::wire::TcpControl;

use super::args::Addresses;
use super::frame::{Segment, Stamps};
use super::serve::clock;
use super::words::Line;

/// What isn't answered is said again after that.
const AGAIN: Duration = Duration::from_secs(1);
/// So often at most.
const MOST_AGAIN: u8 = 30;

/// What each session is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) to: SocketAddrV4,
    pub(crate) addresses: Addresses,
    /// Of each address.
    pub(crate) first_port: u16,
    pub(crate) messages: u16,
    /// Nothing is said behind EHLO until [`Table::rouse`].
    pub(crate) rests: bool,
    /// But NOOP each time that it has rested for so long.
    pub(crate) every: Option<Duration>,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As it should.
    Done,
    /// The other side reset it.
    Reset,
    /// The other side closed first.
    Closed,
    /// A reply that nobody wants.
    Refused,
    /// Nothing was answered, however often it was said.
    Silent,
}

impl End {
    pub(crate) const ALL: [(Self, &'static str); 5] = [
        (Self::Done, "done"),
        (Self::Reset, "reset"),
        (Self::Closed, "closed"),
        (Self::Refused, "refused"),
        (Self::Silent, "silent"),
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Its SYN was said.
    Calls,
    /// The server is to greet it.
    Listens,
    Says(Line),
    Rests,
    /// Its FIN was said.
    Closes,
    Over(End),
}

/// A session.
#[derive(Debug)]
struct Talk {
    step: Step,
    /// Messages that are yet to be sent.
    messages: u16,
    /// How often what it says was said again.
    again: u8,
    has_rested: bool,
    /// Behind what it says (RFC 9293, 3.3.1), and behind what it has heard.
    snd_nxt: u32,
    rcv_nxt: u32,
    /// What the other's clock said last.
    stamp: u32,
    began: Duration,
    /// What it says, or since when it rests.
    since: Duration,
}

/// Something worth a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Something was answered after so long.
    Answered(Duration),
    /// It rests for the first time, that long after it began.
    Rests(Duration),
    /// It is over, that long after it began; whether it had rested.
    Over(End, Duration, bool),
    /// Something was said again.
    Again,
}

/// All sessions; each is known by its number, and its number by its address and port.
#[derive(Debug)]
pub(crate) struct Table {
    plan: Plan,
    talks: Vec<Talk>,
    /// Whatever was said, in its order, to be looked at after [`AGAIN`].
    said: VecDeque<(Duration, u32)>,
    /// Those that rest, in the order in which they began to.
    rested: VecDeque<(Duration, u32)>,
    /// Up to which they rest no more.
    roused: u32,
    /// What came of the last call.
    pub(crate) news: Vec<News>,
}

impl Table {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            talks: vec![],
            said: VecDeque::new(),
            rested: VecDeque::new(),
            roused: 0,
            news: vec![],
        }
    }

    /// Those that were begun.
    pub(crate) fn begun(&self) -> u32 {
        self.talks.len() as u32
    }

    /// Those that rest no more.
    pub(crate) fn roused(&self) -> u32 {
        self.roused
    }

    /// Begins the next session; none where no port is left.
    pub(crate) fn begin(&mut self, now: Duration) -> Option<Segment<'static>> {
        let number = self.begun();
        self.end_of(number)?;
        // As good as any: another one for each.
        let isn = number.wrapping_mul(0x9e37_79b1);
        self.talks.push(Talk {
            step: Step::Calls,
            messages: self.plan.messages,
            again: 0,
            has_rested: false,
            snd_nxt: isn.wrapping_add(1),
            rcv_nxt: 0,
            stamp: 0,
            began: now,
            since: now,
        });
        self.said.push_back((now, number));
        self.segment(now, number)
    }

    /// What a client answers.
    pub(crate) fn hear(&mut self, now: Duration, heard: &Segment<'_>) -> Option<Segment<'static>> {
        let number = self.number(heard)?;
        let talk = self.talks.get_mut(number as usize)?;
        if let Step::Over(_) = talk.step {
            // The other side lacks our last acknowledgement.
            return (heard.control == TcpControl::Fin)
                .then(|| self.acknowledgement(now, number))?;
        }
        if heard.control == TcpControl::Rst {
            let is_exact = heard.seq == talk.rcv_nxt || talk.step == Step::Calls;
            return is_exact
                .then(|| self.end(now, number, End::Reset))
                .and(None);
        }
        if heard.control == TcpControl::Syn {
            if talk.step == Step::Calls && heard.ack == Some(talk.snd_nxt) {
                talk.rcv_nxt = heard.seq.wrapping_add(1);
                talk.stamp = heard.stamps?.own;
                self.goes_to(now, number, Step::Listens);
            }
            return self.acknowledgement(now, number);
        }
        if talk.step == Step::Calls {
            return None;
        }
        if heard.seq != talk.rcv_nxt {
            // It was heard before, something was lost, or somebody asks whether we are there.
            return self.acknowledgement(now, number);
        }
        if heard.ack != Some(talk.snd_nxt) || heard.length() == 0 {
            return None;
        }
        talk.rcv_nxt = talk.rcv_nxt.wrapping_add(heard.length());
        talk.stamp = heard.stamps.map_or(talk.stamp, |stamps| stamps.own);
        if !heard.payload.is_empty() && !self.is_wanted(number, heard.payload) {
            return self.break_off(now, number, End::Refused);
        }
        if heard.control == TcpControl::Fin {
            return self.hear_end(now, number);
        }
        let next = self.next(number)?;
        self.goes_to(now, number, next);
        // What it says next acknowledges what it has heard; who rests for long has nothing to say.
        let is_told_later = next == Step::Rests && self.plan.every.is_some();
        (!is_told_later).then(|| self.segment(now, number))?
    }

    /// The next that is to be said again, or for the first time after a rest.
    pub(crate) fn due(&mut self, now: Duration) -> Option<Segment<'static>> {
        while let Some((since, number)) = self.said.front().copied()
            && now >= since + AGAIN
        {
            self.said.pop_front();
            let talk = &mut self.talks[number as usize];
            if talk.since != since || matches!(talk.step, Step::Rests | Step::Over(_)) {
                continue;
            }
            if talk.again == MOST_AGAIN {
                return self.break_off(now, number, End::Silent);
            }
            talk.again += 1;
            // Since when it has been said is what counts for the answer's time: not changed.
            self.said.push_back((now, number));
            talk.since = now;
            self.news.push(News::Again);
            return self.segment(now, number);
        }
        let every = self.plan.every?;
        while let Some((since, number)) = self.rested.front().copied()
            && now >= since + every
        {
            self.rested.pop_front();
            let talk = &self.talks[number as usize];
            if talk.since == since && talk.step == Step::Rests {
                self.goes_to(now, number, Step::Says(Line::Noop));
                return self.segment(now, number);
            }
        }
        None
    }

    /// When the next of these is due, if nothing is heard before.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let again = self.said.front().map(|(since, _)| *since + AGAIN);
        let every = self.plan.every.unwrap_or(Duration::MAX);
        let rested = self
            .rested
            .front()
            .map(|(since, _)| since.saturating_add(every));
        again.into_iter().chain(rested).min()
    }

    /// The next session rests no more: what it says, if it rested.
    pub(crate) fn rouse(&mut self, now: Duration) -> Option<Segment<'static>> {
        let number = self.roused;
        self.roused += 1;
        let talk = self.talks.get(number as usize)?;
        if talk.step != Step::Rests {
            return None;
        }
        let next = self.behind_a_rest(number);
        self.goes_to(now, number, next);
        self.segment(now, number)
    }

    fn hear_end(&mut self, now: Duration, number: u32) -> Option<Segment<'static>> {
        if self.talks[number as usize].step != Step::Closes {
            return self.break_off(now, number, End::Closed);
        }
        self.end(now, number, End::Done);
        self.acknowledgement(now, number)
    }

    /// Whether a reply is that to what it has said.
    fn is_wanted(&self, number: u32, reply: &[u8]) -> bool {
        match self.talks[number as usize].step {
            Step::Listens => reply.starts_with(b"220 "),
            Step::Says(line) => reply == line.reply(),
            _ => false,
        }
    }

    /// Where it goes from a step whose answer it has.
    fn next(&self, number: u32) -> Option<Step> {
        let rests = self.plan.rests && number >= self.roused;
        match self.talks[number as usize].step {
            Step::Listens => Some(Step::Says(Line::Ehlo)),
            Step::Says(Line::Ehlo | Line::Noop) if rests => Some(Step::Rests),
            Step::Says(Line::Ehlo | Line::Noop) => Some(self.behind_a_rest(number)),
            Step::Says(Line::Mail) => Some(Step::Says(Line::Rcpt)),
            Step::Says(Line::Rcpt) => Some(Step::Says(Line::Data)),
            Step::Says(Line::Data) => Some(Step::Says(Line::Text)),
            Step::Says(Line::Text) => Some(self.behind_a_rest(number)),
            Step::Says(Line::Quit) => Some(Step::Closes),
            Step::Calls | Step::Rests | Step::Closes | Step::Over(_) => None,
        }
    }

    fn behind_a_rest(&self, number: u32) -> Step {
        let messages = self.talks[number as usize].messages;
        Step::Says(if messages > 0 { Line::Mail } else { Line::Quit })
    }

    fn goes_to(&mut self, now: Duration, number: u32, next: Step) {
        let talk = &mut self.talks[number as usize];
        let says = match next {
            Step::Says(line) => line.bytes().len() as u32,
            Step::Closes => 1,
            _ => 0,
        };
        if next == Step::Rests && !std::mem::replace(&mut talk.has_rested, true) {
            self.news.push(News::Rests(now - talk.began));
        }
        if talk.step != Step::Rests {
            self.news.push(News::Answered(now - talk.since));
        }
        talk.snd_nxt = talk.snd_nxt.wrapping_add(says);
        talk.messages -= u16::from(next == Step::Says(Line::Mail));
        talk.step = next;
        talk.again = 0;
        talk.since = now;
        match next {
            Step::Rests if self.plan.every.is_some() => self.rested.push_back((now, number)),
            Step::Rests => {}
            _ => self.said.push_back((now, number)),
        }
    }

    fn end(&mut self, now: Duration, number: u32, end: End) {
        let talk = &mut self.talks[number as usize];
        talk.step = Step::Over(end);
        self.news
            .push(News::Over(end, now - talk.began, talk.has_rested));
    }

    /// The other side hears that nothing more comes.
    fn break_off(&mut self, now: Duration, number: u32, end: End) -> Option<Segment<'static>> {
        self.end(now, number, end);
        let mut said = self.acknowledgement(now, number)?;
        said.control = TcpControl::Rst;
        Some(said)
    }

    /// What it says at its step.
    fn segment(&self, now: Duration, number: u32) -> Option<Segment<'static>> {
        let talk = self.talks.get(number as usize)?;
        let mut said = self.acknowledgement(now, number)?;
        match talk.step {
            Step::Calls => (said.control, said.ack) = (TcpControl::Syn, None),
            Step::Says(line) => (said.control, said.payload) = (TcpControl::Psh, line.bytes()),
            Step::Closes => said.control = TcpControl::Fin,
            Step::Listens | Step::Rests | Step::Over(_) => {}
        }
        said.seq = talk.snd_nxt.wrapping_sub(said.length());
        Some(said)
    }

    fn acknowledgement(&self, now: Duration, number: u32) -> Option<Segment<'static>> {
        let talk = self.talks.get(number as usize)?;
        Some(Segment {
            from: self.end_of(number)?,
            to: self.plan.to,
            control: TcpControl::None,
            seq: talk.snd_nxt,
            ack: Some(talk.rcv_nxt),
            stamps: Some(Stamps {
                own: clock(now),
                heard: talk.stamp,
            }),
            payload: b"",
        })
    }

    /// Its address and port: sessions take turns with addresses.
    fn end_of(&self, number: u32) -> Option<SocketAddrV4> {
        let Addresses { count, .. } = self.plan.addresses;
        let address = self.plan.addresses.nth(number % count)?;
        let port = u16::try_from(number / count).ok()?;
        Some(SocketAddrV4::new(
            address,
            self.plan.first_port.checked_add(port)?,
        ))
    }

    fn number(&self, heard: &Segment<'_>) -> Option<u32> {
        if heard.from != self.plan.to {
            return None;
        }
        let place = self.plan.addresses.place(*heard.to.ip())?;
        let turn = heard.to.port().checked_sub(self.plan.first_port)?;
        u32::from(turn)
            .checked_mul(self.plan.addresses.count)?
            .checked_add(place)
    }
}

#[cfg(test)]
mod tests;
