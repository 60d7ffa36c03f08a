//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};
use mailweir_testkit::proxy;

/// Loads SMTP servers, or takes the load, and counts everything.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit status: 0 all went well, 1 sessions failed, 2 could not run."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) mode: Mode,
    /// Report as one line of JSON instead of a short text
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
pub(crate) enum Mode {
    /// Take messages and throw them away, until SIGTERM or SIGINT
    ///
    /// The first line on standard output is {"listening":["ADDR:PORT",...]}, in the order of
    /// --listen: from then on connections are taken. The report follows at the end.
    Sink(SinkArgs),
    /// Send messages over many sessions and measure
    ///
    /// A session is: connect, greeting, EHLO, MAIL RCPT DATA for each message, QUIT, and the
    /// server's end of stream. It stops by itself after --sessions or --duration, or at TERM,
    /// whichever comes first; sessions under way are finished.
    Source(SourceArgs),
}

#[derive(Group)]
pub(crate) struct SinkArgs {
    /// Address to listen on; repeatable; port 0 takes a free one
    #[arg(long, required = true, value_name = "ADDR:PORT")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Threads, each with its own listening sockets (SO_REUSEPORT if more than one)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: u16,
    /// PROXY header that every connection must begin with
    #[arg(long, default_value = "off", value_name = "VERSION")]
    pub(crate) proxy: ProxyArg,
    /// Wait this long before the answer to a message
    #[arg(long, default_value = "0ms", value_parser = duration, value_name = "TIME")]
    pub(crate) dot_delay: Duration,
    /// Wait this long before the greeting
    #[arg(long, default_value = "0ms", value_parser = duration, value_name = "TIME")]
    pub(crate) greeting_delay: Duration,
    /// Say 554 instead of the greeting to every Nth connection, and close
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub(crate) refuse_every: Option<u64>,
    /// Name in the greeting
    #[arg(long, default_value = "sink")]
    pub(crate) name: String,
    /// Hash every body and remember every Message-ID: finds duplicates and damage
    #[arg(long)]
    pub(crate) hash: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum ProxyArg {
    /// None: the client's first bytes are SMTP
    Off,
    /// The text header
    V1,
    /// The binary header
    V2,
    /// Either
    Any,
}

impl ProxyArg {
    pub(crate) fn accept(self) -> Option<proxy::Accept> {
        match self {
            Self::Off => None,
            Self::V1 => Some(proxy::Accept::V1),
            Self::V2 => Some(proxy::Accept::V2),
            Self::Any => Some(proxy::Accept::Any),
        }
    }
}

#[derive(Group)]
pub(crate) struct SourceArgs {
    /// Server to load
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) connect: SocketAddr,
    /// Stop after this many sessions
    #[arg(long, required_unless_present = "duration", value_name = "N")]
    pub(crate) sessions: Option<u64>,
    /// Begin no session after this time
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub(crate) duration: Option<Duration>,
    /// Sessions at the same time, at most
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), value_name = "C")]
    pub(crate) concurrency: u32,
    /// New sessions per second; without it as many as --concurrency allows
    #[arg(long, value_parser = positive, value_name = "R")]
    pub(crate) rate: Option<f64>,
    /// Messages per session
    #[arg(long, default_value_t = 1, value_name = "M")]
    pub(crate) messages: u32,
    /// Size of a message on the wire, headers included (1024, 64k, 8m)
    #[arg(long, default_value = "1k", value_parser = size, value_name = "BYTES")]
    pub(crate) size: usize,
    /// Send MAIL, RCPT and DATA in one write
    #[arg(long)]
    pub(crate) pipelining: bool,
    /// Pause between the messages of a session
    #[arg(long, default_value = "0ms", value_parser = duration, value_name = "TIME")]
    pub(crate) think: Duration,
    /// Threads that share the sessions
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: u16,
    /// Longest wait for the connection, for one reply and for one write
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
    /// Local addresses to connect from, in turn
    #[arg(long, value_delimiter = ',', value_name = "IP,...")]
    pub(crate) source_ips: Vec<IpAddr>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("a time with its unit, such as 500ms, 10s or 2m".into()),
    };
    let number: f64 = number.parse().map_err(|_| "not a number")?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

fn size(text: &str) -> Result<usize, String> {
    let lower = text.to_ascii_lowercase();
    let (number, factor) = match lower.strip_suffix(['k', 'm']) {
        Some(number) if lower.ends_with('k') => (number, 1 << 10),
        Some(number) => (number, 1 << 20),
        None => (lower.as_str(), 1),
    };
    let number: usize = number
        .parse()
        .map_err(|_| "a size such as 1024, 64k or 8m")?;
    number.checked_mul(factor).ok_or_else(|| "too large".into())
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number")?;
    (number.is_finite() && number > 0.0)
        .then_some(number)
        .ok_or_else(|| "not above 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn units() {
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("10").is_err() && duration("-1s").is_err() && duration("s").is_err());
        assert_eq!(
            (size("64K"), size("8m"), size("300")),
            (Ok(65_536), Ok(8 << 20), Ok(300))
        );
        assert!(size("k").is_err() && size("1g").is_err());
        assert!(positive("0").is_err() && positive("inf").is_err());
    }

    #[test]
    fn a_source_must_be_bounded() {
        let parse = |more: &str| {
            let line = format!("smtpload source --connect 127.0.0.1:25 {more}");
            Args::try_parse_from(line.split_whitespace()).is_ok()
        };
        assert!(!parse("") && parse("--sessions 1") && parse("--duration 1s"));
        assert!(parse("--sessions 1 --duration 1s --json"));
    }
}
