// SPDX-License-Identifier: GPL-2.0-only
//! Counters of a device by name, as `ethtool -S` shows them (include/uapi/linux/ethtool.h).

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use crate::lab::Ns;
use crate::tap::{During, Failure, Outcome};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSTATS: u32 = 0x1d;
const ETH_SS_STATS: u32 = 1;
const ETH_GSTRING_LEN: usize = 32;
/// Size of struct ethtool_drvinfo, and where n_stats stands in it.
const DRVINFO_LEN: usize = 196;
const DRVINFO_N_STATS: usize = 180;
/// The one counter that is not of drops: datagrams that another CPU opened than they came to.
const SPREAD: &str = "spread";

/// The drop counters of one device; none when its driver has no such counters.
pub struct DropReasons {
    sock: UdpSocket,
    device: String,
    names: Vec<String>,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl DropReasons {
    /// Reads the names.
    pub fn open(ns: &Ns, device: &str) -> Outcome<Self> {
        let mut counters = Self {
            sock: ns.udp(false, 0)?,
            device: device.into(),
            names: Vec::new(),
        };
        let mut info = vec![0; DRVINFO_LEN];
        counters.ioctl(ETHTOOL_GDRVINFO, &mut info)?;
        let count =
            word(&info, DRVINFO_N_STATS).ok_or_else(|| Failure::new("short ethtool_drvinfo"))?;
        if count > 0 {
            let mut strings = vec![0; 12 + count as usize * ETH_GSTRING_LEN];
            strings.splice(4..8, ETH_SS_STATS.to_ne_bytes());
            strings.splice(8..12, count.to_ne_bytes());
            counters.ioctl(ETHTOOL_GSTRINGS, &mut strings)?;
            let name = |raw: &[u8]| {
                String::from_utf8_lossy(raw.split(|b| *b == 0).next().unwrap_or_default())
                    .into_owned()
            };
            counters.names = strings
                .get(12..)
                .unwrap_or_default()
                .chunks(ETH_GSTRING_LEN)
                .map(name)
                .collect();
        }
        Ok(counters)
    }

    /// Whether there are any.
    pub fn known(&self) -> bool {
        !self.names.is_empty()
    }

    /// Datagrams that another CPU opened than they came to.
    pub fn spread(&self) -> Outcome<u64> {
        let all = self.all()?;
        let spread = all.iter().find(|(name, _)| name == SPREAD);
        let spread = spread.ok_or_else(|| Failure::new("the driver does not count them"))?;
        Ok(spread.1)
    }

    /// Their values, by name.
    pub fn read(&self) -> Outcome<Vec<(String, u64)>> {
        let mut all = self.all()?;
        all.retain(|(name, _)| name != SPREAD);
        Ok(all)
    }

    fn all(&self) -> Outcome<Vec<(String, u64)>> {
        if !self.known() {
            return Ok(Vec::new());
        }
        let count = self.names.len();
        let mut values = vec![0; 8 + count * 8];
        values.splice(4..8, (count as u32).to_ne_bytes());
        self.ioctl(ETHTOOL_GSTATS, &mut values)?;
        let values = values.get(8..).unwrap_or_default().chunks_exact(8);
        let values = values.map(|v| u64::from_ne_bytes(v.try_into().unwrap_or_default()));
        Ok(self.names.iter().cloned().zip(values).collect())
    }

    /// A reading in which nothing was dropped.
    pub fn zeros(&self) -> Vec<(String, u64)> {
        let names = self.names.iter().filter(|name| *name != SPREAD);
        names.map(|name| (name.clone(), 0)).collect()
    }

    /// Names of the counters that differ from an earlier reading, and by how much.
    pub fn since(&self, before: &[(String, u64)]) -> Outcome<Vec<(String, u64)>> {
        let now = self.read()?.into_iter().zip(before);
        Ok(now
            .map(|((name, new), (_, old))| (name, new - old))
            .filter(|(_, n)| *n != 0)
            .collect())
    }

    fn ioctl(&self, command: u32, data: &mut [u8]) -> Outcome {
        let Some(head) = data.first_chunk_mut::<4>() else {
            return Err(Failure::new("no room for the command"));
        };
        *head = command.to_ne_bytes();
        // SAFETY: all-zero is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request
            .ifr_name
            .iter_mut()
            .zip(self.device.bytes().take(libc::IFNAMSIZ - 1))
        {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
        // SAFETY: the request holds a NUL-terminated name and points to `data`, which is as large as the command's
        // structure says and outlives the call.
        if unsafe {
            libc::ioctl(
                self.sock.as_raw_fd(),
                libc::SIOCETHTOOL as _,
                &raw mut request,
            )
        } != 0
        {
            return Err(std::io::Error::last_os_error())
                .during(format!("ethtool command {command:#x}"));
        }
        Ok(())
    }
}
