//! Watches a client while a server is sought for it: whether it is still there, and waits.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

use crate::client::Client;
use crate::record::{End, EndReason, LiveSession};
use crate::spec::Protocol;

/// Until a client is watched while a server is sought for it. Mostly one is found before that.
///
/// More than a worker's tick, so that it never is the timer that is due first: tokio would tell the
/// reactor of it by a write to an eventfd.
pub(crate) const WATCHED_AFTER: Duration = Duration::from_millis(600);

/// Returns once the client's connection broke, or somebody ended the session. A client's
/// end of stream doesn't count: it may have said all that it has to say.
pub(super) async fn is_over(client: &Client, live: &LiveSession) -> End {
    let killed = poll_fn(|_| {
        // A kill wakes the task that this is part of.
        live.killed().map_or(Poll::Pending, Poll::Ready)
    });
    tokio::select! {
        () = is_lost(client) => End::by_client(EndReason::ClientLost),
        reason = killed => End::ours(reason),
    }
}

/// Returns once the client has said that it will say nothing, before it was greeted: it doesn't
/// wait for a server any more. Where anything may be spoken, it may mean that it has said all.
pub(super) async fn gives_up(client: &Client, protocol: Protocol) {
    if protocol == Protocol::Tcp || client.leaves().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn is_lost(client: &Client) {
    sleep(WATCHED_AFTER).await;
    if client.breaks().await.is_err() {
        // It can't be watched, or the process ends: then whoever speaks to it notices.
        std::future::pending::<()>().await;
    }
}
