// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options that a server pushes, in types.
//!
//! A server is only half trusted: it may configure the tunnel's addresses, routes and DNS, and nothing that runs a
//! program or reads a file. An option that would leave the two sides with different packets ends the session; another
//! one that is not supported is named and left out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

pub mod filter;
mod lexer;
#[cfg(test)]
mod tests;
mod update;

pub use filter::{Filter, Verdict};
use lexer::words;
pub use update::Pushed;

/// Routes of one server; a table of all the world's networks is not what routers have memory for.
const MAX_ROUTES: usize = 1024;
/// Servers, domains and addresses of DNS.
const MAX_DNS: usize = 64;
/// Sentences about options that were left out.
const MAX_IGNORED: usize = 64;

/// Addresses and routes of an IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix<A> {
    /// The address.
    pub address: A,
    /// Bits of the network's part.
    pub len: u8,
}

/// Where a route goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway<A> {
    /// Into the tunnel.
    Vpn,
    /// Around the tunnel, to the gateway that was there before.
    Net,
    /// To this address inside the tunnel.
    Address(A),
}

/// `route`, `route-ipv6`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<A> {
    /// The network; bits after its length are zero.
    pub network: Prefix<A>,
    /// Where it goes.
    pub gateway: Gateway<A>,
    /// Its metric, when the server names one.
    pub metric: Option<u32>,
}

/// `topology`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Topology {
    /// A pair of addresses for each client, the default of servers that push none.
    #[default]
    Net30,
    /// An address of ours and one of the peer's.
    P2p,
    /// A subnet.
    Subnet,
}

/// The arguments of `ifconfig`: what the second means depends on the topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ifconfig {
    /// Our address.
    pub local: Ipv4Addr,
    /// A netmask in the topology `subnet`, else the peer's address.
    pub second: Ipv4Addr,
}

/// `redirect-gateway`, `redirect-private`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Redirect {
    /// The default route of IPv4 goes into the tunnel.
    pub ipv4: bool,
    /// The default route of IPv6 goes into the tunnel.
    pub ipv6: bool,
    /// By two routes of half the address space each, instead of a new default route.
    pub def1: bool,
    /// The server is in our own network: it needs no route of its own.
    pub local: bool,
    /// A route to the server is made only when it is not in our own network.
    pub auto_local: bool,
    /// Nothing may go around the tunnel.
    pub block_local: bool,
    /// Without a route to the server.
    pub bypass_dhcp: bool,
    /// With a route to each DNS server that is there.
    pub bypass_dns: bool,
}

/// DNS, from `dns` and `dhcp-option`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns {
    /// Addresses of servers, the first preferred.
    pub servers: Vec<IpAddr>,
    /// Domains to complete names with.
    pub search: Vec<String>,
    /// Only names of these domains go to the servers; all when empty.
    pub resolve: Vec<String>,
}

/// Options in types.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// `ifconfig`
    pub ifconfig: Option<Ifconfig>,
    /// `ifconfig-ipv6`
    pub ifconfig_ipv6: Option<Prefix<Ipv6Addr>>,
    /// `topology`
    pub topology: Topology,
    /// `route-gateway`
    pub route_gateway: Option<Ipv4Addr>,
    /// `route-metric`
    pub route_metric: Option<u32>,
    /// `route`
    pub routes: Vec<Route<Ipv4Addr>>,
    /// `route-ipv6`
    pub routes_ipv6: Vec<Route<Ipv6Addr>>,
    /// `redirect-gateway`
    pub redirect: Option<Redirect>,
    /// `block-ipv4`, `block-ipv6`
    pub block_ipv4: bool,
    /// `block-ipv6`
    pub block_ipv6: bool,
    /// `dns`, `dhcp-option`
    pub dns: Dns,
    /// `peer-id`: what our packets carry.
    pub peer_id: Option<u32>,
    /// `tun-mtu`
    pub tun_mtu: Option<u32>,
    /// `ping`, in seconds.
    pub ping: Option<u32>,
    /// `ping-restart` or `ping-exit`, in seconds.
    pub ping_timeout: Option<u32>,
    /// `ping-exit`: a lost server is not connected to again.
    pub ping_exit: bool,
    /// `inactive`: seconds, and the bytes that count as activity.
    pub inactive: Option<(u32, u64)>,
    /// `explicit-exit-notify`
    pub exit_notify: bool,
    /// `session-timeout`, in seconds.
    pub session_timeout: Option<u32>,
    /// Sentences about options that were left out.
    pub ignored: Vec<String>,
    /// More sentences than are kept.
    pub more_ignored: usize,
}

/// Why a session cannot go on with pushed options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The option as the server pushed it.
    pub option: String,
    /// The reason.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server pushes \"{}\": {}", self.option, self.reason)
    }
}

impl std::error::Error for Refused {}

/// How an option was taken.
enum Taken {
    Yes,
    /// Left out, for this reason.
    Ignored(&'static str),
}

use Taken::{Ignored, Yes};

impl Options {
    /// Reads the options of a whole push reply: printable text with commas between them.
    ///
    /// # Errors
    /// An option is malformed, or the tunnel cannot work with it, or `filter` says that it ends the session.
    pub fn parse(text: &str, filter: &Filter) -> Result<Self, Refused> {
        let mut options = Self::default();
        for option in text.split(',').map(str::trim).filter(|o| !o.is_empty()) {
            match filter.judge(option) {
                Verdict::Accept => options.add(option)?,
                Verdict::Ignore => {}
                Verdict::Reject => {
                    return Err(Refused {
                        option: option.to_owned(),
                        reason: "pull_filter rejects it".into(),
                    });
                }
            }
        }
        options.check()?;
        Ok(options)
    }

    fn add(&mut self, option: &str) -> Result<(), Refused> {
        let refused = |reason: &str| Refused {
            option: option.to_owned(),
            reason: reason.to_owned(),
        };
        let words = words(option).map_err(refused)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let Some((name, args)) = words.split_first() else {
            return Ok(());
        };
        match self.take(name, args).map_err(|why| refused(&why))? {
            Yes => {}
            Ignored(why) => self.leave_out(option, why),
        }
        Ok(())
    }

    fn leave_out(&mut self, option: &str, why: &str) {
        match self.ignored.len() < MAX_IGNORED {
            true => self
                .ignored
                .push(format!("\"{option}\" of the server is left out: {why}")),
            false => self.more_ignored += 1,
        }
    }

    fn take(&mut self, name: &str, args: &[&str]) -> Result<Taken, String> {
        match (name, args) {
            ("ifconfig", [local, second]) => {
                self.ifconfig = Some(Ifconfig {
                    local: parse(local)?,
                    second: parse(second)?,
                });
            }
            ("ifconfig-ipv6", [prefix] | [prefix, _]) => {
                self.ifconfig_ipv6 = Some(prefix6(prefix)?)
            }
            ("topology", [topology]) => {
                self.topology = match *topology {
                    "net30" => Topology::Net30,
                    "p2p" => Topology::P2p,
                    "subnet" => Topology::Subnet,
                    _ => return Err("there is no such topology".into()),
                };
            }
            ("route-gateway", ["dhcp"]) => return Ok(Ignored("it is for TAP devices")),
            ("route-gateway", [gateway]) => self.route_gateway = Some(parse(gateway)?),
            ("route-metric", [metric]) => self.route_metric = Some(parse(metric)?),
            ("route", [network, rest @ ..]) if rest.len() <= 3 => return self.route(network, rest),
            ("route-ipv6", [network, rest @ ..]) if rest.len() <= 2 => {
                return self.route6(network, rest);
            }
            ("redirect-gateway", flags) => return self.redirect(flags, true),
            ("redirect-private", flags) => return self.redirect(flags, false),
            ("block-ipv4", []) => self.block_ipv4 = true,
            ("block-ipv6", []) => self.block_ipv6 = true,
            ("dhcp-option", args) => return self.dhcp_option(args),
            ("dns", args) => return self.dns(args),
            ("peer-id", [id]) => {
                let id: u32 = parse(id)?;
                if id >= 0xff_ffff {
                    return Err("a peer id has 24 bits".into());
                }
                self.peer_id = Some(id);
            }
            ("tun-mtu", [mtu] | [mtu, _]) => {
                let mtu = parse(mtu)?;
                if !(576..=65_535).contains(&mtu) {
                    return Err("an MTU is 576 to 65535 bytes".into());
                }
                self.tun_mtu = Some(mtu);
            }
            ("ping", [seconds]) => self.ping = Some(parse(seconds)?),
            ("ping-restart", [seconds]) => {
                (self.ping_timeout, self.ping_exit) = (Some(parse(seconds)?), false);
            }
            ("ping-exit", [seconds]) => {
                (self.ping_timeout, self.ping_exit) = (Some(parse(seconds)?), true);
            }
            ("keepalive", [ping, timeout]) => {
                (self.ping, self.ping_timeout) = (Some(parse(ping)?), Some(parse(timeout)?));
            }
            ("inactive", [seconds]) => self.inactive = Some((parse(seconds)?, 0)),
            ("inactive", [seconds, bytes]) => {
                self.inactive = Some((parse(seconds)?, parse(bytes)?));
            }
            ("session-timeout", [seconds]) => self.session_timeout = Some(parse(seconds)?),
            ("explicit-exit-notify", [] | [_]) => self.exit_notify = true,
            // The session below has taken these.
            ("cipher" | "auth-token" | "auth-token-user" | "push-continuation", _) => {}
            ("key-derivation", ["tls-ekm"]) => {}
            ("key-derivation", _) => return Err("that derivation of keys is not supported".into()),
            ("protocol-flags", flags) => {
                let known =
                    |flag: &&&str| !matches!(**flag, "cc-exit" | "tls-ekm" | "dyn-tls-crypt");
                if let Some(flag) = flags.iter().find(known) {
                    return Err(format!(
                        "the flag {flag} was not offered and is not supported"
                    ));
                }
            }
            _ => return self.unsupported(name, args),
        }
        Ok(Yes)
    }

    /// Options that are known and not done, and all others.
    fn unsupported(&self, name: &str, args: &[&str]) -> Result<Taken, String> {
        Ok(match name {
            // Each of these changes the form of data packets.
            "comp-lzo" | "compress" | "comp-noadapt" => {
                if matches!((name, args), ("compress", ["migrate"])) {
                    return Ok(Ignored("compression is not supported, and off"));
                }
                return Err(
                    "compression is not supported; remove comp-lzo and compress from the server"
                        .into(),
                );
            }
            "fragment" => {
                return Err(
                    "fragmentation is not supported; remove fragment from the server".into(),
                );
            }
            "dev-type" | "dev" if args.first().is_some_and(|dev| dev.starts_with("tap")) => {
                return Err("TAP devices are not supported".into());
            }
            "ifconfig"
            | "ifconfig-ipv6"
            | "route"
            | "route-ipv6"
            | "route-gateway"
            | "topology"
            | "peer-id"
            | "tun-mtu"
            | "ping"
            | "ping-restart"
            | "ping-exit"
            | "keepalive"
            | "inactive"
            | "route-metric"
            | "session-timeout"
            | "block-ipv4"
            | "block-ipv6"
            | "explicit-exit-notify" => {
                return Err("it has too few or too many arguments".into());
            }
            "up"
            | "down"
            | "route-up"
            | "route-pre-down"
            | "ipchange"
            | "plugin"
            | "script-security"
            | "tls-verify"
            | "auth-user-pass-verify"
            | "client-connect"
            | "client-disconnect"
            | "learn-address"
            | "tls-crypt-v2-verify"
            | "dns-updown" => Ignored("no server may run programs here"),
            "setenv" | "setenv-safe" => Ignored("there are no programs to set variables for"),
            "sndbuf" | "rcvbuf" | "socket-flags" => Ignored("the socket's buffers are set here"),
            "persist-tun" | "persist-key" | "persist-local-ip" | "persist-remote-ip" => {
                Ignored("the interface stays in any case")
            }
            "register-dns" | "block-outside-dns" | "ip-win32" | "dhcp-renew" | "dhcp-release"
            | "tap-sleep" => Ignored("it is for Windows"),
            "mssfix"
            | "link-mtu"
            | "auth"
            | "auth-nocache"
            | "echo"
            | "verb"
            | "mute"
            | "float"
            | "route-delay"
            | "max-routes"
            | "route-method"
            | "reneg-sec"
            | "reneg-bytes"
            | "reneg-pkts"
            | "parameter"
            | "nobind"
            | "allow-recursive-routing"
            | "client-nat"
            | "dev-type"
            | "dev"
            | "tun-ipv6" => Ignored("it is set on this side or not needed"),
            _ => Ignored("this option is not supported"),
        })
    }

    fn route(&mut self, network: &str, rest: &[&str]) -> Result<Taken, String> {
        // Names are for the server's own hosts; resolving them is left to people's tools.
        let address = match network {
            "vpn_gateway" | "net_gateway" | "remote_host" => {
                return Ok(Ignored("a route to a gateway is made by itself"));
            }
            _ => parse(network)?,
        };
        let len = match rest.first() {
            None | Some(&"default") => 32,
            Some(mask) => mask_len(parse(mask)?)?,
        };
        let gateway = match rest.get(1) {
            None | Some(&"default" | &"vpn_gateway") => Gateway::Vpn,
            Some(&"net_gateway") => Gateway::Net,
            Some(address) => Gateway::Address(parse(address)?),
        };
        let metric = match rest.get(2) {
            None | Some(&"default") => None,
            Some(metric) => Some(parse(metric)?),
        };
        if self.routes.len() >= MAX_ROUTES {
            return Err(format!("more than {MAX_ROUTES} routes"));
        }
        let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
        let address = Ipv4Addr::from_bits(Ipv4Addr::to_bits(address) & mask);
        self.routes.push(Route {
            network: Prefix { address, len },
            gateway,
            metric,
        });
        Ok(Yes)
    }

    fn route6(&mut self, network: &str, rest: &[&str]) -> Result<Taken, String> {
        let network = prefix6(network)?;
        let gateway = match rest.first() {
            None | Some(&"default" | &"vpn_gateway") => Gateway::Vpn,
            Some(&"net_gateway") => Gateway::Net,
            Some(address) => Gateway::Address(parse(address)?),
        };
        let metric = match rest.get(1) {
            None | Some(&"default") => None,
            Some(metric) => Some(parse(metric)?),
        };
        if self.routes_ipv6.len() >= MAX_ROUTES {
            return Err(format!("more than {MAX_ROUTES} routes"));
        }
        let mask = u128::MAX
            .checked_shl(128 - u32::from(network.len))
            .unwrap_or(0);
        let address = Ipv6Addr::from_bits(network.address.to_bits() & mask);
        self.routes_ipv6.push(Route {
            network: Prefix {
                address,
                len: network.len,
            },
            gateway,
            metric,
        });
        Ok(Yes)
    }

    fn redirect(&mut self, flags: &[&str], gateway: bool) -> Result<Taken, String> {
        let mut redirect = self.redirect.unwrap_or_default();
        redirect.ipv4 |= gateway;
        for flag in flags {
            match *flag {
                "def1" => redirect.def1 = true,
                "local" => redirect.local = true,
                "autolocal" => redirect.auto_local = true,
                "block-local" => redirect.block_local = true,
                "bypass-dhcp" => redirect.bypass_dhcp = true,
                "bypass-dns" => redirect.bypass_dns = true,
                "ipv6" => redirect.ipv6 |= gateway,
                "!ipv4" => redirect.ipv4 = false,
                _ => return Err(format!("the flag {flag} is not known")),
            }
        }
        self.redirect = Some(redirect);
        Ok(Yes)
    }

    fn dhcp_option(&mut self, args: &[&str]) -> Result<Taken, String> {
        match args {
            ["DNS" | "DNS6", address] => self.dns_server(parse(address)?),
            ["DOMAIN" | "ADAPTER_DOMAIN_SUFFIX" | "DOMAIN-SEARCH", domain] => {
                add_domain(&mut self.dns.search, domain)
            }
            ["DOMAIN-ROUTE", domain] => add_domain(&mut self.dns.resolve, domain),
            _ => Ok(Ignored("only DNS, DNS6, DOMAIN and DOMAIN-SEARCH are done")),
        }
    }

    fn dns(&mut self, args: &[&str]) -> Result<Taken, String> {
        match args {
            ["search-domains", domains @ ..] => {
                for domain in domains {
                    add_domain(&mut self.dns.search, domain)?;
                }
                Ok(Yes)
            }
            ["server", priority, "address", addresses @ ..] => {
                parse::<i8>(priority)?;
                for address in addresses {
                    let (host, port) = host_port(address)?;
                    if port != 53 {
                        return Ok(Ignored("DNS servers are asked on port 53 only"));
                    }
                    self.dns_server(host)?;
                }
                Ok(Yes)
            }
            ["server", _, "resolve-domains", domains @ ..] => {
                for domain in domains {
                    add_domain(&mut self.dns.resolve, domain)?;
                }
                Ok(Yes)
            }
            ["server", _, "dnssec", _] => Ok(Ignored("DNSSEC is set in dnsmasq")),
            ["server", _, "transport", "plain"] => Ok(Yes),
            // A query in the clear that the server wants encrypted is worse than none.
            ["server", _, "transport", _] => Err("DNS over TLS or HTTPS is not supported".into()),
            ["server", _, "sni", _] => Ok(Ignored("DNS over TLS is not supported")),
            _ => Err("it is malformed".into()),
        }
    }

    fn dns_server(&mut self, address: IpAddr) -> Result<Taken, String> {
        if self.dns.servers.len() >= MAX_DNS {
            return Err(format!("more than {MAX_DNS} DNS servers"));
        }
        if !self.dns.servers.contains(&address) {
            self.dns.servers.push(address);
        }
        Ok(Yes)
    }

    /// Checks that need more than one option.
    fn check(&mut self) -> Result<(), Refused> {
        let Some(Ifconfig { local, second }) = self.ifconfig else {
            return Ok(());
        };
        let refused = |reason: &str| {
            Err(Refused {
                option: format!("ifconfig {local} {second}"),
                reason: reason.to_owned(),
            })
        };
        if local.is_unspecified() || local.is_multicast() || local.is_broadcast() {
            return refused("that is no address of a host");
        }
        match self.topology {
            Topology::Subnet if mask_len(second).is_err() => {
                refused("the second argument is no netmask, as topology subnet wants it")
            }
            _ => Ok(()),
        }
    }

    /// The tunnel's IPv4 address and the length of its network, and the peer's address in a topology with one.
    pub fn ipv4(&self) -> Option<(Prefix<Ipv4Addr>, Option<Ipv4Addr>)> {
        let Ifconfig { local, second } = self.ifconfig?;
        match self.topology {
            Topology::Subnet => {
                let len = mask_len(second).ok()?;
                Some((
                    Prefix {
                        address: local,
                        len,
                    },
                    None,
                ))
            }
            Topology::Net30 | Topology::P2p => {
                let address = Prefix {
                    address: local,
                    len: 32,
                };
                Some((address, Some(second)))
            }
        }
    }
}

fn add_domain(list: &mut Vec<String>, domain: &str) -> Result<Taken, String> {
    // The name goes into resolver files: a name, and nothing else (CVE-2025-10680).
    let label = |label: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty() && label.len() <= 63 && label.chars().all(allowed)
    };
    let name = domain.strip_suffix('.').unwrap_or(domain);
    if name.len() > 253 || !name.split('.').all(label) {
        return Err("that is no domain name".into());
    }
    if list.len() >= MAX_DNS {
        return Err(format!("more than {MAX_DNS} domains"));
    }
    if !list.iter().any(|known| known == name) {
        list.push(name.to_owned());
    }
    Ok(Yes)
}

fn parse<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse()
        .map_err(|_| format!("{word:?} is not valid there"))
}

/// The bits of a netmask.
fn mask_len(mask: Ipv4Addr) -> Result<u8, String> {
    let bits = mask.to_bits();
    let ones = bits.leading_ones();
    match bits.checked_shl(ones).unwrap_or(0) {
        0 => u8::try_from(ones).map_err(|_| String::new()),
        _ => Err(format!("{mask} is no netmask")),
    }
}

fn prefix6(text: &str) -> Result<Prefix<Ipv6Addr>, String> {
    let (address, len) = text.split_once('/').unwrap_or((text, "128"));
    let len = parse(len)?;
    match len {
        0..=128 => Ok(Prefix {
            address: parse(address)?,
            len,
        }),
        _ => Err("an IPv6 network has at most 128 bits".into()),
    }
}

/// `address`, `address:port`, `[address6]:port`
fn host_port(text: &str) -> Result<(IpAddr, u16), String> {
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return Ok((address.ip(), address.port()));
    }
    let address = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    Ok((parse(address.unwrap_or(text))?, 53))
}
