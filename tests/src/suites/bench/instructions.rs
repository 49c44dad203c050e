// SPDX-License-Identifier: GPL-2.0-only
//! Instructions of the kernel for a packet, of several drivers one after the other in one kernel: exact on an emulator
//! whose clock counts instructions, whatever the host does beside it.
//!
//! Both ends are on the machine, which has one CPU: a packet is sealed, sent, received and opened on it. Sent alone, it
//! ends in a device that swallows it.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::Candidate;
use super::perf::Instructions;
use super::ratio::Link;
use crate::lab::{Cipher, Cmd, Echo, Module, Ns, Outer, Pair, Tunnel, TunnelSpec, burst, set_int};
use crate::nl::wireguard;
use crate::tap::{During, Failure, Outcome, Totals};

/// MTU inside: UDP datagrams of 1400 bytes just fit.
const MTU: u32 = 1428;
/// Payload of a full TCP segment with timestamps in it, bytes.
const SEGMENT: usize = MTU as usize - 20 - 32;
const PORT: u16 = 9000;
/// Datagrams sent at once, fewer where they would be more bytes than a UDP packet may have (IPv4: 65507).
const TOGETHER: usize = 50;

/// A driver and its name in the table.
enum Driver {
    Ovpn(Candidate),
    WireGuard,
}

impl Driver {
    fn name(&self) -> &str {
        match self {
            Self::Ovpn(candidate) => &candidate.name,
            Self::WireGuard => "wireguard",
        }
    }
}

/// Packets inside the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    /// One TCP connection; a packet is a full segment, and its share of the acknowledgements.
    Stream,
    /// Datagrams of this many bytes, in one call as one packet to be segmented (UDP_SEGMENT).
    Segments(usize),
    /// In one call, each a packet of its own (sendmmsg).
    Burst(usize),
    /// One, and the next when that one has arrived.
    Lone(usize),
}

impl Load {
    const ALL: [Self; 9] = [
        Self::Stream,
        Self::Segments(1400),
        Self::Segments(512),
        Self::Segments(64),
        Self::Burst(1400),
        Self::Burst(512),
        Self::Burst(64),
        Self::Lone(1400),
        Self::Lone(64),
    ];
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream => f.pad("TCP stream"),
            Self::Segments(size) => f.pad(&format!("UDP {size} B, GSO")),
            Self::Burst(size) => f.pad(&format!("UDP {size} B, sendmmsg")),
            Self::Lone(size) => f.pad(&format!("UDP {size} B, alone")),
        }
    }
}

/// Two namespaces and what joins them inside.
enum Way {
    /// The veth pair alone.
    Bare(Pair),
    Ovpn(Tunnel),
    WireGuard(Pair),
}

impl Way {
    fn new(driver: Option<&Driver>, cipher: Cipher) -> Outcome<Self> {
        match driver {
            None => Pair::new().map(Self::Bare),
            Some(Driver::Ovpn(_)) => {
                let tunnel = Tunnel::new(TunnelSpec {
                    cipher,
                    outer: Outer::V4,
                    mtu: Some(MTU),
                })?;
                Ok(Self::Ovpn(tunnel))
            }
            Some(Driver::WireGuard) => wireguard_pair().map(Self::WireGuard),
        }
    }

    fn ends(&self) -> [&Ns; 2] {
        match self {
            Self::Bare(pair) | Self::WireGuard(pair) => [&pair.a, &pair.b],
            Self::Ovpn(tunnel) => [&tunnel.a.ns, &tunnel.b.ns],
        }
    }

    /// Address of the second end.
    fn to(&self) -> SocketAddr {
        let ip = match self {
            Self::Bare(_) => Pair::outer(false, 2),
            Self::Ovpn(_) | Self::WireGuard(_) => Tunnel::inner(false, 2),
        };
        SocketAddr::new(ip, PORT)
    }

    /// From now on all outer packets of the first end are swallowed by a device that takes what the link takes.
    fn swallow(&self, link: Link) -> Outcome {
        let [a, _] = self.ends();
        let single = if link == Link::Gso {
            ""
        } else {
            " gso_max_segs 1"
        };
        a.ip(&format!(
            "link add sink{single} type dummy\nlink set sink up\n\
             route add 10.10.0.2/32 dev sink src 10.10.0.1"
        ))
    }
}

fn wireguard_pair() -> Outcome<Pair> {
    let pair = Pair::new()?;
    for (ns, n) in [(&pair.a, 1), (&pair.b, 2)] {
        ns.ip("link add tun type wireguard")?;
        let ifindex = ns.ifindex("tun")?;
        let ifindex = ifindex.ok_or_else(|| Failure::new("the new link is not there"))?;
        let remote = SocketAddrV4::new(Ipv4Addr::new(10, 10, 0, 3 - n), PORT + 1);
        wireguard::set_device(ns, ifindex, n == 1, remote)?;
        ns.ip(&format!(
            "link set tun mtu {MTU} addrgenmode none up\naddr add 10.8.0.{n}/24 dev tun"
        ))?;
    }
    Ok(pair)
}

/// A measurement of one way.
struct Meter<'a> {
    counter: &'a Instructions,
    way: &'a Way,
    packets: usize,
}

impl Meter<'_> {
    /// Instructions a packet; the receiver takes part unless the packets are `swallowed`.
    fn measure(&self, load: Load, swallowed: bool) -> Outcome<f64> {
        match load {
            Load::Stream => self.stream(),
            Load::Segments(size) => {
                self.datagrams(size, TOGETHER.min(65_507 / size), true, swallowed)
            }
            Load::Burst(size) => self.datagrams(size, TOGETHER, false, swallowed),
            Load::Lone(size) => self.datagrams(size, 1, false, swallowed),
        }
    }

    fn datagrams(&self, size: usize, together: usize, gso: bool, swallowed: bool) -> Outcome<f64> {
        let [a, b] = self.way.ends();
        let (from, to) = (a.udp(false, PORT)?, b.udp(false, PORT)?);
        from.connect(self.way.to())?;
        to.set_read_timeout(Some(Duration::from_secs(20)))?;
        let data = vec![0x5a; size * together];
        let packets: Vec<&[u8]> = match gso {
            true => {
                set_int(&from, libc::SOL_UDP, libc::UDP_SEGMENT, size as i32)?;
                vec![&data]
            }
            false => data.chunks(size).collect(),
        };
        let once = || {
            burst::send(&from, &packets)?;
            let mut missing = if swallowed { 0 } else { together };
            while missing > 0 {
                let got = burst::receive(&to).during(format!("{missing} of a burst missing"))?;
                missing = missing.saturating_sub(got);
            }
            Ok::<_, Failure>(())
        };
        // Caches of routes and memory fill.
        (0..10).try_for_each(|_| once())?;
        let rounds = self.packets.div_ceil(together);
        let before = self.counter.count()?;
        (0..rounds).try_for_each(|_| once())?;
        let after = self.counter.count()?;
        Ok((after - before) as f64 / (rounds * together) as f64)
    }

    fn stream(&self) -> Outcome<f64> {
        let [a, b] = self.way.ends();
        let bytes = self.packets * SEGMENT;
        let listener = b.enter(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?))?;
        let mut near = a.enter(|| Ok(TcpStream::connect(self.way.to())?))?;
        let (mut far, _) = listener.accept()?;
        thread::scope(|scope| {
            // A byte back for each round: the first one opens the windows.
            let reader = scope.spawn(move || -> Outcome {
                for _ in 0..2 {
                    std::io::copy(&mut (&mut far).take(bytes as u64), &mut std::io::sink())?;
                    far.write_all(&[1])?;
                }
                Ok(())
            });
            let data = vec![0x5a; bytes];
            let mut counts = Vec::new();
            for _ in 0..2 {
                near.write_all(&data)?;
                near.read_exact(&mut [0])?;
                counts.push(self.counter.count()?);
            }
            reader
                .join()
                .map_err(|_| Failure::new("the reader panicked"))??;
            match counts[..] {
                [before, after] => Ok((after - before) as f64 / self.packets as f64),
                _ => Err(Failure::new("nothing was counted")),
            }
        })
    }
}

/// A row: for each driver instructions a packet, all in all and of sending alone.
struct Row {
    cipher: Option<Cipher>,
    link: Link,
    load: Load,
    cells: Vec<Option<(f64, Option<f64>)>>,
}

impl Row {
    fn name(&self) -> String {
        let cipher = self.cipher.map_or("no tunnel", Cipher::name);
        format!("{cipher}, {}, {}", self.link, self.load)
    }

    /// The row as text: cells, and the ratio of the first driver to each other.
    fn text(&self) -> String {
        let mut text = format!("{:<60}", self.name());
        for cell in &self.cells {
            text += &match cell {
                Some((whole, Some(sent))) => {
                    format!(" {whole:>7.0} = {sent:>6.0} + {:>6.0}", whole - sent)
                }
                Some((whole, None)) => format!(" {whole:>7.0}{:18}", ""),
                None => format!(" {:>25}", "-"),
            };
        }
        let [Some((ours, _)), others @ ..] = &self.cells[..] else {
            return text;
        };
        for other in others {
            let ratio = other.map(|(whole, _)| format!("{:.2}", ours / whole));
            text += &format!(" {:>6}", ratio.as_deref().unwrap_or("-"));
        }
        text
    }
}

struct Args {
    drivers: Vec<Driver>,
    packets: usize,
    only: Vec<String>,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
    let (mut drivers, mut packets, mut only) = (Vec::new(), 2000, Vec::new());
    while let Some(arg) = args.next() {
        if arg == "--wireguard" {
            drivers.push(Driver::WireGuard);
            continue;
        }
        let value = args.next().ok_or(format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--driver" => {
                let candidate = Candidate::parse(&value).ok_or("--driver wants NAME=FILE")?;
                drivers.push(Driver::Ovpn(candidate));
            }
            "--packets" => {
                let number = value.parse().ok().filter(|n| *n > 0);
                packets = number.ok_or(format!("--packets: {value} is not a number"))?;
            }
            "--only" => only.push(value),
            _ => return Err(format!("unknown option {arg}")),
        }
    }
    if drivers.is_empty() {
        return Err("--driver is missing".into());
    }
    Ok(Args {
        drivers,
        packets,
        only,
    })
}

/// Every row that is asked for: those whose names have all words of one `--only`, which " & " stands between.
fn rows(only: &[String], drivers: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for cipher in [None, Some(Cipher::Aes256), Some(Cipher::ChaCha)] {
        for link in Link::ALL {
            for load in Load::ALL {
                let cells = vec![None; drivers];
                rows.push(Row {
                    cipher,
                    link,
                    load,
                    cells,
                });
            }
        }
    }
    let fits = |row: &Row, only: &String| only.split(" & ").all(|part| row.name().contains(part));
    rows.retain(|row| only.is_empty() || only.iter().any(|o| fits(row, o)));
    rows
}

/// Fills the cells of one driver, cipher and link.
fn fill(
    args: &Args,
    counter: &Instructions,
    which: Option<usize>,
    rows: &mut [&mut Row],
) -> Outcome {
    let Some(Row { cipher, link, .. }) = rows.first() else {
        return Ok(());
    };
    let (link, cipher) = (*link, cipher.unwrap_or(Cipher::Aes256));
    let driver = which.and_then(|at| args.drivers.get(at));
    let way = Way::new(driver, cipher)?;
    link.set_up(way.ends())?;
    let [a, _] = way.ends();
    // Addresses are resolved, and WireGuard has a key.
    Echo::new(way.to().ip(), 5).lossless(a)?;
    let meter = Meter {
        counter,
        way: &way,
        packets: args.packets,
    };
    let mut cells = Vec::new();
    for row in rows.iter() {
        cells.push((meter.measure(row.load, false).during(row.name())?, None));
    }
    if driver.is_some() {
        way.swallow(link)?;
        for (row, cell) in rows.iter().zip(&mut cells) {
            if row.load != Load::Stream {
                cell.1 = Some(meter.measure(row.load, true).during(row.name())?);
            }
        }
    }
    for (row, cell) in rows.iter_mut().zip(cells) {
        // The bare way is every driver's.
        for (at, place) in row.cells.iter_mut().enumerate() {
            if which.is_none_or(|which| which == at) {
                *place = Some(cell);
            }
        }
    }
    Ok(())
}

/// Measures and prints.
pub fn run(args: impl Iterator<Item = String>) -> Outcome<Totals> {
    let args = parse(args).map_err(Failure::new)?;
    let mut rows = rows(&args.only, args.drivers.len());
    let counter = Instructions::open()?;
    println!(
        "{}; instructions of the kernel a packet, {} packets each, outer UDP over IPv4: whole = sending + receiving; ratios of the first driver to the others",
        super::machine(),
        args.packets
    );
    let drivers = (0..args.drivers.len()).map(Some);
    // The bare way comes last: a machine that has just booted is busy with itself.
    for which in drivers.chain([None]) {
        let driver = which.and_then(|at| args.drivers.get(at));
        let ciphers: &[Option<Cipher>] = match driver {
            None => &[None],
            Some(Driver::Ovpn(candidate)) => {
                candidate.module.reload().during(&candidate.name)?;
                &[Some(Cipher::Aes256), Some(Cipher::ChaCha)]
            }
            Some(Driver::WireGuard) => {
                Cmd::new(None, "modprobe wireguard").ok()?;
                &[Some(Cipher::ChaCha)]
            }
        };
        for cipher in ciphers {
            for link in Link::ALL {
                let chosen = |row: &&mut Row| row.cipher == *cipher && row.link == link;
                let mut chosen: Vec<_> = rows.iter_mut().filter(chosen).collect();
                let name = driver.map_or("no tunnel", Driver::name);
                fill(&args, &counter, which, &mut chosen).during(name)?;
            }
        }
    }
    let mut head = format!("{:<60}", "cipher, link, load");
    for driver in &args.drivers {
        head += &format!(" {:>25}", driver.name());
    }
    println!("{head}");
    rows.iter().for_each(|row| println!("{}", row.text()));
    if Module::loaded() {
        Module::unload()?;
    }
    Ok(Totals::default())
}
