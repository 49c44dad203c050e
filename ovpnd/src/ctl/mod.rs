// SPDX-License-Identifier: GPL-2.0-or-later
//! `ovpnctl`: drives the kernel's driver from the command line.

mod args;
#[cfg(feature = "tls")]
mod authority;
mod bus;
mod hold;
mod import;
mod show;

use std::io::Write;
use std::process::ExitCode;

use ovpn_netlink::{Error, Mode, NewKey, Ovpn, Rtnl, Slot};

use crate::keyfile::StaticKey;
use args::{Args, KeyOptions, PeerOptions};

const HELP: &str = "\
ovpnctl - drive the kernel's OpenVPN data path driver

USAGE
  ovpnctl show [IFACE] [--json]           interfaces, peers, keys, counters
  ovpnctl monitor [--json]                print the driver's notifications until interrupted
  ovpnctl new-iface IFACE [mode p2p|mp] [mtu BYTES]
  ovpnctl del-iface IFACE
  ovpnctl hold IFACE                      stay, and have IFACE deleted when this process ends, however it does
  ovpnctl new-peer IFACE id N remote ADDRESS:PORT [local-port PORT] [PEER OPTIONS] [fwmark N] [--foreground]
  ovpnctl set-peer IFACE id N [remote ADDRESS:PORT] [PEER OPTIONS]
  ovpnctl del-peer IFACE id N
  ovpnctl new-key IFACE peer N cipher CIPHER key-file FILE key-direction 0|1
                  [slot primary|secondary] [key-id 0..7]
  ovpnctl swap-keys IFACE peer N
  ovpnctl del-key IFACE peer N slot primary|secondary
  ovpnctl genkey                          print a new key file
  ovpnctl ca init IFACE [years N] [name HOST]...
  ovpnctl ca list IFACE [--json]
  ovpnctl ca revoke IFACE CLIENT
  ovpnctl export IFACE CLIENT remote HOST [years N] [file FILE] [--renew]
  ovpnctl import FILE [name IFACE] [login FILE]
  ovpnctl push-update IFACE [client NAME] OPTION...
  ovpnctl answer IFACE [user NAME]        the answer is read from stdin
  ovpnctl --help | --version

PEER OPTIONS
  local IP                  source address of packets to the peer
  vpn-ip IP                 its address inside the tunnel, one of each family (mode mp only)
  keepalive SECONDS SECONDS send after the first without traffic, give up after the second
  tx-id N                   id that packets to the peer carry, if not its own

SERVERS AND CLIENTS
  ca init       makes a certificate authority, the server's certificate and a key of tls-crypt-v2 in /etc/ovpn/IFACE, and
                prints the options for the section of IFACE in /etc/config/network
  export        makes a certificate for CLIENT and writes FILE (IFACE-CLIENT.ovpn), a profile with all that the client needs.
                Its key is in that file alone. --renew revokes the certificate that CLIENT has
  ca revoke     locks CLIENT out, at once if ovpnd runs
  import        makes an interface of ovpnd of a client's profile; login names a file of two lines, user and password
  These take [config-dir DIR] (/etc/config) and [key-dir DIR] (/etc/ovpn) as well.
  push-update   tells the clients of IFACE, or one of them, other options while they are there: 'route 10.2.0.0 255.255.0.0',
                -dns. Clients that come later do not get them
  answer        answers the question that IFACE asks as a client (a password, a PIN): `ovpnctl answer office < pin`
  These two want ovpnd to run, and take [ubus-socket PATH] (/var/run/ubus/ubus.sock).

NOTES
  A peer lives as long as a process has its UDP socket open. new-peer leaves such a process behind, which
  ends with the peer; with --foreground it is ovpnctl itself. Every new-peer opens a socket of its own, so
  peers of one interface need different local ports.
  CIPHER is aes-128-gcm, aes-192-gcm, aes-256-gcm or chacha20-poly1305. FILE is what `openvpn --genkey secret`
  and `ovpnctl genkey` write, readable by its owner alone; the two sides have different directions. Packet ids
  start again with each new-key: never install the same key twice, other than for tests.

EXIT STATUS
  0 done, 1 refused or failed (the kernel's words are on stderr), 2 wrong usage
";

/// Why a command ended badly.
pub(crate) enum Failure {
    /// Wrong usage.
    Usage(String),
    /// Anything else.
    Failed(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(crate) type Done = Result<(), Failure>;

/// Runs the command line `args`, without the program's name.
pub fn main(args: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    // Keys pass through: no core files. Without it they would only be likelier to be seen.
    let _ = nix::sys::prctl::set_dumpable(false);
    let words: Result<Vec<String>, _> = args.map(|word| word.into_string()).collect();
    let done = match words {
        Ok(words) => run(Args::new(words)),
        Err(word) => Err(Failure::Usage(format!("{word:?} is not UTF-8"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("ovpnctl: {message} (see ovpnctl --help)");
            ExitCode::from(2)
        }
        Err(Failure::Failed(message)) => {
            eprintln!("ovpnctl: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: Args) -> Done {
    let command = args.next("a command")?;
    match command.as_str() {
        "--help" | "-h" | "help" => print(HELP),
        "--version" | "-V" => print(concat!("ovpnctl ", env!("CARGO_PKG_VERSION"), "\n")),
        "show" => {
            let json = args.flag("--json");
            let name = args.maybe();
            args.end()?;
            show::show(name.as_deref(), json)
        }
        "monitor" => {
            let json = args.flag("--json");
            args.end()?;
            show::monitor(json)
        }
        "genkey" => {
            args.end()?;
            print(&StaticKey::generate()?.to_text())
        }
        "new-iface" => new_iface(args),
        "del-iface" => {
            let name = args.next("an interface")?;
            args.end()?;
            let mut rtnl = Rtnl::open()?;
            let index = index(&mut rtnl, &name)?;
            Ok(rtnl.link_del(index)?)
        }
        "hold" => {
            let name = args.next("an interface")?;
            args.end()?;
            hold::interface(&name)
        }
        "new-peer" => hold::new_peer(args),
        "set-peer" => {
            let (name, options) = PeerOptions::parse(args, false)?;
            let index = index(&mut Rtnl::open()?, &name)?;
            Ok(Ovpn::open()?.peer_set(index, options.id, &options.params)?)
        }
        "del-peer" => {
            let (name, options) = PeerOptions::parse(args, false)?;
            if options.params != Default::default() {
                return Err(Failure::Usage("del-peer takes an id alone".into()));
            }
            let index = index(&mut Rtnl::open()?, &name)?;
            Ok(Ovpn::open()?.peer_del(index, options.id)?)
        }
        #[cfg(feature = "tls")]
        "ca" => authority::ca(args),
        #[cfg(feature = "tls")]
        "export" => authority::export(args),
        #[cfg(not(feature = "tls"))]
        "ca" | "export" => Err(Failure::Failed(
            "this build is without TLS: install ovpnd instead of ovpnd-mini".into(),
        )),
        "import" => import::import(args),
        "push-update" => bus::push_update(args),
        "answer" => bus::answer(args),
        "new-key" => new_key(args),
        "swap-keys" => {
            let (name, options) = KeyOptions::parse(args)?;
            let index = index(&mut Rtnl::open()?, &name)?;
            Ok(Ovpn::open()?.key_swap(index, options.peer)?)
        }
        "del-key" => {
            let (name, options) = KeyOptions::parse(args)?;
            let slot = options
                .slot
                .ok_or_else(|| Failure::Usage("slot is missing".into()))?;
            let index = index(&mut Rtnl::open()?, &name)?;
            Ok(Ovpn::open()?.key_del(index, options.peer, slot)?)
        }
        _ => Err(Failure::Usage(format!(
            "\"{}\" is no command",
            command.escape_debug()
        ))),
    }
}

/// Writes to stdout, where a closed pipe is no reason to panic.
pub(crate) fn print(text: &str) -> Done {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}

/// The index of an interface of our kind.
pub(crate) fn index(rtnl: &mut Rtnl, name: &str) -> Result<u32, Failure> {
    let link = rtnl.link(name)?;
    match link.kind.as_deref() {
        _ if link.is_ovpn() => Ok(link.index),
        Some(kind) => Err(Failure::Failed(format!(
            "{name} is an interface of kind {kind}, not ovpn"
        ))),
        None => Err(Failure::Failed(format!(
            "{name} is no interface of kind ovpn"
        ))),
    }
}

fn new_iface(mut args: Args) -> Done {
    let name = args.next("an interface")?;
    let (mut mode, mut mtu) = (Mode::P2p, None);
    while let Some(option) = args.maybe() {
        match option.as_str() {
            "mode" => mode = args.value("mode")?,
            "mtu" => mtu = Some(args.value("mtu")?),
            _ => return Err(args::unknown(&option)),
        }
    }
    // Loads the module: the kernel does that for the family and not for the link kind.
    Ovpn::open()?;
    let mut rtnl = Rtnl::open()?;
    rtnl.link_new(&name, mode)?;
    if let Some(mtu) = mtu {
        let index = rtnl.link(&name)?.index;
        if let Err(error) = rtnl.link_set_mtu(index, mtu) {
            rtnl.link_del(index)?;
            return Err(error.into());
        }
    }
    Ok(())
}

fn new_key(args: Args) -> Done {
    let (name, options) = KeyOptions::parse(args)?;
    let missing = |what: &str| Failure::Usage(format!("{what} is missing"));
    let cipher = options.cipher.ok_or_else(|| missing("cipher"))?;
    let direction = options.direction.ok_or_else(|| missing("key-direction"))?;
    let file = options.file.ok_or_else(|| missing("key-file"))?;
    let key = StaticKey::load(&file)
        .map_err(|why| Failure::Failed(format!("{} {why}", file.display())))?;
    let (encrypt, decrypt) = key.directions(cipher, direction);
    let new = NewKey {
        peer: options.peer,
        slot: options.slot.unwrap_or(Slot::Primary),
        key_id: options.key_id,
        cipher: cipher.alg(),
        encrypt,
        decrypt,
    };
    let index = index(&mut Rtnl::open()?, &name)?;
    Ok(Ovpn::open()?.key_new(index, &new)?)
}
