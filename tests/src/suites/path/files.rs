// SPDX-License-Identifier: GPL-2.0-only
//! Pages of a file that are sent through the tunnel without a copy: the driver must not write to them, and they must
//! arrive as they are.

use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::Duration;

use crate::lab::{Cipher, Outer, Tunnel, TunnelSpec, patience};
use crate::tap::{Case, During, Failure, Outcome};
use crate::{check, check_eq};

const PORT: u16 = 5001;
const LEN: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(20);

/// A file, gone with this value.
struct Pages {
    path: std::path::PathBuf,
    content: Vec<u8>,
}

impl Pages {
    fn new() -> Outcome<Self> {
        let name = format!("ovpn-pages-{}", std::process::id());
        let pages = Self {
            path: std::env::temp_dir().join(name),
            content: (0..LEN).map(|n| (n % 251) as u8).collect(),
        };
        fs::write(&pages.path, &pages.content).during("file")?;
        Ok(pages)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn moved(count: isize) -> Outcome<usize> {
    match usize::try_from(count) {
        Ok(0) => Err(Failure::new("the file has come to its end")),
        Ok(n) => Ok(n),
        Err(_) => Err(std::io::Error::last_os_error().into()),
    }
}

/// sendfile(2).
fn send_file(file: &File, to: &TcpStream) -> Outcome {
    let mut left = LEN;
    while left > 0 {
        // SAFETY: both descriptors are open, and there is no offset to write to.
        let n = unsafe { libc::sendfile(to.as_raw_fd(), file.as_raw_fd(), ptr::null_mut(), left) };
        left -= moved(n).during("sendfile")?;
    }
    Ok(())
}

/// splice(2), by way of a pipe.
fn splice(file: &File, to: &TcpStream) -> Outcome {
    let (read, write) = std::io::pipe()?;
    let step = |from: i32, to: i32, len: usize| {
        // SAFETY: both descriptors are open, and there are no offsets to write to.
        moved(unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), len, 0) })
    };
    let mut left = LEN;
    while left > 0 {
        let mut piece = step(file.as_raw_fd(), write.as_raw_fd(), left).during("from the file")?;
        left -= piece;
        while piece > 0 {
            piece -= step(read.as_raw_fd(), to.as_raw_fd(), piece).during("to the socket")?;
        }
    }
    Ok(())
}

type Way = fn(&File, &TcpStream) -> Outcome;

fn untouched(cipher: Cipher, outer: Outer, send: Way) -> Outcome {
    let tunnel = Tunnel::new(TunnelSpec {
        cipher,
        outer,
        mtu: None,
    })?;
    let address = SocketAddr::new(Tunnel::inner(false, 2), PORT);
    let listener = tunnel.b.ns.enter(|| Ok(TcpListener::bind(address)?))?;
    let near = tunnel.a.ns.enter(|| Ok(TcpStream::connect(address)?))?;
    let (mut far, _) = listener.accept()?;
    far.set_read_timeout(Some(LIMIT * patience()))?;
    near.set_write_timeout(Some(LIMIT * patience()))?;
    let pages = Pages::new()?;
    let file = File::open(&pages.path)?;
    let mut got = vec![0; LEN];
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&file, &near));
        let received = far.read_exact(&mut got).during("the other end");
        let sent = sender.join();
        sent.unwrap_or_else(|_| Err(Failure::new("panic")))?;
        received
    })?;
    // Not check_eq: a mebibyte is no message.
    check!(
        got == pages.content,
        "the bytes that arrived are not the file's"
    );
    let now = fs::read(&pages.path)?;
    check!(now == pages.content, "the file's pages were written to");
    check_eq!(now.len(), LEN, "length of the file");
    Ok(())
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let ways: [(&str, Way); 2] = [("sendfile", send_file), ("splice", splice)];
    let tunnels = [
        (Cipher::Aes256, Outer::V4),
        (Cipher::ChaCha, Outer::V6),
        (Cipher::ChaCha, Outer::Tcp4),
    ];
    let mut cases = Vec::new();
    for (name, way) in ways {
        for (cipher, outer) in tunnels {
            let title = format!("page cache: {name}, {}, {outer:?}", cipher.name());
            cases.push(Case::new(title, move |_| untouched(cipher, outer, way)));
        }
    }
    cases
}
