//! What sockets are told before they listen or connect, so that their sessions may take the kernel
//! path: to keep what the hand-over needs of a client, and which window scale to announce.
//!
//! A window is told to the other peer in the scale that we announced to that one. So none is
//! announced that is larger than the other peer's own: to clients the one that fits their servers
//! ([`scales`](crate::scales)), to a server its client's. The kernel takes a scale from the largest
//! window that a socket may have, at each handshake. Afterwards that holds nothing back that
//! the scale doesn't by itself: it goes with the buffer, which the kernel sizes.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use crate::sys;

/// linux/tcp.h; the libc crate lacks it.
const TCP_SAVE_SYN: i32 = 27;
/// The largest that there is (RFC 7323, 2.3).
const MOST: u8 = 14;

/// Has a listening socket, or one that is about to be, keep what the hand-over needs of a client,
/// and announce this window scale or a smaller one. Without one, whatever the kernel likes.
///
/// # Errors
/// What the kernel says.
pub(crate) fn prepare_listener(
    socket: impl AsFd,
    address: SocketAddr,
    scale: Option<u8>,
) -> io::Result<()> {
    let socket = socket.as_fd();
    if address.is_ipv4() {
        if scale.is_some() {
            sys::set_option(socket, libc::IPPROTO_TCP, TCP_SAVE_SYN, 1)?;
            sys::set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        }
        announce(socket, scale.unwrap_or(MOST))?;
    }
    prepare_acknowledgements(socket, address, scale)
}

/// Has the first command of a client of the relay acknowledged with its reply, not by a segment of
/// its own, as the kernel does from the second one on. (What is handed over may have no such
/// acknowledgement in waiting.) For a socket that listens: listen(2) forgets it.
///
/// # Errors
/// What the kernel says.
pub(crate) fn prepare_acknowledgements(
    socket: impl AsFd,
    address: SocketAddr,
    scale: Option<u8>,
) -> io::Result<()> {
    let at_once = scale.is_some() && address.is_ipv4();
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_QUICKACK);
    sys::set_option(socket.as_fd(), level, option, at_once.into())
}

/// Has a socket announce this window scale at its handshake, or a smaller one where its buffers
/// can't become so large.
///
/// # Errors
/// What the kernel says.
pub(super) fn announce(socket: impl AsFd, scale: u8) -> io::Result<()> {
    let most = i32::from(u16::MAX) << scale.min(MOST);
    sys::set_option(socket, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, most)
}
