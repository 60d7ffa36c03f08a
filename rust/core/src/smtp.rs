//! The SMTP that the balancer itself speaks: refusals. Bytes only.
//!
//! A refusal takes the place of the server's greeting (RFC 5321, 3.1 and 3.8): 421 says that
//! the service isn't there now and that the client is to come back, which keeps the mail in
//! its queue. Nothing is ever said after a byte of a server reached the client.

/// For a client that no server can be found for, with its CRLF.
///
/// 4.3.2 is RFC 3463's "system not accepting network messages".
pub(crate) fn no_server(hostname: &str) -> String {
    format!("421 4.3.2 {hostname} no mail server is available, try again later\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_short_line() {
        let line = no_server(&"h".repeat(255));
        assert!(line.starts_with("421 4.3.2 hhh"));
        assert!(line.ends_with("later\r\n"));
        // RFC 5321, 4.5.3.1.5: a reply line has at most 512 octets.
        assert!(line.len() <= 512);
    }
}
