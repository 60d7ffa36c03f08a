//! When the silent peers of a flow are asked whether they are there: as the relay's sockets ask, which
//! Linux does (tcp_timer.c, `tcp_keepalive_timer`). Pure; time is an argument, in whole seconds
//! since the table of flows began.
//!
//! Linux asks nobody who has something to acknowledge, since it says that again anyway, and takes who
//! doesn't for lost after the same time. Here he is asked too: what the other peer seems to have said may
//! be forged, and a peer that is there answers.

use std::fs;

use mailweir_flow::Flow;

use crate::limits::{keepalive, share, user_timeout};
use crate::record::Side;

/// Between keepalives that nobody answers: of this network, as its sockets take it.
const INTERVAL: &str = "/proc/sys/net/ipv4/tcp_keepalive_intvl";
/// Where that can't be read: what it is unless somebody sets it (linux/include/net/tcp.h).
const USUAL_INTERVAL: u32 = 75;

/// How patient we are with silent peers, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Between the last that a peer said and the first keepalive.
    pub(super) first: u32,
    /// Between keepalives.
    pub(super) every: u32,
    /// Between the last that a peer said and its end, if a keepalive wasn't answered.
    pub(super) most: u32,
}

impl Patience {
    /// As the relay's sockets have it on this host.
    pub(super) fn here() -> Self {
        let interval = fs::read_to_string(INTERVAL).ok();
        let interval = interval.and_then(|said| said.trim().parse().ok());
        Self {
            first: keepalive().as_secs() as u32,
            every: interval.unwrap_or(USUAL_INTERVAL),
            most: user_timeout().as_secs() as u32,
        }
    }
}

/// How many segments client and server of a flow have said, as far as it can be seen that they go on:
/// the lower half of each number.
pub(super) fn said(flow: &Flow) -> [u32; 2] {
    flow.sides.map(|side| side.segs_in as u32)
}

/// What is known of a flow's peers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keepalive {
    peers: [Peer; 2],
}

#[derive(Debug, Clone, Copy)]
struct Peer {
    /// None before the first look at a flow that was there before.
    segments: Option<u32>,
    /// When it was heard last.
    heard: u32,
    /// When it is to be asked, if it isn't heard before.
    due: u32,
    /// Since it was heard last.
    is_asked: bool,
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outlook {
    /// Whether client and server are to be asked now.
    pub(super) asks: [bool; 2],
    /// Who is gone.
    pub(super) lost: Option<Side>,
    /// When to look again, at the latest.
    pub(super) next: u32,
}

impl Keepalive {
    /// Of a flow that begins, and hasn't carried a segment: its peers have just been heard.
    pub(super) fn begin(now: u32, patience: &Patience) -> Self {
        Self::first_due(Some(0), now, now + patience.first)
    }

    /// Of a flow that was there before. All are found at once, and aren't to be asked at once, now or
    /// ever after.
    pub(super) fn go_on(now: u32, number: u32, patience: &Patience) -> Self {
        let wait = f64::from(patience.first) * share(number.into());
        Self::first_due(None, now, now + wait as u32)
    }

    fn first_due(segments: Option<u32>, now: u32, due: u32) -> Self {
        let peer = Peer {
            segments,
            heard: now,
            due,
            is_asked: false,
        };
        Self { peers: [peer; 2] }
    }

    /// Looks at both, by what they have [`said`].
    pub(super) fn look(&mut self, now: u32, said: [u32; 2], patience: &Patience) -> Outlook {
        let [client, server] = &mut self.peers;
        let [of_client, of_server] = said;
        let is_lost = [
            client.look(now, of_client, patience),
            server.look(now, of_server, patience),
        ];
        // Of two that are gone the relay hears of the server first, where the one wasn't silent for longer.
        let lost = match is_lost {
            [Asked::InVain, Asked::InVain] if client.heard < server.heard => Some(Side::Client),
            [_, Asked::InVain] => Some(Side::Server),
            [Asked::InVain, _] => Some(Side::Client),
            _ => None,
        };
        Outlook {
            asks: is_lost.map(|asked| asked == Asked::Now),
            lost,
            next: client.due.min(server.due).max(now + 1),
        }
    }
}

/// Whether a peer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    NotYet,
    Now,
    /// It was, for too long.
    InVain,
}

impl Peer {
    fn look(&mut self, now: u32, segments: u32, patience: &Patience) -> Asked {
        let before = self.segments.replace(segments);
        if before.is_some_and(|before| before != segments) {
            (self.heard, self.is_asked) = (now, false);
            self.due = now + patience.first;
        }
        if now < self.due {
            return Asked::NotYet;
        }
        // Until it is heard: whoever looks again, since what he saw was from a moment before, finds the same.
        if self.is_asked && now - self.heard >= patience.most {
            return Asked::InVain;
        }
        self.due = now + patience.every.max(1);
        self.is_asked = true;
        Asked::Now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the relay has it, and Linux by itself.
    const PATIENCE: Patience = Patience {
        first: 60,
        every: 75,
        most: 720,
    };

    /// What happens at each second that something does, to both peers silent from the beginning, or
    /// to those that answer within a second.
    fn course(answers: [bool; 2], until: u32) -> Vec<(u32, [bool; 2], Option<Side>)> {
        let mut keepalive = Keepalive::begin(0, &PATIENCE);
        let mut segments = [5, u32::MAX];
        let mut course = vec![];
        for now in 0..until {
            let step = keepalive.look(now, segments, &PATIENCE);
            assert!(step.next > now);
            if step.asks != [false; 2] || step.lost.is_some() {
                course.push((now, step.asks, step.lost));
            }
            for ((said, asked), answers) in segments.iter_mut().zip(step.asks).zip(answers) {
                *said = said.wrapping_add(u32::from(asked && answers));
            }
            if step.lost.is_some() {
                break;
            }
        }
        course
    }

    #[test]
    fn who_answers_is_asked_each_minute() {
        let both = [true; 2];
        let expected: Vec<_> = (0..5).map(|turn| (60 + 61 * turn, both, None)).collect();
        assert_eq!(course(both, 310), expected);
    }

    /// Nine are unanswered when the time is over that Linux gives an acknowledgement.
    #[test]
    fn who_is_gone_is_found_as_on_the_relay() {
        for (side, lost) in [(0, Side::Client), (1, Side::Server)] {
            let mut answers = [true; 2];
            answers[side] = false;
            let all = course(answers, 1000);
            let own: Vec<u32> = all
                .iter()
                .filter(|one| one.1[side])
                .map(|one| one.0)
                .collect();
            assert_eq!(own, (0..9).map(|turn| 60 + 75 * turn).collect::<Vec<_>>());
            let (at, asks, found) = all[all.len() - 1];
            assert_eq!((at, asks[side], found), (735, false, Some(lost)));
        }
        assert_eq!(
            course([false; 2], 1000).last().unwrap().2,
            Some(Side::Server)
        );
    }

    #[test]
    fn who_was_silent_for_longer_is_lost_first() {
        let mut keepalive = Keepalive::begin(0, &PATIENCE);
        keepalive.look(0, [1, 1], &PATIENCE);
        keepalive.look(10, [1, 2], &PATIENCE);
        let at = |keepalive: &mut Keepalive, now| keepalive.look(now, [1, 2], &PATIENCE);
        assert_eq!(at(&mut keepalive, 100).asks, [true; 2]);
        assert_eq!(at(&mut keepalive, 2000).lost, Some(Side::Client));
    }

    /// Even where they were silent before: each has been asked in the first minute.
    #[test]
    fn flows_that_are_found_at_once_are_not_asked_at_once() {
        let mut asked = vec![0; 60];
        for number in 0..6000 {
            let mut keepalive = Keepalive::go_on(7, number, &PATIENCE);
            let mut next = 7;
            let step = loop {
                let step = keepalive.look(next, [9, 9], &PATIENCE);
                if step.asks != [false; 2] {
                    break next;
                }
                next = step.next;
            };
            asked[step as usize - 7] += 1;
        }
        assert!(
            asked.iter().all(|flows| (90..110).contains(flows)),
            "{asked:?}"
        );
    }

    #[test]
    fn what_counts_is_that_the_number_of_segments_changes() {
        let mut flow = Flow::from_bytes(&[0; Flow::SIZE]);
        (flow.sides[0].segs_in, flow.sides[1].segs_in) = ((3 << 32) + 7, 9);
        assert_eq!(said(&flow), [7, 9]);
    }

    proptest! {
        /// However often somebody looks, and whatever is heard: nobody is silent for longer than the
        /// first wait unasked, nobody is asked within it, and only who was asked in vain is lost.
        #[test]
        fn nobody_is_forgotten(
            looks in prop::collection::vec((1_u32..40, any::<bool>(), any::<bool>()), 1..400),
            first in 1_u32..100,
            every in 0_u32..100,
            most in 1_u32..1000,
        ) {
            let patience = Patience { first, every, most };
            let mut keepalive = Keepalive::begin(0, &patience);
            let (mut now, mut said, mut last, mut in_vain) = (0, [0; 2], [0; 2], [0; 2]);
            keepalive.look(0, [0, 0], &patience);
            let mut next = first;
            for (wait, client, server) in looks {
                now = next.min(now + wait);
                for (side, speaks) in [client, server].into_iter().enumerate() {
                    if speaks {
                        (said[side], last[side], in_vain[side]) = (said[side] + 1, now, 0);
                    }
                }
                let step = keepalive.look(now, said, &patience);
                prop_assert!(step.next > now);
                for side in 0..2 {
                    let silent = now - last[side];
                    prop_assert!(!step.asks[side] || silent >= first);
                    in_vain[side] += u32::from(step.asks[side]);
                    prop_assert!(silent < first || in_vain[side] > 0);
                }
                if let Some(lost) = step.lost {
                    let lost = usize::from(lost == Side::Server);
                    prop_assert!(in_vain[lost] > 0 && now - last[lost] >= most);
                }
                next = step.next;
            }
        }
    }
}
