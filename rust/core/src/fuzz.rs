//! What the fuzz targets in rust/fuzz run: the parsers and the check, each with what must hold
//! whatever comes in. A panic is a finding.
//!
//! Only cargo-fuzz builds this, which sets `cfg(fuzzing)`; nothing of it is part of the API.

use std::fmt::Debug;

use crate::registry::Registry;
use crate::smtp::dialogue::model;
use crate::smtp::greeting::Greeting;
use crate::snapshot::Snapshot;
use crate::spec::{PlaneSpec, check};
use crate::tls::{self, Hello};

/// Reads `bytes` as a server's greeting.
///
/// # Panics
/// If a decision isn't final, or if none is made after 4 KiB without a line's end.
pub fn greeting(bytes: &[u8]) {
    let decided = final_decision(bytes, Greeting::Incomplete, Greeting::parse);
    assert!(decided != Greeting::Incomplete || bytes.len() < 4096);
}

/// Plays a session by `choices` and listens to it.
///
/// # Panics
/// If what is said of the dialogue isn't so.
pub fn dialogue(choices: &[u8]) {
    model::play(choices);
}

/// Reads `bytes` as the start of a client's TLS (RFC 8446, 4.1.2 and 5.1).
///
/// # Panics
/// If a decision isn't final, if none is made within [`tls::LONGEST`], or if a hello isn't one.
pub fn client_hello(bytes: &[u8]) {
    let decided = final_decision(bytes, Hello::Incomplete, Hello::parse);
    assert!(decided != Hello::Incomplete || bytes.len() < tls::LONGEST);
    let within = &bytes[..bytes.len().min(tls::LONGEST)];
    assert_eq!(decided == Hello::Complete, has_hello(&handshake(within)));
    // Every hello must count as TLS, or the rest of its session is taken for text.
    let of_a_known_version = bytes.get(2).is_some_and(|minor| *minor <= 4);
    if decided == Hello::Complete && of_a_known_version {
        assert!(tls::is_record(bytes));
    }
}

/// Builds what would run, as `DataPlane::apply` does before it binds anything; whether `spec`
/// can run.
///
/// # Panics
/// If the check and the building of a snapshot don't agree, or if what was built can't be found
/// by its name or address.
#[must_use]
pub fn snapshot(spec: &PlaneSpec) -> bool {
    let wrong = check(spec).err();
    let snapshot = match Snapshot::build(spec, 1, &mut Registry::new(1)) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(wrong, Some(error));
            return false;
        }
    };
    assert_eq!(wrong, None);
    snapshot.take_states(spec);
    for (index, (listener, of_spec)) in snapshot.listeners.iter().zip(&spec.listeners).enumerate() {
        assert_eq!(listener.bind.len(), of_spec.bind.len());
        for key in &listener.bind {
            assert_eq!(snapshot.listener_at(key), Some(index));
        }
        assert_eq!(*listener.pool.name, *of_spec.pool);
    }
    for pool in &spec.pools {
        let built = snapshot.pool(&pool.name);
        for server in &pool.servers {
            let member = built.and_then(|built| built.member(&server.name));
            assert_eq!(member.map(|one| one.address), Some(server.address));
        }
    }
    true
}

/// What all of `bytes` are, once it is certain that no beginning of them was anything else. Of a
/// long input some hundred beginnings are read; all would take too long.
fn final_decision<T: Copy + PartialEq + Debug>(
    bytes: &[u8],
    undecided: T,
    parse: impl Fn(&[u8]) -> T,
) -> T {
    let length = bytes.len();
    let short = length.min(256);
    let ends = (0..short).chain(length.saturating_sub(32).max(short)..=length);
    ends.fold(undecided, |decided, end| {
        let now = parse(&bytes[..end]);
        assert!(
            decided == undecided || now == decided,
            "{decided:?} became {now:?} with byte {end}"
        );
        now
    })
}

/// What the handshake records at the start of `stream` carry. As simple as it can be.
fn handshake(stream: &[u8]) -> Vec<u8> {
    let mut message = vec![];
    let mut rest = stream;
    while let [22, 3, _, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 || length > 1 << 14 {
            break;
        }
        let fragment = &after[..after.len().min(length)];
        message.extend_from_slice(fragment);
        rest = &after[fragment.len()..];
    }
    message
}

/// Whether a whole hello with a random and its three lists is there.
fn has_hello(message: &[u8]) -> bool {
    let [1, length @ ..] = message else {
        return false;
    };
    let Some(([high, middle, low], body)) = length.split_first_chunk() else {
        return false;
    };
    let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
    length >= 41 && body.len() >= length
}
