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

/// What a pipe takes as a whole, in bytes: others that write to it come before or behind, and
/// Python writes its own log to standard error too (pipe(7)).
const PIPE_BUF: usize = libc::PIPE_BUF;

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
                stream(io::stderr(), text, lines, PIPE_BUF, &mut self.torn).named("standard error")
            }
            Target::File { file, path } => {
                stream(file, text, lines, usize::MAX, &mut self.torn).named(path.display())
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

/// Writes to what takes bytes one after the other, whole lines of at most `most` bytes at a time
/// (or part of a longer one).
fn stream(to: impl AsFd, text: &[u8], lines: u64, most: usize, torn: &mut bool) -> Written {
    let deadline = Instant::now() + PATIENCE;
    if *torn {
        let (written, failure) = push(&to, b"\n", most, deadline);
        *torn = written == 0;
        if failure.is_some() {
            return Written { lines: 0, failure };
        }
    }
    let (written, failure) = push(&to, text, most, deadline);
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
fn push(to: &impl AsFd, text: &[u8], most: usize, deadline: Instant) -> (usize, Option<io::Error>) {
    let mut done = 0;
    while done < text.len() {
        let failure: io::Error = match rustix::io::write(to, first_lines(&text[done..], most)) {
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

fn first_lines(text: &[u8], most: usize) -> &[u8] {
    let Some(first) = text.get(..most) else {
        return text;
    };
    let end = first.iter().rposition(|byte| *byte == b'\n');
    &first[..end.map_or(most, |end| end + 1)]
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
pub(super) mod tests;
