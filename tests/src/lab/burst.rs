// SPDX-License-Identifier: GPL-2.0-only
//! Many datagrams with one system call, which in user-mode Linux costs as much as several packets.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use crate::tap::{During, Outcome};

/// Datagrams a call takes at most when it receives.
const MOST: usize = 64;

fn headers(vectors: &mut [libc::iovec]) -> Vec<libc::mmsghdr> {
    let header = |vector: &mut libc::iovec| {
        // SAFETY: all-zero is a valid mmsghdr.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        header
    };
    vectors.iter_mut().map(header).collect()
}

/// Sends datagrams by as few calls as possible, to where the socket is connected.
pub fn send(sock: &UdpSocket, packets: &[&[u8]]) -> Outcome {
    let vector = |p: &&[u8]| libc::iovec {
        iov_base: p.as_ptr().cast_mut().cast(),
        iov_len: p.len(),
    };
    let mut vectors: Vec<libc::iovec> = packets.iter().map(vector).collect();
    let mut headers = headers(&mut vectors);
    let mut rest = headers.as_mut_slice();
    while !rest.is_empty() {
        // SAFETY: every header points to one vector, and that to bytes that are only read; all outlive the call.
        let sent =
            unsafe { libc::sendmmsg(sock.as_raw_fd(), rest.as_mut_ptr(), rest.len() as _, 0) };
        let Ok(sent @ 1..) = usize::try_from(sent) else {
            return Err(io::Error::last_os_error()).during("sendmmsg");
        };
        rest = rest.get_mut(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Takes what has arrived, up to 64 datagrams of 2 KiB: their number. Waits for the first one as long as the socket's
/// time limit says.
pub fn receive(sock: &UdpSocket) -> io::Result<usize> {
    // One for all: what is in them does not matter, and their number is what is measured.
    let mut buffer = [0_u8; 2048];
    let mut vectors = [libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    }; MOST];
    let mut headers = headers(&mut vectors);
    // SAFETY: every header points to one vector, and that to the buffer, of its length, which no one reads; all outlive
    // the call.
    let got = unsafe {
        libc::recvmmsg(
            sock.as_raw_fd(),
            headers.as_mut_ptr(),
            headers.len() as _,
            libc::MSG_WAITFORONE as _,
            std::ptr::null_mut(),
        )
    };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}
