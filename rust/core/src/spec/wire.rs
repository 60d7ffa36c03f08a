//! How a specification, and what is told of it, are written as JSON: one spelling each for what
//! serde has none of.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{DenyCode, DryRun, LogTarget, SpecError};

/// Reads a specification, or a part of one.
///
/// # Errors
/// If a field is missing, unknown or of another kind, with its place as `listeners[0].bind[1]`.
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, SpecError> {
    // Places cost as much again as reading does, so they are looked for where it failed.
    serde_json::from_slice(json).or_else(|_| with_places(json))
}

fn with_places<T: DeserializeOwned>(json: &[u8]) -> Result<T, SpecError> {
    let mut from = serde_json::Deserializer::from_slice(json);
    let read = serde_path_to_error::deserialize(&mut from).map_err(|error| {
        let path = match error.path().to_string().as_str() {
            "." => "the whole".into(),
            path => path.to_owned(),
        };
        let error = error.into_inner();
        // All of it is one line that nobody sees.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let problem = error.to_string().replace(&place, "");
        SpecError { path, problem }
    })?;
    from.end().map_err(|error| SpecError {
        path: "the whole".into(),
        problem: error.to_string(),
    })?;
    Ok(read)
}

/// A field that may have nothing, but is there: without this a missing one would count as that.
pub(super) fn present<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(from)
}

/// Durations: seconds, as a number.
pub(crate) mod seconds {
    use super::{Deserialize, Deserializer, Duration, Error, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let value = f64::deserialize(from)?;
        Duration::try_from_secs_f64(value)
            .map_err(|_| D::Error::custom(format!("{value} isn't a time in seconds")))
    }
}

/// Several of them.
pub(crate) fn all_seconds<S: Serializer>(values: &[Duration], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(values.iter().map(Duration::as_secs_f64))
}

/// Counts of a closed list: each by its word.
pub(crate) fn counts<K: Serialize, S: Serializer>(
    counts: &[(K, u64)],
    to: S,
) -> Result<S::Ok, S::Error> {
    to.collect_map(counts.iter().map(|(what, count)| (what, count)))
}

/// What is shown as text.
pub(crate) fn text<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// The same, or nothing.
pub(super) mod some_seconds {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer, seconds};

    #[derive(Serialize, Deserialize)]
    struct Seconds(#[serde(with = "seconds")] Duration);

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(Seconds).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        let value = Option::<Seconds>::deserialize(from)?;
        Ok(value.map(|Seconds(value)| value))
    }
}

/// Ranges of ports: the first and the last.
pub(super) mod ports {
    use std::ops::RangeInclusive;

    use super::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        value: &RangeInclusive<u16>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        (value.start(), value.end()).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<RangeInclusive<u16>, D::Error> {
        let (first, last) = Deserialize::deserialize(from)?;
        Ok(first..=last)
    }
}

/// A dry run is a list of these.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tried {
    Access,
    SourceSessions,
    SourceRate,
    Sessions,
}

impl From<Vec<Tried>> for DryRun {
    fn from(tried: Vec<Tried>) -> Self {
        let mut dry_run = Self::default();
        for one in tried {
            match one {
                Tried::Access => dry_run.access = true,
                Tried::SourceSessions => dry_run.source_sessions = true,
                Tried::SourceRate => dry_run.source_rate = true,
                Tried::Sessions => dry_run.sessions = true,
            }
        }
        dry_run
    }
}

impl From<DryRun> for Vec<Tried> {
    fn from(dry_run: DryRun) -> Self {
        let all = [
            (dry_run.access, Tried::Access),
            (dry_run.source_sessions, Tried::SourceSessions),
            (dry_run.source_rate, Tried::SourceRate),
            (dry_run.sessions, Tried::Sessions),
        ];
        let tried = all.into_iter().filter(|(is_tried, _)| *is_tried);
        tried.map(|(_, one)| one).collect()
    }
}

impl TryFrom<String> for LogTarget {
    type Error = String;

    /// As the configuration writes it; a path must be absolute.
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "off" => Ok(Self::Off),
            "stderr" => Ok(Self::Stderr),
            "syslog" => Ok(Self::Syslog),
            path if path.starts_with('/') => Ok(Self::File(PathBuf::from(text))),
            _ => Err(format!("unknown log target {text:?}")),
        }
    }
}

impl From<LogTarget> for String {
    fn from(target: LogTarget) -> Self {
        match target {
            LogTarget::Off => "off".into(),
            LogTarget::Stderr => "stderr".into(),
            LogTarget::Syslog => "syslog".into(),
            LogTarget::File(path) => path.to_string_lossy().into_owned(),
        }
    }
}

impl TryFrom<u16> for DenyCode {
    type Error = String;

    fn try_from(code: u16) -> Result<Self, String> {
        let known = [Self::Never, Self::NotNow];
        let found = known.into_iter().find(|one| one.code() == code);
        found.ok_or_else(|| format!("unknown deny code {code}"))
    }
}

impl From<DenyCode> for u16 {
    fn from(code: DenyCode) -> Self {
        code.code()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;

    use super::super::*;

    fn server() -> ServerSpec {
        ServerSpec {
            source: vec![[10, 0, 0, 9].into()],
            ..ServerSpec::new("a", ([10, 0, 0, 1], 25).into())
        }
    }

    fn told(value: &impl Serialize) -> Value {
        serde_json::to_value(value).unwrap()
    }

    fn refusal<T: serde::de::DeserializeOwned + std::fmt::Debug>(json: &str) -> String {
        decode::<T>(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read() {
        let written = told(&server());
        let read: ServerSpec = decode(written.to_string().as_bytes()).unwrap();
        assert_eq!(told(&read), written);
        assert_eq!(written["address"], "10.0.0.1:25");
        assert_eq!(written["source"][0], "10.0.0.9");
        assert_eq!(written["max_sessions"], Value::Null);
    }

    #[test]
    fn nothing_may_be_missing_or_more() {
        let mut written = told(&server());
        let fields = written.as_object_mut().unwrap();
        fields.remove("max_sessions");
        assert_eq!(
            refusal::<Vec<ServerSpec>>(&format!("[{written}]")),
            "[0]: missing field `max_sessions`"
        );
        let more = r#"{"length": 1, "wait": 1.5, "who": 1}"#;
        assert!(refusal::<QueueSpec>(more).starts_with("who: unknown field `who`"));
        assert!(refusal::<QueueSpec>("{} {}").starts_with("the whole: missing field"));
    }

    #[test]
    fn seconds_are_a_time() {
        let queue = |wait: &str| format!(r#"{{"length": 1, "wait": {wait}}}"#);
        let read: QueueSpec = decode(queue("1.5").as_bytes()).unwrap();
        assert_eq!(read.wait, Duration::from_millis(1500));
        for wrong in ["-1", "1e300"] {
            assert!(refusal::<QueueSpec>(&queue(wrong)).contains("isn't a time in seconds"));
        }
        assert!(refusal::<QueueSpec>(&queue("null")).starts_with("wait: invalid type: null"));
    }

    #[test]
    fn a_list_says_what_is_only_tried() {
        let read: DryRun = decode(br#"["sessions", "access"]"#).unwrap();
        assert_eq!(
            (read.access, read.sessions, read.source_rate),
            (true, true, false)
        );
        assert_eq!(told(&read), serde_json::json!(["access", "sessions"]));
    }

    #[test]
    fn a_log_goes_to_a_word_or_an_absolute_path() {
        for text in ["off", "stderr", "syslog", "/var/log/a b"] {
            let read: LogTarget = decode(format!("{text:?}").as_bytes()).unwrap();
            assert_eq!(told(&read), text);
        }
        assert_eq!(
            refusal::<LogTarget>(r#""nowhere""#),
            "the whole: unknown log target \"nowhere\""
        );
    }
}
