//! Servers that may still take a session although they failed it: those that haven't greeted in
//! time, but may yet, since whatever they wait for (a name server that doesn't answer, say) ends
//! some time; and what those said that won't have the client at all.

use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::conduct::GreetingFailure;
use crate::occupancy::Occupied;
use crate::server::Server;
use crate::smtp::greeting;
use crate::spec::ServerState;

use super::attempt::Attempt;

/// Servers of one session that are waited for beside the one that is tried. With the usual limits
/// there are no more; with a short time-out for greetings there could be dozens, each with a
/// descriptor here and a process there.
const MOST: usize = 3;
/// So many servers that say 5yz are the farm's judgement.
const ENOUGH: usize = 2;

/// What a session has, beside the server that is tried.
#[derive(Debug, Default)]
pub(super) struct Candidates<'a> {
    overdue: Vec<(Attempt<'a>, Occupied)>,
    /// How many servers said 5yz, and what the last one said.
    refused: usize,
    last_words: Vec<u8>,
    /// Whether one of those passed its checks.
    healthy: bool,
}

impl<'a> Candidates<'a> {
    /// This one's time-out is over; it is waited for by means of `place`.
    pub(super) fn keep(&mut self, attempt: Attempt<'a>, place: Occupied) {
        self.overdue.push((attempt, place));
    }

    /// Another server is tried: those that have waited longest are the ones to greet first.
    pub(super) fn leave_surplus(&mut self) {
        self.overdue.truncate(MOST);
    }

    /// Waits until one of those that are overdue greets; None once there are none left. What
    /// others say meanwhile is noted. Can be left and gone on with.
    pub(super) async fn winner(&mut self, hello: &[u8]) -> Option<Attempt<'a>> {
        poll_fn(|cx| self.poll_winner(cx, hello)).await
    }

    fn poll_winner(&mut self, cx: &mut Context<'_>, hello: &[u8]) -> Poll<Option<Attempt<'a>>> {
        let mut at = 0;
        while let Some((attempt, _)) = self.overdue.get_mut(at) {
            match attempt.poll_hear(cx, hello) {
                Poll::Pending => at += 1,
                Poll::Ready(Ok(())) => {
                    let (attempt, _) = self.overdue.swap_remove(at);
                    return Poll::Ready(Some(attempt));
                }
                // Its time-out was counted: that is one failure.
                Poll::Ready(Err(failure)) => {
                    let (attempt, _) = self.overdue.remove(at);
                    self.hear_refusal(failure, &attempt.member.server, &attempt.first_words.said);
                }
            }
        }
        if self.overdue.is_empty() {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }

    /// Notes what a server said that doesn't take the session.
    pub(super) fn hear_refusal(&mut self, failure: GreetingFailure, server: &Server, said: &[u8]) {
        if failure == GreetingFailure::Refused {
            self.refused += 1;
            self.healthy |= server.state() == ServerState::Up;
            self.last_words = greeting::refusal(said);
        }
    }

    /// What the farm says to this client, once it has: it is meant for the client, not a fault,
    /// where servers that are well say so. Where none is, 5yz would bounce everybody's mail.
    pub(super) fn judgement(&mut self) -> Option<Vec<u8>> {
        let judged = self.refused >= ENOUGH && self.healthy;
        judged.then(|| std::mem::take(&mut self.last_words))
    }
}
