//! What an earlier process wrote last in the session log. One that is killed in the middle of a write,
//! or right behind it, can't note any more which of its records are there.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::spec::{LogSpec, LogTarget};

use super::SessionId;

/// More than one write takes.
const TAIL: u64 = 128 * 1024;

/// Sessions of the last lines in a file; none of what isn't one.
pub(crate) fn last_written(spec: &LogSpec) -> HashSet<SessionId> {
    let tail = match &spec.sessions {
        LogTarget::File(path) => read(path),
        LogTarget::Off | LogTarget::Stderr | LogTarget::Syslog => return HashSet::new(),
    };
    // One that can't be read: then a line comes twice, at worst.
    sessions(&tail.unwrap_or_default())
}

/// The last of a file, from the end of a line on.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Of something else, a FIFO say, the opening could wait.
    if !path.metadata()?.is_file() {
        return Ok(vec![]);
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let most = size.min(TAIL);
    let mut tail = vec![0; most as usize];
    file.read_exact_at(&mut tail, size - most)?;
    Ok(tail)
}

/// Of the whole lines. Each has the time first, then the number of its session.
fn sessions(tail: &[u8]) -> HashSet<SessionId> {
    let whole = tail.split_inclusive(|byte| *byte == b'\n');
    let whole = whole.filter(|line| line.ends_with(b"\n"));
    whole
        .filter_map(|line| {
            let line = str::from_utf8(line).ok()?;
            let (_, rest) = line
                .split_once("\"id\":\"")
                .or_else(|| line.split_once(" id="))?;
            SessionId::parse(rest.get(..16)?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::record::sink::tests::Folder;
    use crate::spec::LogFormat;

    use super::*;

    fn found(sessions: LogTarget) -> Vec<u64> {
        let format = LogFormat::Json;
        let found = last_written(&LogSpec { sessions, format });
        let mut numbers: Vec<u64> = found.into_iter().map(|SessionId(number)| number).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn whole_lines_are_there() {
        let folder = Folder::new("tail");
        let path = folder.0.join("log");
        let file = || LogTarget::File(path.clone());
        assert!(found(file()).is_empty(), "there is none");
        let text = "{\"ts\":\"2026\",\"id\":\"0000000000000001\",\"server\":null}\n\
                    ts=2026 id=0000000000000002 listener=mx\n\
                    {\"ts\":\"2026\",\"id\":\"00000000\n\
                    {\"ts\":\"2026\",\"id\":\"0000000000000003\",\"li";
        fs::write(&path, text).unwrap();
        assert_eq!(found(file()), [1, 2]);
        // Of a long file the last: by whole lines, whatever it is cut at.
        let line = |number| format!("{{\"ts\":\"2026\",\"id\":\"{number:016x}\"}}\n");
        let all: String = (0..10_000).map(line).collect();
        fs::write(&path, all).unwrap();
        let last = found(file());
        assert_eq!(last.last(), Some(&9_999));
        assert!((2_000..9_999).contains(&last.len()));
        assert!(last.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        assert!(found(LogTarget::File("/dev/null".into())).is_empty());
        assert!(found(LogTarget::Stderr).is_empty());
    }
}
