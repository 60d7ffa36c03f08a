//! What the balancer says to clients and servers, each with its CRLF.

use crate::record::EndReason;

/// For a server that isn't wanted any more: leaves no lost connection in its log.
pub(crate) const QUIT: &[u8] = b"QUIT\r\n";

/// For a client whose session ends here for this reason: before any server greeted it, or
/// between two commands.
///
/// 4.3.2 is RFC 3463's "system not accepting network messages".
pub(crate) fn last_word(hostname: &str, reason: EndReason) -> String {
    let why = match reason {
        EndReason::Full => "too many sessions, try again later",
        EndReason::Draining => "the mail servers are being taken out of service, try again later",
        EndReason::Maintenance => "the mail servers are under maintenance, try again later",
        EndReason::Paused => "the service is paused, try again later",
        EndReason::OutOfDescriptors => "out of resources, try again later",
        EndReason::Drain | EndReason::DrainDeadline => {
            "the mail server goes out of service, connect again"
        }
        EndReason::Age => "the session is too old, connect again",
        EndReason::Killed => "the session was ended by an operator, connect again",
        _ => "no mail server is available, try again later",
    };
    format!("421 4.3.2 {hostname} {why}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_one_short_line() {
        let hostname = "h".repeat(255);
        for reason in EndReason::ALL {
            let line = last_word(&hostname, reason);
            assert!(line.starts_with("421 4.3.2 hhh"));
            assert!(line.ends_with("\r\n"));
            assert_eq!(line.lines().count(), 1);
            // RFC 5321, 4.5.3.1.5: a reply line has at most 512 octets.
            assert!(line.len() <= 512);
        }
    }
}
