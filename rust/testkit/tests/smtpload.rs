//! The binary against itself: every message arrives once and undamaged, failures are named.

#![allow(
    clippy::unwrap_used,
    reason = "what starts the programs is as much test as the rest"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use mailweir_testkit::script::Script;
use mailweir_testkit::server::ScriptedServer;
use mailweir_testkit::wait::LIMIT;
use serde_json::Value;

const SMTPLOAD: &str = env!("CARGO_BIN_EXE_smtpload");

struct Sink {
    child: Child,
    out: BufReader<ChildStdout>,
    addr: String,
}

impl Sink {
    fn start(args: &str) -> Self {
        let mut child = Command::new(SMTPLOAD)
            .args(["--json", "sink", "--listen", "127.0.0.1:0"])
            .args(args.split_whitespace())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let addr = ready["listening"][0].as_str().unwrap().to_owned();
        Self { child, out, addr }
    }

    fn report(mut self) -> Value {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut text = String::new();
        self.out.read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&text).unwrap()
    }
}

/// Also after a failed assertion: a sink left behind would hold the test runner's pipes open.
impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn source(addr: &str, args: &str) -> (Value, Option<i32>) {
    let Output { stdout, status, .. } = Command::new(SMTPLOAD)
        .args(["source", "--json", "--connect", addr])
        .args(args.split_whitespace())
        .output()
        .unwrap();
    (serde_json::from_slice(&stdout).unwrap(), status.code())
}

#[test]
fn every_message_arrives_once_and_undamaged() {
    let sink = Sink::start("--hash --threads 2");
    for args in [
        "--sessions 40 --messages 5 --pipelining --threads 2",
        "--sessions 40 --messages 5 --size 300000",
        "--duration 200ms --rate 100 --size 10 --source-ips 127.0.0.1,127.0.0.2",
    ] {
        let (report, code) = source(&sink.addr, args);
        assert_eq!(code, Some(0), "{report}");
        assert_eq!(report["messages"]["unknown"], 0);
        assert!(report["times_us"]["session"]["p50"].as_f64().unwrap() > 0.0);
    }
    let report = sink.report();
    assert_eq!(report["message_ids"]["distinct"], 420);
    assert_eq!(report["message_ids"]["duplicates"], serde_json::json!({}));
    assert_eq!(report["message_ids"]["damaged"], 0);
    assert_eq!(
        (&report["connections"], &report["lost"]),
        (&100.into(), &0.into())
    );
}

#[test]
fn a_sink_that_asks_for_a_proxy_header_refuses_plain_clients() {
    let sink = Sink::start("--proxy any");
    let talk = |first: &str| {
        let mut stream = TcpStream::connect(&sink.addr).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(first.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert_eq!(talk("EHLO a\r\n"), "");
    let answer = talk("PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\nQUIT\r\n");
    assert_eq!(answer, "220 sink ESMTP\r\n221 2.0.0 Bye\r\n");
    let report = sink.report();
    assert_eq!(report["proxy"]["headers"], 1);
    assert_eq!(report["proxy"]["sources"]["192.0.2.1"], 1);
    assert_eq!(
        (&report["proxy"]["errors"], &report["lost"]),
        (&1.into(), &1.into())
    );
}

#[test]
fn a_sink_refuses_its_share() {
    let sink = Sink::start("--refuse-every 4");
    let (report, code) = source(&sink.addr, "--sessions 20");
    assert_eq!(code, Some(1));
    assert_eq!(report["failures"]["greeting"]["5xx"], 5, "{report}");
    assert_eq!(sink.report()["lost"], 5);
}

#[test]
fn failures_are_named() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (script, stage, kind) in [
        (Script::RefuseWith421, "greeting", "421"),
        (Script::CloseOnAccept, "greeting", "eof"),
        (Script::Silent, "greeting", "timeout"),
        (Script::greeting_then_close("220 x\r\n"), "ehlo", "eof"),
    ] {
        let server = runtime.block_on(ScriptedServer::start(script)).unwrap();
        let (report, code) = source(&server.addr().to_string(), "--sessions 3 --timeout 300ms");
        assert_eq!(code, Some(1));
        assert_eq!(report["failures"][stage][kind], 3, "{report}");
    }
    let port = mailweir_testkit::port::unbound_port().unwrap();
    let (report, _) = source(&port.addr().to_string(), "--sessions 3");
    assert_eq!(report["failures"]["connect"]["refused"], 3);
}
