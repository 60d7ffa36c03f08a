//! SMTP replies as a client reads them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// A reply of more bytes than this is nonsense.
const REPLY_LIMIT: usize = 64 * 1024;

/// One reply, all its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The code of the last line.
    pub code: u16,
    /// All lines as they came, line ends included.
    pub text: String,
}

impl Reply {
    /// True for 2yz and 3yz.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }
}

/// Keeps what was read beyond the last reply, so that pipelined replies come out one by one.
#[derive(Debug, Default)]
pub struct ReplyReader {
    buffer: Vec<u8>,
}

impl ReplyReader {
    /// Reads one reply.
    ///
    /// # Errors
    /// `UnexpectedEof` if the server closed first, `InvalidData` if it does not speak SMTP,
    /// else what the socket says.
    pub async fn read<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> io::Result<Reply> {
        loop {
            if let Some(reply) = self.parse()? {
                return Ok(reply);
            }
            self.buffer.reserve(512);
            if from.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Bytes received that belong to no reply asked for.
    #[must_use]
    pub fn surplus(&self) -> &[u8] {
        &self.buffer
    }

    fn parse(&mut self) -> io::Result<Option<Reply>> {
        let mut start = 0;
        while let Some(length) = memchr::memchr(b'\n', &self.buffer[start..]) {
            let line = self.buffer[start..start + length].trim_ascii_end();
            start += length + 1;
            let code = code_of(line).ok_or_else(|| invalid("not an SMTP reply"))?;
            if line.get(3) != Some(&b'-') {
                let text = String::from_utf8_lossy(&self.buffer[..start]).into_owned();
                self.buffer.drain(..start);
                return Ok(Some(Reply { code, text }));
            }
        }
        if self.buffer.len() > REPLY_LIMIT {
            return Err(invalid("endless SMTP reply"));
        }
        Ok(None)
    }
}

fn code_of(line: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(line.get(..3)?).ok()?;
    if !matches!(line.get(3), None | Some(b' ' | b'-')) {
        return None;
    }
    digits.parse().ok().filter(|code| (200..600).contains(code))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn codes(wire: &[u8]) -> Vec<Result<u16, io::ErrorKind>> {
        let mut from = wire;
        let mut reader = ReplyReader::default();
        let mut found = Vec::new();
        loop {
            let reply = reader.read(&mut from).await.map(|reply| reply.code);
            found.push(reply.map_err(|error| error.kind()));
            if found.last().is_some_and(Result::is_err) {
                return found;
            }
        }
    }

    #[tokio::test]
    async fn replies_of_many_lines_come_out_one_by_one() {
        let eof = io::ErrorKind::UnexpectedEof;
        let wire = b"220-a\r\n220-b\r\n220 c\r\n250\r\n250 x\n";
        assert_eq!(codes(wire).await, [Ok(220), Ok(250), Ok(250), Err(eof)]);
        assert_eq!(codes(b"250-a\r\n250 ").await, [Err(eof)]);
        let nonsense = [Err(io::ErrorKind::InvalidData)];
        for wire in [
            "SSH-2.0\r\n",
            "2200 x\r\n",
            "+20 x\r\n",
            "\r\n",
            "999 x\r\n",
        ] {
            assert_eq!(codes(wire.as_bytes()).await, nonsense, "{wire:?}");
        }
    }
}
