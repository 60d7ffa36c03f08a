//! System calls that no library wraps. The only `unsafe` code of the crate.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of_val};
use std::net::{TcpListener, TcpStream};
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// asm-generic/socket.h; the libc crate has it for some architectures only.
const SO_BUF_LOCK: libc::c_int = 72;

/// linux/tcp.h; the libc crate lacks it.
pub(crate) const TCP_REPAIR: libc::c_int = 19;

/// Keeps signals out of the calling thread: they belong to the thread that asked for them.
pub(crate) fn block_signals() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initialises the set it is given, and pthread_sigmask reads a valid
    // set and may be given a null pointer for the old one. Neither keeps a pointer.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
    }
}

/// A descriptor of one's own of what somebody else has by a number.
///
/// # Errors
/// What the kernel says: there is none with that number, say.
pub(crate) fn double(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl takes any number, and makes a new descriptor of one that is open.
    let double = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if double < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was made a moment ago, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(double) })
}

/// Bytes written to a TCP socket that the other end hasn't acknowledged yet.
///
/// # Errors
/// What the kernel says.
pub(crate) fn unacknowledged(socket: impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (TIOCOUTQ) writes one int to the address it is given; the descriptor
    // is borrowed for the length of the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or_default())
}

/// Lets the kernel size the buffers of a socket again after they were set: a size that was
/// set is where it begins, and not where it stays (SO_BUF_LOCK, Linux 5.14).
///
/// # Errors
/// What the kernel says.
pub(crate) fn unlock_buffers(socket: impl AsFd) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, SO_BUF_LOCK, 0)
}

/// Has a source address bound without a port: the kernel chooses one at the connect, where it
/// knows the destination, so that each destination has all ports (ip(7), Linux 4.2).
///
/// # Errors
/// What the kernel says.
pub(crate) fn bind_without_port(socket: impl AsFd) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Reads an option of a socket into `value`; how many bytes of it were filled.
///
/// # Errors
/// What the kernel says.
pub(crate) fn option(
    socket: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut [u8],
) -> io::Result<usize> {
    let mut size = libc::socklen_t::try_from(value.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the kernel writes at most `size` bytes to the address it is given, which has that
    // many, and the number of them to `size`; the descriptor is borrowed for the length of the
    // call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            value.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((size as usize).min(value.len()))
}

/// Has the calling thread's reactor tell of those who connect at a nonblocking socket.
///
/// # Errors
/// What the reactor says.
pub(crate) fn watch(socket: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    // SAFETY: a TcpListener owns its descriptor, which is the same one as long as it is there.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    watched.map_err(|refused| refused.into_parts().1)
}

/// Has the calling thread's reactor tell of what a nonblocking client does.
///
/// # Errors
/// What the reactor says.
pub(crate) fn watch_client(socket: Arc<TcpStream>) -> io::Result<AsyncFd<Arc<TcpStream>>> {
    // SAFETY: what it shares owns its descriptor, which is the same one as long as it is there.
    let watched = unsafe { AsyncFd::register(socket) };
    watched.map_err(|refused| refused.into_parts().1)
}

/// Words that others write as well, another process or the kernel: a table mapped into memory.
#[derive(Debug)]
pub(crate) struct MappedWords {
    first: NonNull<AtomicU32>,
    number: usize,
}

// SAFETY: it is a place in memory that any thread may reach; what is there is atomic.
unsafe impl Send for MappedWords {}
// SAFETY: as above.
unsafe impl Sync for MappedWords {}

impl MappedWords {
    /// The first `number` words of what `table` is, which has at least as many.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn map(table: impl AsFd, number: usize) -> io::Result<Self> {
        // SAFETY: a mapping at an address that the kernel chooses; nothing else is touched.
        let first = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                number * size_of::<AtomicU32>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                table.as_fd().as_raw_fd(),
                0,
            )
        };
        if first == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let first = NonNull::new(first.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { first, number })
    }
}

impl Deref for MappedWords {
    type Target = [AtomicU32];

    fn deref(&self) -> &[AtomicU32] {
        // SAFETY: mapped until the drop, aligned to a page, and valid whatever is in it.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.number) }
    }
}

impl Drop for MappedWords {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nobody has a slice of it any more.
        unsafe {
            libc::munmap(
                self.first.as_ptr().cast(),
                self.number * size_of::<AtomicU32>(),
            );
        }
    }
}

/// Sets an option of a socket that has a number as its value.
///
/// # Errors
/// What the kernel says.
pub(crate) fn set_option(
    socket: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the options set here have one int as their value, read during the call; the
    // descriptor is borrowed for as long.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
