//! System calls that no library wraps. The only `unsafe` code of the crate.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of_val};
use std::os::fd::{AsFd, AsRawFd};

/// asm-generic/socket.h; the libc crate has it for some architectures only.
const SO_BUF_LOCK: libc::c_int = 72;

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

fn set_option(
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
