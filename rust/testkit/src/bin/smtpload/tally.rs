//! What the sink counts, and its report.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use mailweir_testkit::digest::MessageDigest;
use mailweir_testkit::smtp::Received;
use serde::Serialize;

const SOURCES_LIMIT: usize = 1000;

/// Shared by all threads of the sink.
pub(crate) struct Tally {
    listeners: Vec<(SocketAddr, Counts)>,
    proxy: Option<Mutex<Proxy>>,
    ids: Option<Mutex<Ids>>,
}

/// Counts of one listening address.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicU64,
    messages: AtomicU64,
    bytes: AtomicU64,
    pub(crate) quit: AtomicU64,
    pub(crate) lost: AtomicU64,
}

/// The end of it all, as JSON.
#[derive(Serialize)]
pub(crate) struct SinkReport {
    #[serde(flatten)]
    total: CountsReport,
    listeners: BTreeMap<SocketAddr, CountsReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_ids: Option<IdsReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<Proxy>,
}

#[derive(Serialize, Default)]
struct CountsReport {
    connections: u64,
    messages: u64,
    bytes: u64,
    lost: u64,
    open: u64,
}

#[derive(Serialize)]
struct IdsReport {
    distinct: usize,
    missing: u64,
    damaged: u64,
    duplicates: BTreeMap<String, u64>,
    conflicting: Vec<String>,
}

#[derive(Serialize, Default, Clone)]
struct Proxy {
    headers: u64,
    without_address: u64,
    errors: u64,
    sources: BTreeMap<IpAddr, u64>,
    sources_left_out: u64,
}

#[derive(Default)]
struct Ids {
    seen: HashMap<String, Seen>,
    missing: u64,
    damaged: u64,
}

struct Seen {
    body: [u8; 32],
    count: u64,
    conflict: bool,
}

impl Tally {
    pub(crate) fn new(addresses: &[SocketAddr], proxy: bool, hash: bool) -> Self {
        Self {
            listeners: addresses
                .iter()
                .map(|addr| (*addr, Counts::default()))
                .collect(),
            proxy: proxy.then(Mutex::default),
            ids: hash.then(Mutex::default),
        }
    }

    pub(crate) fn counts(&self, listener: usize) -> &Counts {
        &self.listeners[listener].1
    }

    pub(crate) fn received(&self, listener: usize, messages: Vec<Received>) {
        let counts = self.counts(listener);
        for message in messages {
            counts.messages.fetch_add(1, Relaxed);
            counts.bytes.fetch_add(message.bytes, Relaxed);
            if let (Some(ids), Some(digest)) = (&self.ids, message.digest) {
                ids.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .add(digest);
            }
        }
    }

    /// A connection began with a header: from `Some` source, or from none that it told.
    pub(crate) fn proxy_header(&self, source: Option<IpAddr>) {
        self.with_proxy(|proxy| {
            proxy.headers += 1;
            let Some(source) = source else {
                proxy.without_address += 1;
                return;
            };
            if proxy.sources.len() < SOURCES_LIMIT || proxy.sources.contains_key(&source) {
                *proxy.sources.entry(source).or_default() += 1;
            } else {
                proxy.sources_left_out += 1;
            }
        });
    }

    pub(crate) fn proxy_error(&self) {
        self.with_proxy(|proxy| proxy.errors += 1);
    }

    fn with_proxy(&self, change: impl FnOnce(&mut Proxy)) {
        if let Some(proxy) = &self.proxy {
            change(&mut proxy.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    pub(crate) fn report(&self) -> SinkReport {
        let listeners: BTreeMap<_, _> = self
            .listeners
            .iter()
            .map(|(addr, counts)| (*addr, counts.report()))
            .collect();
        let mut total = CountsReport::default();
        for counts in listeners.values() {
            total.connections += counts.connections;
            total.messages += counts.messages;
            total.bytes += counts.bytes;
            total.lost += counts.lost;
            total.open += counts.open;
        }
        let ids = self.ids.as_ref();
        let proxy = self.proxy.as_ref();
        SinkReport {
            total,
            listeners,
            message_ids: ids.map(|m| m.lock().unwrap_or_else(PoisonError::into_inner).report()),
            proxy: proxy.map(|m| m.lock().unwrap_or_else(PoisonError::into_inner).clone()),
        }
    }
}

impl Counts {
    fn report(&self) -> CountsReport {
        let ended = self.quit.load(Relaxed) + self.lost.load(Relaxed);
        let connections = self.connections.load(Relaxed);
        CountsReport {
            connections,
            messages: self.messages.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            lost: self.lost.load(Relaxed),
            open: connections.saturating_sub(ended),
        }
    }
}

impl Ids {
    fn add(&mut self, digest: MessageDigest) {
        self.damaged += u64::from(!digest.intact);
        let Some(id) = digest.id else {
            self.missing += 1;
            return;
        };
        let body = digest.body;
        let seen = self.seen.entry(id).or_insert(Seen {
            body,
            count: 0,
            conflict: false,
        });
        seen.count += 1;
        seen.conflict |= seen.body != body;
    }

    fn report(&self) -> IdsReport {
        let seen = || self.seen.iter();
        IdsReport {
            distinct: self.seen.len(),
            missing: self.missing,
            damaged: self.damaged,
            duplicates: seen()
                .filter(|(_, seen)| seen.count > 1)
                .map(|(id, seen)| (id.clone(), seen.count))
                .collect(),
            conflicting: seen()
                .filter(|(_, s)| s.conflict)
                .map(|(id, _)| id.clone())
                .collect(),
        }
    }
}

impl SinkReport {
    /// A few lines to read.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec![self.total.text("all")];
        lines.extend(
            self.listeners
                .iter()
                .map(|(addr, counts)| counts.text(&addr.to_string())),
        );
        if let Some(ids) = &self.message_ids {
            lines.push(format!(
                "message ids: {} distinct, {} more than once, {} missing, {} damaged bodies",
                ids.distinct,
                ids.duplicates.len(),
                ids.missing,
                ids.damaged
            ));
        }
        if let Some(proxy) = &self.proxy {
            lines.push(format!(
                "PROXY headers: {} ({} without address), {} errors, {} sources",
                proxy.headers,
                proxy.without_address,
                proxy.errors,
                proxy.sources.len()
            ));
        }
        lines.join("\n")
    }
}

impl CountsReport {
    fn text(&self, label: &str) -> String {
        format!(
            "{label}: {} connections ({} lost without QUIT, {} open), {} messages, {} bytes",
            self.connections, self.lost, self.open, self.messages, self.bytes
        )
    }
}
