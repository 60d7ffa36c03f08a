//! Calls of bpf(2) for many entries of a table at a time, which aya lacks. The only `unsafe` code of the
//! crate. Linux 5.6.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// linux/bpf.h: what the commands below take.
#[repr(C)]
#[derive(Default)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    elem_flags: u64,
    flags: u64,
}

/// linux/bpf.h.
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;

/// How often it is tried to remove a key.
const TRIES: u32 = 3;

/// Reads entries of an array from `first` on into `values`, as many as it has room for, each of `size`
/// bytes; how many these were. None has a field that the kernel keeps for itself in less or more bytes.
///
/// # Errors
/// What the kernel says: there is none from there on, say.
pub(crate) fn read_array(
    table: impl AsFd,
    first: u32,
    size: usize,
    values: &mut [u8],
) -> io::Result<usize> {
    let room = values.len() / size;
    let (mut keys, before, mut last) = (vec![0_u32; room], first.wrapping_sub(1), 0_u32);
    let mut batch = Batch {
        in_batch: if first == 0 {
            0
        } else {
            (&raw const before) as u64
        },
        out_batch: (&raw mut last) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(room).unwrap_or(u32::MAX),
        ..Batch::default()
    };
    // SAFETY: it reads `before` and writes `last`, and writes at most `count` keys of 4 bytes and values
    // of `size` bytes, for which there is room; all of them outlive the call.
    let done = unsafe { call(BPF_MAP_LOOKUP_BATCH, table, &mut batch) };
    match done {
        // ENOENT: the last one was among them.
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) || batch.count == 0 => Err(error),
        _ => Ok(batch.count as usize),
    }
}

/// Puts entries into a hash, whatever that has for their keys; how many: behind the first that there is
/// no room or no memory for, none is.
pub(crate) fn put_all<const K: usize, const V: usize>(
    table: impl AsFd,
    keys: &[[u8; K]],
    values: &[[u8; V]],
) -> usize {
    put_each(keys.len().min(values.len()), |from| {
        let (keys, values) = (&keys[from..], &values[from..]);
        let mut batch = Batch {
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: u32::try_from(keys.len().min(values.len())).unwrap_or(u32::MAX),
            ..Batch::default()
        };
        // SAFETY: it reads `count` keys of `K` bytes and values of `V` bytes, as many as there are,
        // which outlive the call. What a table has for a key and a value is as large: its owner says so.
        unsafe { how_far(BPF_MAP_UPDATE_BATCH, &table, &mut batch) }
    })
}

/// Removes keys from a hash, those that are there.
pub(crate) fn remove_all<const K: usize>(table: impl AsFd, keys: &[[u8; K]]) {
    remove_each(keys.len(), |from| {
        let keys = &keys[from..];
        let mut batch = Batch {
            keys: keys.as_ptr() as u64,
            count: u32::try_from(keys.len()).unwrap_or(u32::MAX),
            ..Batch::default()
        };
        // SAFETY: it reads `count` keys of `K` bytes, as many as there are, which outlive the call.
        unsafe { how_far(BPF_MAP_DELETE_BATCH, &table, &mut batch) }
    });
}

/// Where a call for many stopped: behind so many, for this reason.
type Stopped = (usize, io::Error);

/// Puts `all` of them by calls that begin at one of them; how many. As long as that gets on: the kernel
/// takes memory from a store of its own, and may have filled that again a moment later (ENOMEM).
fn put_each(all: usize, mut put: impl FnMut(usize) -> Result<(), Stopped>) -> usize {
    let mut done = 0;
    while done < all {
        match put(done) {
            Ok(()) => return all,
            Err((0, _)) => return done,
            Err((more, _)) => done += more,
        }
    }
    done
}

/// Removes `all` of them by calls that begin at one of them. A lock that can't be had in time is tried again
/// (EBUSY; since Linux 6.15 ETIMEDOUT, after a quarter of a second).
fn remove_each(all: usize, mut remove: impl FnMut(usize) -> Result<(), Stopped>) {
    let (mut done, mut tries) = (0, 0);
    while done < all {
        let Err((more, why)) = remove(done) else {
            return;
        };
        done += more;
        tries = if more == 0 { tries + 1 } else { 1 };
        // This one isn't there, or can't be removed: on behind it.
        if why.raw_os_error() == Some(libc::ENOENT) || tries == TRIES {
            (done, tries) = (done + 1, 0);
        }
    }
}

/// # Safety
/// As of [`call`].
unsafe fn how_far(
    command: libc::c_long,
    table: impl AsFd,
    batch: &mut Batch,
) -> Result<(), Stopped> {
    let all = batch.count;
    // SAFETY: the caller sees to it.
    let done = unsafe { call(command, table, batch) };
    // The kernel says how many were done before the one that failed. Where it hasn't begun, it leaves
    // the number as it was.
    done.map_err(|why| {
        (
            if batch.count < all {
                batch.count as usize
            } else {
                0
            },
            why,
        )
    })
}

/// # Safety
/// What `batch` points to is as the command needs it, and outlives the call.
unsafe fn call(command: libc::c_long, table: impl AsFd, batch: &mut Batch) -> io::Result<()> {
    batch.map = table.as_fd().as_raw_fd().cast_unsigned();
    if batch.count == 0 {
        return Ok(());
    }
    // SAFETY: the kernel reads and writes `batch`, and what that points to as the caller says.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(batch),
            size_of::<Batch>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::{put_each, remove_each};
    use crate::{Key, Late, Place, Program, Translation};

    fn key(number: u16) -> Key {
        let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        Key {
            from: at(number),
            to: at(25),
        }
    }

    /// More of them than there are ports.
    fn of_any(number: u32) -> Key {
        Key {
            from: SocketAddrV4::new(number.into(), 25),
            to: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 25),
        }
    }

    fn late(until: u32) -> Late {
        Late {
            told_as: Translation::to(key(7)),
            out: 3,
            until,
        }
    }

    /// A table of which this one says, call by call, how far it gets and why no further.
    fn kernel(says: &[(usize, i32)]) -> impl FnMut(usize) -> Result<(), (usize, io::Error)> {
        let mut says: VecDeque<_> = says.iter().copied().collect();
        let mut begins = 0;
        move |from| {
            assert!(from >= begins, "none is done again behind others");
            begins = from;
            says.pop_front().map_or(Ok(()), |(done, code)| {
                Err((done, io::Error::from_raw_os_error(code)))
            })
        }
    }

    #[test]
    fn what_was_put_is_known_whatever_stops_it() {
        for (says, expected) in [
            (&[][..], 10),
            (&[(4, libc::E2BIG), (0, libc::E2BIG)], 4),
            // It has some memory again, or none.
            (&[(4, libc::ENOMEM)], 10),
            (
                &[(4, libc::ENOMEM), (3, libc::ENOMEM), (0, libc::ENOMEM)],
                7,
            ),
            (&[(0, libc::EPERM)], 0),
        ] {
            assert_eq!(put_each(10, kernel(says)), expected, "{says:?}");
        }
        assert_eq!(put_each(0, kernel(&[])), 0);
    }

    #[test]
    fn what_cannot_be_removed_keeps_no_other() {
        for (says, expected) in [
            (&[][..], vec![0]),
            (&[(4, libc::ENOENT), (0, libc::ENOENT)], vec![0, 5, 6]),
            // The last one isn't there.
            (&[(9, libc::ENOENT)], vec![0]),
            (&[(4, libc::EBUSY)], vec![0, 4]),
            (
                &[(4, libc::ETIMEDOUT), (0, libc::EBUSY), (0, libc::EBUSY)],
                vec![0, 4, 4, 5],
            ),
            (&[(4, libc::EBUSY), (0, libc::ENOENT)], vec![0, 4, 5]),
        ] {
            let (mut kernel, mut begins) = (kernel(says), vec![]);
            remove_each(10, |from| {
                begins.push(from);
                kernel(from)
            });
            assert_eq!(begins, expected, "{says:?}");
        }
        let mut calls = 0;
        remove_each(10, |_| {
            calls += 1;
            Err((0, io::Error::from_raw_os_error(libc::EPERM)))
        });
        assert_eq!(calls, 30);
    }

    /// Where the program can be loaded at all; tests/it fails in CI where it can't.
    #[test]
    fn many_linger_and_are_forgotten_at_once() {
        let Ok(mut program) = Program::load() else {
            return;
        };
        let tables = program.tables();
        let all: Vec<_> = (1..=300).map(|n| (key(n), 0, late(n.into()))).collect();
        tables.linger(&all);
        for (key, _, late) in &all {
            assert_eq!(tables.lingers_until(*key), Some(late.until));
            assert_eq!(tables.place(*key).unwrap().flow, Place::LINGERS);
        }
        // One that is there again, and one that was never.
        tables.replace(key(5), Place { flow: 9, side: 0 }).unwrap();
        assert_eq!(tables.lingers_until(key(5)), None);
        let gone: Vec<_> = (1..=200)
            .filter(|n| *n != 5)
            .chain([999])
            .map(key)
            .collect();
        tables.forget(&gone);
        tables.forget(&[key(998)]);
        for number in 1..=300 {
            let lingers = number > 200;
            assert_eq!(tables.lingers_until(key(number)).is_some(), lingers);
            assert_eq!(tables.place(key(number)).is_some(), lingers || number == 5);
        }
    }

    /// Late segments of those that find no room go up to the stack, and no key leads anywhere else.
    #[test]
    fn where_a_table_is_full_the_others_are_found_no_more() {
        let Ok(mut program) = Program::load() else {
            return;
        };
        let most = crate::tables::entries(1)[0].1;
        let tables = program.tables();
        let all: Vec<_> = (0..most + 10).map(|n| (of_any(n), 0, late(1))).collect();
        tables.linger(&all);
        let last = of_any(most - 1);
        assert_eq!(
            tables.place(last).map(|place| place.flow),
            Some(Place::LINGERS)
        );
        assert_eq!(tables.lingers_until(last), Some(1));
        for number in most..most + 10 {
            assert_eq!(tables.place(of_any(number)), None);
            assert_eq!(tables.lingers_until(of_any(number)), None);
        }
    }

    /// Else what is left of it would take away the key of whoever comes later from there.
    #[test]
    fn what_finds_no_place_does_not_linger() {
        let Ok(mut program) = Program::load() else {
            return;
        };
        let most = crate::tables::entries(1)[0].1;
        let tables = program.tables();
        // The places are taken by others.
        for number in 0..most {
            tables
                .put(of_any(number), Place { flow: 1, side: 0 })
                .unwrap();
        }
        let over: Vec<_> = (most..most + 10).map(|n| (of_any(n), 0, late(1))).collect();
        tables.linger(&over);
        for (key, ..) in over {
            assert_eq!(tables.place(key), None);
            assert_eq!(tables.lingers_until(key), None);
        }
    }
}
