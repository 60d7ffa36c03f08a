//! Lines are read back by other parsers: serde_json, and logfmt by hand.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;

use super::super::account::{Path, SessionId};
use super::super::listener::WouldRefuse;
use super::super::reason::{End, EndBy, EndReason};
use super::*;

const KEYS: &str = "ts id listener client client_address client_port pool overflow_of server tried \
                    wait_ms queued_ms connect_ms greeting_ms duration_ms received_bytes sent_bytes greeting_code tls path in_data \
                    spoke_last end_by end_reason would_refuse";

fn attempt(server: &str, step: &'static str, cause: &'static str) -> FailedAttempt {
    FailedAttempt {
        server: server.into(),
        step,
        cause,
    }
}

fn full() -> Account {
    Account {
        id: SessionId(0x00c0_ffee_0000_0001),
        accepted: UNIX_EPOCH + Duration::from_millis(1_795_581_300_123),
        listener: "mx".into(),
        client: "[::ffff:192.0.2.1]:1025".parse().unwrap(),
        pool: "farm".into(),
        overflow_of: Some("near".into()),
        server: Some("a".into()),
        tried: vec![
            attempt("b", "greeting", "4xx"),
            attempt("c", "connect", "refused"),
        ],
        wait: Duration::from_nanos(12_345_678),
        queued: Some(Duration::from_millis(7)),
        connect: Some(Duration::from_micros(45)),
        greeting: Some(Duration::from_millis(1500)),
        total: Duration::from_secs(61),
        received: 4096,
        sent: 310,
        greeting_code: Some(220),
        tls: true,
        path: Path::Splice,
        in_data: Some(false),
        spoke_last: Some(Side::Server),
        end: End::by_client(EndReason::ClientQuit),
        tried_out: Some(tried_out(&[WouldRefuse::Access, WouldRefuse::Sessions])),
    }
}

fn tried_out(what: &[WouldRefuse]) -> TriedOut {
    let mut tried_out = TriedOut::default();
    what.iter().for_each(|one| tried_out.add(*one));
    tried_out
}

/// Of a session that came to nothing.
pub(in super::super) fn empty() -> Account {
    Account {
        client: "[2001:db8::1]:1025".parse().unwrap(),
        overflow_of: None,
        server: None,
        tried: vec![],
        queued: None,
        connect: None,
        greeting: None,
        greeting_code: None,
        spoke_last: None,
        tls: false,
        in_data: None,
        path: Path::Copy,
        received: 0,
        end: End::ours(EndReason::NoServer),
        tried_out: Some(TriedOut::default()),
        ..full()
    }
}

fn written(account: &Account, format: LogFormat) -> String {
    let mut out = b"before\n".to_vec();
    line(account, format, &mut out);
    let text = String::from_utf8(out).unwrap();
    text.strip_prefix("before\n").unwrap().to_string()
}

#[test]
fn a_line_of_json_has_everything() {
    let expected = concat!(
        r#"{"ts":"2026-11-25T04:35:00.123Z","id":"00c0ffee00000001","listener":"mx","#,
        r#""client":"192.0.2.1:1025","client_address":"192.0.2.1","client_port":1025,"#,
        r#""pool":"farm","overflow_of":"near","server":"a","#,
        r#""tried":["b: greeting 4xx","c: connect refused"],"wait_ms":12.345,"queued_ms":7.000,"#,
        r#""connect_ms":0.045,"greeting_ms":1500.000,"duration_ms":61000.000,"#,
        r#""received_bytes":4096,"sent_bytes":310,"greeting_code":220,"tls":true,"#,
        r#""path":"splice","in_data":false,"spoke_last":"server","end_by":"client","#,
        r#""end_reason":"client_quit","would_refuse":["access","sessions"]}"#,
        "\n"
    );
    assert_eq!(written(&full(), LogFormat::Json), expected);
}

#[test]
fn what_is_not_known_is_null_in_json() {
    let expected = concat!(
        r#"{"ts":"2026-11-25T04:35:00.123Z","id":"00c0ffee00000001","listener":"mx","#,
        r#""client":"[2001:db8::1]:1025","client_address":"2001:db8::1","client_port":1025,"#,
        r#""pool":"farm","overflow_of":null,"server":null,"tried":[],"#,
        r#""wait_ms":12.345,"queued_ms":null,"connect_ms":null,"greeting_ms":null,"duration_ms":61000.000,"#,
        r#""received_bytes":0,"sent_bytes":310,"greeting_code":null,"tls":false,"#,
        r#""path":"copy","in_data":null,"spoke_last":null,"end_by":"balancer","#,
        r#""end_reason":"no_server","would_refuse":[]}"#,
        "\n"
    );
    assert_eq!(written(&empty(), LogFormat::Json), expected);
}

#[test]
fn a_line_of_logfmt_has_everything() {
    let expected = concat!(
        "ts=2026-11-25T04:35:00.123Z id=00c0ffee00000001 listener=mx ",
        "client=192.0.2.1:1025 client_address=192.0.2.1 client_port=1025 ",
        "pool=farm overflow_of=near server=a ",
        "tried=\"b: greeting 4xx,c: connect refused\" wait_ms=12.345 queued_ms=7.000 connect_ms=0.045 ",
        "greeting_ms=1500.000 duration_ms=61000.000 received_bytes=4096 sent_bytes=310 ",
        "greeting_code=220 tls=true path=splice in_data=false spoke_last=server ",
        "end_by=client end_reason=client_quit would_refuse=\"access,sessions\"\n"
    );
    assert_eq!(written(&full(), LogFormat::Logfmt), expected);
}

#[test]
fn what_is_not_known_is_left_out_of_logfmt() {
    let expected = concat!(
        "ts=2026-11-25T04:35:00.123Z id=00c0ffee00000001 listener=mx ",
        "client=[2001:db8::1]:1025 client_address=2001:db8::1 client_port=1025 ",
        "pool=farm wait_ms=12.345 duration_ms=61000.000 ",
        "received_bytes=0 sent_bytes=310 tls=false path=copy ",
        "end_by=balancer end_reason=no_server\n"
    );
    assert_eq!(written(&empty(), LogFormat::Logfmt), expected);
}

#[test]
fn names_cannot_break_a_line() {
    let mut account = empty();
    account.tried = vec![attempt("x\"y", "connect", "refused")];
    for (name, logfmt) in [
        ("a b", r#""a b""#),
        ("a=b", r#""a=b""#),
        ("", r#""""#),
        ("a\"b\\c", r#""a\"b\\c""#),
        ("a\nb\u{1b}\u{7f}", r#""a\u000ab\u001b\u007f""#),
        ("Grüße", "Grüße"),
    ] {
        account.pool = name.into();
        let line = written(&account, LogFormat::Logfmt);
        let expected = format!(r#" pool={logfmt} tried="x\"y: connect refused" "#);
        assert!(line.contains(&expected), "{line}");
        let json = written(&account, LogFormat::Json);
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["pool"], name);
        assert_eq!(read["tried"][0], "x\"y: connect refused");
    }
}

#[test]
fn every_day_has_its_date() {
    let (mut year, mut month, mut date) = (1970, 1, 1);
    for day in 0..=LAST_SECOND / 86_400 {
        assert_eq!(civil(day), (year, month, date));
        let leap = year % 4 == 0 && (year % 100 > 0 || year % 400 == 0);
        let length = match month {
            2 => 28 + u64::from(leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        date += 1;
        if date > length {
            (month, date) = (month + 1, 1);
        }
        if month > 12 {
            (year, month) = (year + 1, 1);
        }
    }
    assert_eq!((year, month, date), (10_000, 1, 1));
}

#[test]
fn impossible_times_are_written_as_the_nearest() {
    let mut account = full();
    account.accepted = UNIX_EPOCH - Duration::from_secs(1);
    let early = written(&account, LogFormat::Logfmt);
    assert!(early.starts_with("ts=1970-01-01T00:00:00.000Z "), "{early}");
    account.accepted = UNIX_EPOCH + Duration::from_secs(LAST_SECOND + 1);
    let late = written(&account, LogFormat::Logfmt);
    assert!(late.starts_with("ts=9999-12-31T23:59:59.000Z "), "{late}");
}

prop_compose! {
    fn any_account()(
        names in any::<[String; 3]>(),
        server in any::<Option<String>>(),
        tried in prop::collection::vec(any::<String>(), 0..4),
        client in any::<SocketAddr>(),
        (accepted, wait, total) in any::<(SystemTime, Duration, Duration)>(),
        [queued, connect, greeting] in any::<[Option<Duration>; 3]>(),
        (id, received, sent, greeting_code) in any::<(u64, u64, u64, Option<u16>)>(),
        ([tls, splice, overflows], in_data) in any::<([bool; 3], Option<bool>)>(),
        spoke_last in prop::option::of(prop::sample::select(&[Side::Client, Side::Server])),
        by in prop::sample::select(&[EndBy::Client, EndBy::Server, EndBy::Balancer]),
        reason in prop::sample::select(&EndReason::ALL),
        refusals in prop::option::of(prop::sample::subsequence(&WouldRefuse::ALL, 0..=4)),
    ) -> Account {
        let [listener, pool, _] = &names;
        Account {
            id: SessionId(id), accepted, listener: (&**listener).into(), client,
            pool: (&**pool).into(), overflow_of: overflows.then(|| (&**listener).into()), server: server.as_deref().map(Into::into),
            tried: tried.iter().map(|name| attempt(name, "connect", "refused")).collect(),
            wait, queued, connect, greeting, total, received, sent, greeting_code, tls,
            path: if splice { Path::Splice } else { Path::Copy },
            in_data, spoke_last, end: End { reason, by },
            tried_out: refusals.map(|what| tried_out(&what)),
        }
    }
}

proptest! {
    #[test]
    fn any_account_is_one_valid_line(account in any_account()) {
        let json = written(&account, LogFormat::Json);
        prop_assert_eq!(json.find('\n'), Some(json.len() - 1));
        let read: serde_json::Map<String, Value> = serde_json::from_str(&json).unwrap();
        let keys: BTreeSet<&str> = read.keys().map(String::as_str).collect();
        prop_assert_eq!(keys, KEYS.split_whitespace().collect());
        prop_assert_eq!(&read["listener"], &*account.listener);
        prop_assert_eq!(read["server"].as_str(), account.server.as_deref());
        let client = canonical(account.client);
        prop_assert_eq!(&read["client"], &client.to_string());
        prop_assert_eq!(&read["client_address"], &client.ip().to_string());
        prop_assert_eq!(&read["client_port"], client.port());
        prop_assert_eq!(read["tried"].as_array().unwrap().len(), account.tried.len());
        prop_assert_eq!(&read["received_bytes"], account.received);
        let refusals = account.tried_out.map(|what| what.each().map(WouldRefuse::label).collect());
        prop_assert_eq!(&read["would_refuse"], &serde_json::json!(refusals as Option<Vec<_>>));
        let logfmt = written(&account, LogFormat::Logfmt);
        prop_assert_eq!(logfmt.find('\n'), Some(logfmt.len() - 1));
    }
}
