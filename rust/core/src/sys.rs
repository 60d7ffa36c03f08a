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
    let unlocked: libc::c_int = 0;
    // SAFETY: the option's value is one int, read during the call; the descriptor is borrowed
    // for as long.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_BUF_LOCK,
            (&raw const unlocked).cast(),
            size_of_val(&unlocked) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
