//! Where the session log's lines go: nowhere, standard error, a file, or the system's log.
//!
//! A sink that fails costs the lines that it was given and little time: it never waits for long,
//! and what it got of a line before it failed is closed off before the next one.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::spec::{LogFormat, LogSpec, LogTarget};

/// Where a system's log listens.
const SYSLOG: &str = "/dev/log";

/// How long one write may wait, in all, for a reader that has no room.
const PATIENCE: Duration = Duration::from_millis(250);

/// A place for lines, open, and how they are to look there.
#[derive(Debug)]
pub(crate) struct Sink {
    target: Target,
    pub(super) format: LogFormat,
    /// Whether what was written last ends within a line.
    torn: bool,
}

#[derive(Debug)]
enum Target {
    Off,
    Stderr,
    Syslog(Syslog),
    File { file: File, path: PathBuf },
}

/// What became of some lines.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) lines: u64,
    /// Why it wasn't all of them.
    pub(super) failure: Option<io::Error>,
}

impl Written {
    fn all(lines: u64) -> Self {
        let failure = None;
        Self { lines, failure }
    }

    /// Whether the reader had no room, and had none for a while.
    pub(super) fn is_stuck(&self) -> bool {
        let kind = self.failure.as_ref().map(io::Error::kind);
        kind == Some(io::ErrorKind::WouldBlock)
    }

    fn named(self, what: impl Display) -> Self {
        Self {
            failure: self.failure.map(|error| named(what, &error)),
            ..self
        }
    }
}

impl Sink {
    /// Takes nothing.
    pub(super) fn off() -> Self {
        Self::new(Target::Off, LogFormat::Json)
    }

    /// Opens what `spec` names.
    ///
    /// # Errors
    /// What the system says, with the path.
    pub(super) fn open(spec: &LogSpec) -> io::Result<Self> {
        let target = match &spec.sessions {
            LogTarget::Off => Target::Off,
            LogTarget::Stderr => Target::Stderr,
            LogTarget::Syslog => Target::Syslog(Syslog::open(Path::new(SYSLOG))?),
            LogTarget::File(path) => Target::File {
                file: append(path)?,
                path: path.clone(),
            },
        };
        Ok(Self::new(target, spec.format))
    }

    fn new(target: Target, format: LogFormat) -> Self {
        Self {
            target,
            format,
            torn: false,
        }
    }

    /// A file as it is, even if writing to it waits without an end.
    #[cfg(test)]
    pub(super) fn blocking(file: File) -> Self {
        let path = PathBuf::from("blocking");
        Self::new(Target::File { file, path }, LogFormat::Json)
    }

    pub(super) fn is_on(&self) -> bool {
        !matches!(self.target, Target::Off)
    }

    /// To be called before the first write, by who writes, with the sink that was used before:
    /// it may have left a line unfinished, as may whoever wrote a file last.
    pub(super) fn follow(&mut self, before: &Self) {
        match &self.target {
            Target::Stderr => {
                self.torn = before.torn && matches!(before.target, Target::Stderr);
            }
            // One that can't be read can't be looked at, and is likely to be whole.
            Target::File { file, path } => {
                self.torn = ends_within_line(file, path).unwrap_or_default();
            }
            Target::Off | Target::Syslog(_) => {}
        }
    }

    /// Opens a file again, which may have been renamed. Keeps the old one if that fails.
    ///
    /// # Errors
    /// What the system says, with the path.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Target::File { file, path } = &mut self.target {
            *file = append(path)?;
            self.torn = ends_within_line(file, path).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes whole lines, as many as `lines` says. What can't be written is lost.
    pub(super) fn write(&mut self, text: &[u8], lines: u64) -> Written {
        match &mut self.target {
            Target::Off => Written::all(lines),
            Target::Stderr => {
                stream(io::stderr(), text, lines, &mut self.torn).named("standard error")
            }
            Target::File { file, path } => {
                stream(file, text, lines, &mut self.torn).named(path.display())
            }
            Target::Syslog(syslog) => syslog.write(text),
        }
    }
}

/// Opens for appending. Something else than a file (a FIFO) mustn't hold up who opens it.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| named(path.display(), &error))
}

fn named(what: impl Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn ends_within_line(file: &File, path: &Path) -> io::Result<bool> {
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, meta.len() - 1)?;
    Ok(last != [b'\n'])
}

/// Writes to what takes bytes one after the other.
fn stream(to: impl AsFd, text: &[u8], lines: u64, torn: &mut bool) -> Written {
    let deadline = Instant::now() + PATIENCE;
    if *torn {
        let (written, failure) = push(&to, b"\n", deadline);
        *torn = written == 0;
        if failure.is_some() {
            return Written { lines: 0, failure };
        }
    }
    let (written, failure) = push(&to, text, deadline);
    let Some(failure) = failure else {
        return Written::all(lines);
    };
    let written = &text[..written];
    *torn = written.last().is_some_and(|byte| *byte != b'\n');
    Written {
        lines: count_lines(written),
        failure: Some(failure),
    }
}

/// How many bytes it took, and why not all of them.
fn push(to: &impl AsFd, text: &[u8], deadline: Instant) -> (usize, Option<io::Error>) {
    let mut done = 0;
    while done < text.len() {
        let failure: io::Error = match rustix::io::write(to, &text[done..]) {
            Ok(0) => io::ErrorKind::WriteZero.into(),
            Ok(size) => {
                done += size;
                continue;
            }
            Err(error) => error.into(),
        };
        match failure.kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock if await_room(to, deadline) => {}
            _ => return (done, Some(failure)),
        }
    }
    (done, None)
}

/// Whether there is, or may be, room to write before the deadline.
fn await_room(to: &impl AsFd, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let Ok(limit) = Timespec::try_from(left) else {
        return false;
    };
    // An error shows in the write that follows; one by an interruption costs a turn.
    !left.is_zero() && poll(&mut [PollFd::new(to, PollFlags::OUT)], Some(&limit)) != Ok(0)
}

fn count_lines(text: &[u8]) -> u64 {
    text.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// The system's log, by its socket: a datagram for each line.
#[derive(Debug)]
struct Syslog {
    path: PathBuf,
    /// None where the other end has gone.
    socket: Option<UnixDatagram>,
    /// The header, and room for a line behind it.
    datagram: Vec<u8>,
    header: usize,
}

impl Syslog {
    fn open(path: &Path) -> io::Result<Self> {
        let socket = connect(path)
            .map_err(|error| named(format_args!("no system log at {}", path.display()), &error))?;
        // 22: facility mail, severity info.
        let datagram = format!("<22>mailweir[{}]: ", std::process::id()).into_bytes();
        Ok(Self {
            path: path.to_owned(),
            socket: Some(socket),
            header: datagram.len(),
            datagram,
        })
    }

    fn write(&mut self, text: &[u8]) -> Written {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            self.datagram.truncate(self.header);
            self.datagram.extend_from_slice(line);
            // Whoever listened may be back already, as a new one: that costs no line.
            let sent = self.send(deadline).or_else(|_| self.send(deadline));
            if let Err(error) = sent {
                let failure = Some(error);
                return Written { lines, failure }.named(self.path.display());
            }
            lines += 1;
        }
        Written::all(lines)
    }

    fn send(&mut self, deadline: Instant) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => connect(&self.path)?,
        };
        let socket = self.socket.insert(socket);
        loop {
            let Err(error) = socket.send(&self.datagram) else {
                return Ok(());
            };
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock if await_room(socket, deadline) => {}
                io::ErrorKind::WouldBlock => return Err(error),
                _ => {
                    self.socket = None;
                    return Err(error);
                }
            }
        }
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect(path)?;
    Ok(socket)
}

#[cfg(test)]
pub(super) mod tests {
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
}
