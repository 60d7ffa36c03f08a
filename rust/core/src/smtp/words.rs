//! What the balancer says to clients and servers, each with its CRLF.

use crate::record::EndReason;
use crate::spec::DenyCode;

/// For a server that isn't wanted any more: leaves no lost connection in its log.
pub(crate) const QUIT: &[u8] = b"QUIT\r\n";

/// For a client whose session ends here for this reason: before any server greeted it, or
/// between two commands.
///
/// The codes are RFC 3463's: 4.3.2 "system not accepting network messages", 4.7.0 "other or
/// undefined security status", 4.7.1 and 5.7.1 "delivery not authorized".
pub(crate) fn last_word(hostname: &str, reason: EndReason, denied: DenyCode) -> String {
    let code = match (reason, denied) {
        (EndReason::Denied, DenyCode::Never) => "554 5.7.1",
        (EndReason::Denied, DenyCode::NotNow) => "421 4.7.1",
        (EndReason::SourceSessions | EndReason::SourceRate, _) => "421 4.7.0",
        _ => "421 4.3.2",
    };
    let why = match reason {
        EndReason::Denied => "your address may not send mail here",
        EndReason::SourceSessions => "too many sessions from your address, try again later",
        EndReason::SourceRate => "too many connections from your address, try again later",
        EndReason::QueueTimeout => "all mail servers are busy, try again later",
        EndReason::Full => "too many sessions, try again later",
        EndReason::Draining => "the mail servers are being taken out of service, try again later",
        EndReason::Maintenance => "the mail servers are under maintenance, try again later",
        EndReason::Paused => "the service is paused, try again later",
        EndReason::OutOfDescriptors => "out of resources, try again later",
        EndReason::Drain | EndReason::DrainDeadline => {
            "the mail server goes out of service, connect again"
        }
        EndReason::Age => "the session is too old, connect again",
        EndReason::ServerDown => "the mail server is down, connect again",
        EndReason::Killed => "the session was ended by an operator, connect again",
        _ => "no mail server is available, try again later",
    };
    format!("{code} {hostname} {why}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_one_short_line() {
        let hostname = "h".repeat(255);
        let codes = [DenyCode::Never, DenyCode::NotNow];
        let all = codes
            .into_iter()
            .flat_map(|code| EndReason::ALL.map(|reason| (code, reason)));
        for (code, reason) in all {
            let line = last_word(&hostname, reason, code);
            let denied = format!("{} {}.7.1 hhh", code.code(), code.code() / 100);
            let codes = ["421 4.3.2 hhh", "421 4.7.0 hhh", &denied];
            assert!(codes.iter().any(|code| line.starts_with(code)));
            assert!(line.ends_with("\r\n"));
            assert_eq!(line.lines().count(), 1);
            // RFC 5321, 4.5.3.1.5: a reply line has at most 512 octets.
            assert!(line.len() <= 512);
        }
    }
}
