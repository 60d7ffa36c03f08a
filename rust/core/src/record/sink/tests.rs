//! Files, standard error and syslog as they fail: torn lines, full disks, moved files.

use std::io::Read;
use std::{env, fs};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use super::super::account::SessionId;
use super::*;

/// A folder for one test.
pub(in super::super) struct Folder(pub(in super::super) PathBuf);

impl Folder {
    pub(in super::super) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("mailweir-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(in super::super) fn file(&self, name: &str) -> Sink {
        file(&self.0.join(name)).unwrap()
    }

    /// The numbers of the sessions that are in these files.
    pub(in super::super) fn numbers(&self, names: &[&str]) -> Vec<u64> {
        let texts = names
            .iter()
            .map(|name| fs::read(self.0.join(name)).unwrap());
        let read = |line: Value| SessionId::parse(line["id"].as_str().unwrap()).unwrap().0;
        let lines = texts.collect::<Vec<_>>().concat();
        let lines = serde_json::Deserializer::from_slice(&lines).into_iter();
        lines.map(|line| read(line.unwrap())).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(in super::super) fn file(path: &Path) -> io::Result<Sink> {
    Sink::open(&LogSpec {
        sessions: LogTarget::File(path.to_owned()),
        format: LogFormat::Json,
    })
}

fn syslog(path: &Path) -> io::Result<Sink> {
    Syslog::open(path).map(|syslog| Sink::new(Target::Syslog(syslog), LogFormat::Json))
}

fn failure(written: &Written) -> String {
    written.failure.as_ref().unwrap().to_string()
}

/// Lines that are told apart by their numbers, more than a pipe takes.
fn many() -> (Vec<u8>, u64) {
    let lines = 0..20_000;
    let text: String = lines.clone().map(|line| format!("<{line}>\n")).collect();
    (text.into_bytes(), lines.end)
}

#[test]
fn a_file_is_appended_to_and_readable_by_its_group() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("append");
    let path = folder.0.join("log");
    assert_eq!(file(&path).unwrap().write(b"a\n", 1).lines, 1);
    assert_eq!(file(&path).unwrap().write(b"b\nc\n", 2).lines, 2);
    assert_eq!(fs::read(&path).unwrap(), b"a\nb\nc\n");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0);
    let error = file(&folder.0.join("none/log")).unwrap_err();
    assert!(
        error.to_string().contains("none/log: No such file"),
        "{error}"
    );
}

#[test]
fn a_line_that_was_left_unfinished_is_closed_off() {
    let folder = Folder::new("torn");
    let path = folder.0.join("log");
    fs::write(&path, "whole\nhal").unwrap();
    let mut sink = file(&path).unwrap();
    sink.follow(&Sink::off());
    sink.write(b"a\n", 1);
    sink.reopen().unwrap();
    sink.write(b"b\n", 1);
    assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nhal\na\nb\n");
}

#[test]
fn a_reader_that_stands_still_costs_lines_and_tears_none_but_one() {
    let folder = Folder::new("stuck");
    let path = folder.0.join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let open = |path| {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
    };
    let mut reader = open(&path).unwrap();
    let mut sink = file(&path).unwrap();
    sink.write(b"odd\n", 1);
    let (text, lines) = many();
    let first = sink.write(&text, lines);
    assert!(first.is_stuck() && first.lines > 0 && first.lines < lines);
    assert_eq!(sink.write(&text, lines).lines, 0);
    assert!(sink.torn);

    let mut read = vec![0; 1 << 20];
    let size = reader.read(&mut read).unwrap();
    let last = sink.write(b"<next>\n", 1);
    assert_eq!(last.lines, 1);
    let rest = reader.read(&mut read[size..]).unwrap();
    let read = std::str::from_utf8(&read[..size + rest]).unwrap();
    let whole = |line: &&str| line.starts_with('<') && line.ends_with('>');
    assert_eq!(read.lines().filter(whole).count() as u64, first.lines + 1);
    assert_eq!(read.lines().count() as u64, first.lines + 3);
    assert!(read.ends_with("\n<next>\n"));
}

#[test]
fn syslog_gets_a_datagram_for_each_line() {
    let folder = Folder::new("syslog");
    let path = folder.0.join("log");
    let error = syslog(&path).unwrap_err().to_string();
    assert!(error.starts_with("no system log at /"), "{error}");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let mut sink = syslog(&path).unwrap();
    assert_eq!(sink.write(b"one\ntwo\n", 2).lines, 2);
    for line in ["one", "two"] {
        let mut datagram = [0; 100];
        let size = daemon.recv(&mut datagram).unwrap();
        let expected = format!("<22>mailweir[{}]: {line}", std::process::id());
        assert_eq!(datagram[..size], *expected.as_bytes());
    }
}

#[test]
fn a_syslog_that_comes_back_is_found_again() {
    let folder = Folder::new("gone");
    let path = folder.0.join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let mut sink = syslog(&path).unwrap();
    drop(daemon);
    let refused = sink.write(b"one\ntwo\n", 2);
    assert_eq!(refused.lines, 0);
    fs::remove_file(&path).unwrap();
    let gone = sink.write(b"three\n", 1);
    assert!(
        failure(&gone).ends_with("(os error 2)"),
        "{}",
        failure(&gone)
    );
    let daemon = UnixDatagram::bind(&path).unwrap();
    assert_eq!(sink.write(b"four\n", 1).lines, 1);
    // One that was exchanged between two lines costs none.
    drop(daemon);
    fs::remove_file(&path).unwrap();
    let daemon = UnixDatagram::bind(&path).unwrap();
    assert_eq!(sink.write(b"five\n", 1).lines, 1);
    let mut datagram = [0; 100];
    let size = daemon.recv(&mut datagram).unwrap();
    assert!(datagram[..size].ends_with(b": five"));
}

#[test]
fn a_syslog_that_stands_still_is_not_waited_for_long() {
    let folder = Folder::new("slow");
    let path = folder.0.join("log");
    let _daemon = UnixDatagram::bind(&path).unwrap();
    let mut sink = syslog(&path).unwrap();
    let (text, lines) = many();
    let begun = Instant::now();
    let written = sink.write(&text, lines);
    assert!(written.is_stuck() && written.lines > 0);
    assert!(begun.elapsed() < 20 * PATIENCE);
}

#[test]
fn lines_are_written_whole_where_others_write_as_well() {
    let text = b"one\ntwo\nthree and more\nfour\n";
    let pieces = |most| {
        let mut left = text.as_slice();
        let mut pieces = vec![];
        while !left.is_empty() {
            let piece = first_lines(left, most);
            pieces.push(std::str::from_utf8(piece).unwrap());
            left = &left[piece.len()..];
        }
        pieces
    };
    assert_eq!(pieces(9), ["one\ntwo\n", "three and", " more\n", "four\n"]);
    assert_eq!(pieces(8), ["one\ntwo\n", "three an", "d more\n", "four\n"]);
    assert_eq!(pieces(usize::MAX), [std::str::from_utf8(text).unwrap()]);
}
