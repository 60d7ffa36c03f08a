//! How configuration, logs and metrics write what a specification chooses from.

use super::{
    Balance, DenyCode, Forwarding, LogFormat, LogTarget, Protocol, ProxyVersion, Refuse,
    ServerState,
};

impl ProxyVersion {
    const ALL: [Self; 3] = [Self::Off, Self::V1, Self::V2];

    /// As the configuration writes it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }

    /// The reverse of [`label`](Self::label).
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.label() == label)
    }
}

impl Forwarding {
    const ALL: [Self; 3] = [Self::Auto, Self::Kernel, Self::Relay];

    /// As the configuration writes it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Relay => "relay",
        }
    }

    /// The reverse of [`label`](Self::label).
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.label() == label)
    }
}

impl DenyCode {
    /// As the configuration writes it, and as a client hears it.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Never => 554,
            Self::NotNow => 421,
        }
    }

    /// The reverse of [`code`](Self::code).
    #[must_use]
    pub fn parse(code: u16) -> Option<Self> {
        let known = [Self::Never, Self::NotNow];
        known.into_iter().find(|one| one.code() == code)
    }
}

impl Refuse {
    const ALL: [Self; 3] = [Self::Reply, Self::Reset, Self::Drop];

    /// As the configuration writes it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Reset => "reset",
            Self::Drop => "drop",
        }
    }

    /// The reverse of [`label`](Self::label).
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.label() == label)
    }
}

impl LogTarget {
    /// As the configuration writes it; a path must be absolute.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "stderr" => Some(Self::Stderr),
            "syslog" => Some(Self::Syslog),
            path => path.starts_with('/').then(|| Self::File(path.into())),
        }
    }
}

impl LogFormat {
    /// As the configuration writes it.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        match label {
            "json" => Some(Self::Json),
            "logfmt" => Some(Self::Logfmt),
            _ => None,
        }
    }
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Smtp, Self::Smtps, Self::Tcp];

    /// As the configuration writes it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Smtp => "smtp",
            Self::Smtps => "smtps",
            Self::Tcp => "tcp",
        }
    }

    /// The reverse of [`label`](Self::label).
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.label() == label)
    }
}

impl Balance {
    /// Every way there is.
    pub const ALL: [Self; 6] = [
        Self::LeastConn,
        Self::RoundRobin,
        Self::RandomTwo,
        Self::SourceHash,
        Self::Maglev,
        Self::LeastLoad,
    ];

    /// As the configuration writes it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::LeastConn => "least_conn",
            Self::RoundRobin => "round_robin",
            Self::RandomTwo => "random_two",
            Self::SourceHash => "source_hash",
            Self::Maglev => "maglev",
            Self::LeastLoad => "least_load",
        }
    }

    /// The reverse of [`label`](Self::label).
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.label() == label)
    }
}

impl ServerState {
    pub(crate) const ALL: [Self; 5] = [Self::Up, Self::Down, Self::Panic, Self::Drain, Self::Maint];

    /// Whether sessions are taken off it, each where that can't make a message come twice.
    pub(crate) fn drains(self) -> bool {
        matches!(self, Self::Drain | Self::Maint)
    }

    /// As metrics and commands write it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Panic => "panic",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }

    /// The reverse of [`label`](Self::label).
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.label() == label)
    }
}
