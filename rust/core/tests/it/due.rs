//! What is due keeps a session from being cut; what nobody reads doesn't, in the end.

use mailweir_core::EndReason;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::drain::{OPAQUE, QUIET, both_ends, drain, pass, quick};
use crate::rig::{Rig, raw, reasons, spec};

/// A cut that waits for the client to have read all is no reason to wait for ever.
#[tokio::test]
async fn the_deadline_cuts_a_client_that_reads_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut spec = quick(raw(&[listener.local_addr().unwrap()]));
    // Behind the moment that is polite.
    spec.drain.deadline = 3 * OPAQUE;
    let rig = Rig::start_with(spec);
    let [client, mut server] = both_ends(&rig, &listener).await;
    let talks = tokio::spawn(async move {
        // More than the buffers on the way hold.
        let _ = server.write_all(&vec![b'x'; 64 << 20]).await;
    });
    rig.wait_for(|stats| stats.listeners[0].sent_bytes > 0)
        .await;
    drain(&rig);
    let stats = rig.wait_for_ends().await;
    assert_eq!(reasons(&stats), [(EndReason::DrainDeadline, 1)]);
    talks.await.unwrap();
    drop(client);
}

/// Replies to what was pipelined before a message are no answer to it (RFC 3030): a session that is
/// cut then sends it again.
#[tokio::test]
async fn a_message_that_was_pipelined_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut spec = quick(spec(&[listener.local_addr().unwrap()]));
    let timeouts = &mut spec.listeners[0].timeouts;
    [timeouts.idle_client, timeouts.half_closed] = [QUIET; 2];
    let rig = Rig::start_with(spec);
    let [mut client, mut server] = both_ends(&rig, &listener).await;
    pass(&mut server, &mut client, "220 mx\r\n").await;
    let all = "MAIL FROM:<a@a.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 5 LAST\r\nhello";
    pass(&mut client, &mut server, all).await;
    client.shutdown().await.unwrap();
    pass(&mut server, &mut client, "250 sender\r\n250 recipient\r\n").await;
    drain(&rig);
    // It looks at the message.
    tokio::time::sleep(10 * QUIET).await;
    pass(&mut server, &mut client, "250 taken\r\n").await;
    rig.wait_for_ends().await;
}
