//! How a finished session looks in the session log: one line, as JSON or as logfmt.
//!
//! Both have the same keys in the same order. What isn't known is `null` in JSON and left out
//! in logfmt. Nothing is allocated but the line's own room.

use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::spec::LogFormat;

use super::account::{Account, FailedAttempt, Side};
use super::listener::TriedOut;

/// Appends what the log says of this session, with a newline, which is the only one.
pub(super) fn line(account: &Account, format: LogFormat, out: &mut Vec<u8>) {
    let mut line = LogLine {
        json: format == LogFormat::Json,
        begin: out.len(),
        out,
    };
    line.who(account);
    line.how_long(account);
    line.how_much(account);
    line.end(account);
}

/// A line that is being written.
struct LogLine<'a> {
    json: bool,
    /// Where it begins in `out`.
    begin: usize,
    out: &'a mut Vec<u8>,
}

impl LogLine<'_> {
    // The comments of these four are the texts of docs/reference/session-log.md.

    fn who(&mut self, account: &Account) {
        // When the session was accepted: RFC 3339, in UTC, to the millisecond.
        self.own("ts", |out| timestamp(account.accepted, out));
        // The session's own number, of 16 hexadecimal digits. `mailweir sessions` shows it, and a
        // server gets it by `proxy: v2`.
        self.own("id", |out| shown(account.id, out));
        // The listener that accepted it.
        self.text("listener", Some(&*account.listener));
        let client = canonical(account.client);
        // The client's address and port.
        self.own("client", |out| shown(client, out));
        // The client's address alone; of IPv6 without brackets.
        self.own("client_address", |out| shown(client.ip(), out));
        // Its port.
        self.number("client_port", Some(client.port().into()));
        // The pool of `server`; the listener's pool where no server took the session.
        self.text("pool", Some(&*account.pool));
        // The listener's pool, where the session overflowed from there into `pool`.
        self.text("overflow_of", account.overflow_of.as_deref());
        // The server that took the session.
        self.text("server", account.server.as_deref());
        // The servers that failed before one took it: each with the step (`connect`, `greeting`)
        // and the cause.
        self.tried(&account.tried);
    }

    fn how_long(&mut self, account: &Account) {
        // How long the client waited for its first byte, or for the refusal.
        self.millis("wait_ms", Some(account.wait));
        // How long of that it waited in the pool's queue; null where it didn't.
        self.millis("queued_ms", account.queued);
        // How long the server that took it needed to accept.
        self.millis("connect_ms", account.connect);
        // How long that server needed to greet then.
        self.millis("greeting_ms", account.greeting);
        // From the accept to the end.
        self.millis("duration_ms", Some(account.total));
    }

    fn how_much(&mut self, account: &Account) {
        // Bytes from the client.
        self.number("received_bytes", Some(account.received));
        // Bytes to the client, without a line that mailweir said itself.
        self.number("sent_bytes", Some(account.sent));
        // The code that the server greeted with, as 220.
        self.number("greeting_code", account.greeting_code.map(u64::from));
        // Whether the session was inside TLS.
        self.truth("tls", Some(account.tls));
        // How most bytes went: `copy` and `splice` are the relay, `kernel` is the kernel path.
        self.text("path", Some(account.path.label()));
        // Whether it ended between a 354 (or a BDAT chunk) and the answer to the message. Null
        // where that can't be known: inside TLS, on `tcp` listeners, where a peer doesn't keep to
        // the order of SMTP, and of most sessions on the kernel path.
        self.truth("in_data", account.in_data);
    }

    fn end(&mut self, account: &Account) {
        // Who spoke last: `client` or `server`.
        self.text("spoke_last", account.spoke_last.map(Side::label));
        // Who ended it: `client`, `server`, or `balancer`, which is mailweir.
        self.text("end_by", Some(account.end.by.label()));
        // Why it ended: a word of the list of end reasons.
        self.text("end_reason", Some(account.end.reason.label()));
        // The limits that were against it and refused nobody (`dry_run`). Null where an earlier
        // process let the session in.
        self.would_refuse(account.tried_out);
        self.out
            .extend_from_slice(if self.json { b"}\n" } else { b"\n" });
    }

    fn key(&mut self, key: &str) {
        let first = self.out.len() == self.begin;
        if self.json {
            self.out
                .extend_from_slice(if first { b"{\"" } else { b",\"" });
            self.out.extend_from_slice(key.as_bytes());
            self.out.extend_from_slice(b"\":");
        } else {
            if !first {
                self.out.push(b' ');
            }
            self.out.extend_from_slice(key.as_bytes());
            self.out.push(b'=');
        }
    }

    /// The key where there is a value to follow.
    fn key_of<T>(&mut self, key: &str, value: Option<T>) -> Option<T> {
        if value.is_some() {
            self.key(key);
        } else if self.json {
            self.key(key);
            self.out.extend_from_slice(b"null");
        }
        value
    }

    /// What this file makes, which never needs an escape.
    fn own(&mut self, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
        self.key(key);
        if self.json {
            self.out.push(b'"');
        }
        value(self.out);
        if self.json {
            self.out.push(b'"');
        }
    }

    fn text(&mut self, key: &str, value: Option<&str>) {
        let Some(value) = self.key_of(key, value) else {
            return;
        };
        if self.json || needs_quotes(value) {
            self.out.push(b'"');
            escaped(value, self.out);
            self.out.push(b'"');
        } else {
            self.out.extend_from_slice(value.as_bytes());
        }
    }

    fn truth(&mut self, key: &str, value: Option<bool>) {
        if let Some(value) = self.key_of(key, value) {
            self.out
                .extend_from_slice(if value { b"true" } else { b"false" });
        }
    }

    fn number(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = self.key_of(key, value) {
            digits(value, 1, self.out);
        }
    }

    /// To the microsecond; what is shorter is cut off.
    fn millis(&mut self, key: &str, value: Option<Duration>) {
        if let Some(value) = self.key_of(key, value) {
            let whole = value.as_secs().saturating_mul(1000);
            let millis = whole.saturating_add(value.subsec_millis().into());
            digits(millis, 1, self.out);
            self.out.push(b'.');
            digits((value.subsec_micros() % 1000).into(), 3, self.out);
        }
    }

    fn tried(&mut self, attempts: &[FailedAttempt]) {
        self.list("tried", attempts, |attempt, out| {
            escaped(&attempt.server, out);
            out.extend_from_slice(b": ");
            escaped(attempt.step, out);
            out.push(b' ');
            escaped(attempt.cause, out);
        });
    }

    /// What would have refused it, were it more than tried out.
    fn would_refuse(&mut self, tried_out: Option<TriedOut>) {
        match tried_out {
            Some(tried_out) => self.list("would_refuse", tried_out.each(), |what, out| {
                out.extend_from_slice(what.label().as_bytes());
            }),
            None => self.text("would_refuse", None),
        }
    }

    /// Where there is none, there is no key in logfmt.
    fn list<T>(
        &mut self,
        key: &str,
        items: impl IntoIterator<Item = T>,
        word: impl Fn(T, &mut Vec<u8>),
    ) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() && !self.json {
            return;
        }
        self.key(key);
        let (open, between, close): (&[u8], &[u8], &[u8]) = match (self.json, items.peek()) {
            (true, None) => (b"[", b"", b"]"),
            (true, Some(_)) => (b"[\"", b"\",\"", b"\"]"),
            (false, _) => (b"\"", b",", b"\""),
        };
        self.out.extend_from_slice(open);
        for (number, item) in items.enumerate() {
            if number > 0 {
                self.out.extend_from_slice(between);
            }
            word(item, self.out);
        }
        self.out.extend_from_slice(close);
    }
}

/// Whether a logfmt reader would take the bare value for something else.
fn needs_quotes(value: &str) -> bool {
    let odd = |byte| byte <= b' ' || matches!(byte, b'"' | b'=' | b'\\' | 0x7f);
    value.is_empty() || value.bytes().any(odd)
}

/// The inside of a JSON string; readers of logfmt take the same escapes.
fn escaped(value: &str, out: &mut Vec<u8>) {
    let bytes = value.as_bytes();
    let special = |byte: &u8| *byte < b' ' || matches!(byte, b'"' | b'\\' | 0x7f);
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(special) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            // A Vec takes everything.
            byte => drop(write!(out, "\\u{byte:04x}")),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// In decimal, with zeros in front where it would be shorter than `width`.
fn digits(mut number: u64, width: usize, out: &mut Vec<u8>) {
    // As many as the largest number has.
    let mut text = [b'0'; 20];
    let mut at = text.len();
    while number > 0 {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&text[at.min(text.len() - width)..]);
}

/// An IPv4 address that came in at an IPv6 socket is an IPv4 address to whoever reads this.
fn canonical(client: SocketAddr) -> SocketAddr {
    SocketAddr::new(client.ip().to_canonical(), client.port())
}

fn shown(value: impl fmt::Display, out: &mut Vec<u8>) {
    // A Vec takes everything.
    let _ = write!(out, "{value}");
}

/// The last second that RFC 3339 can write.
const LAST_SECOND: u64 = 253_402_300_799;

/// As RFC 3339 has it, in UTC, to the millisecond. A clock that stands before 1970 or after
/// 9999 is written as the nearest time there.
fn timestamp(time: SystemTime, out: &mut Vec<u8>) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs().min(LAST_SECOND);
    let (year, month, day) = civil(seconds / 86_400);
    let second = seconds % 86_400;
    for (number, width, after) in [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (second / 3600, 2, b':'),
        (second / 60 % 60, 2, b':'),
        (second % 60, 2, b'.'),
        (since.subsec_millis().into(), 3, b'Z'),
    ] {
        digits(number, width, out);
        out.push(after);
    }
}

/// Year, month and day of a day since 1970-01-01, in the Gregorian calendar.
///
/// Counted from the March of a year that 400 divides: leap days come last in a year, months
/// follow a straight line (153 days in five), and 400 years are 146097 days.
fn civil(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, date)
}

#[cfg(test)]
pub(super) mod tests;
