// SPDX-License-Identifier: GPL-2.0-or-later
//! A complete .ovpn profile for a client of a server on this router. OpenVPN has tls-crypt-v2 since 2.5.

use std::fs;
use std::path::Path;

use openvpn_control::generate::is_host;
use openvpn_control::wrap::text;
use zeroize::Zeroizing;

use super::{Authority, Fault, certificate, random};
use crate::config::PROTO;
use crate::uci::{self, Section, Value};

/// OpenVPN's registered port.
const PORT: &str = "1194";
/// All that the kernel's data path has for clients, fastest of most routers first.
const CIPHERS: &str = "AES-256-GCM:AES-128-GCM:CHACHA20-POLY1305";

/// The profile that is wanted.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The interface of the server.
    pub interface: String,
    /// The client's name.
    pub client: String,
    /// The host name or address at which clients find this router.
    pub remote: String,
    /// For how many years.
    pub years: u16,
    /// Revoke the certificate that the client has.
    pub renew: bool,
}

/// A profile. Its text has the client's key.
pub struct Exported {
    /// A name for its file.
    pub file: String,
    /// Its text.
    pub text: Zeroizing<String>,
}

impl std::fmt::Debug for Exported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exported({})", self.file)
    }
}

/// Makes a certificate for a client, and its profile, by the server's section in `network`.
///
/// # Errors
/// There is no such server, its certificates are not of an authority in `keys`, or the certificate cannot be made.
pub fn export(keys: &Path, network: &uci::File, wish: &Wish, now: u64) -> Result<Exported, Fault> {
    let authority = Authority::of(keys, &wish.interface)?;
    let section = server(network, &wish.interface)?;
    if wish.remote.parse::<std::net::IpAddr>().is_err() && !is_host(&wish.remote) {
        let why = "must be the host name or address at which clients find this router";
        return Err(Fault::new("remote", why));
    }
    let [(_, ca), ..] = authority.options();
    if word(section, "ca").is_none_or(|path| Path::new(path) != ca) {
        let why = format!(
            "has no certificates of an authority on this router: its option ca must be {}",
            ca.display()
        );
        return Err(Fault::new("interface", why));
    }
    let mut text = Zeroizing::new(String::with_capacity(8192));
    head(&mut text, section, &wish.remote)?;
    // Nothing is issued before all else is known to be right.
    let wrap = wrap(section, now)?;
    let made = authority.issue(&wish.client, wish.years, wish.renew, now)?;
    let ca = authority.read(super::CA)?;
    for (tag, content) in [
        ("ca", ca.as_str()),
        ("cert", &made.cert),
        ("key", &made.key),
    ] {
        block(&mut text, tag, content);
    }
    if let Some((tag, content)) = wrap {
        block(&mut text, tag, &content);
    }
    Ok(Exported {
        file: format!("{}-{}.ovpn", wish.interface, wish.client),
        text,
    })
}

/// The section of a server.
fn server<'a>(network: &'a uci::File, name: &str) -> Result<&'a Section, Fault> {
    let sections = network.sections.iter();
    let mut sections = sections.filter(|section| section.name.as_deref() == Some(name));
    let serves = |section: &&Section| {
        word(section, "proto") == Some(PROTO)
            && ["server", "server_ipv6", "tls_server"]
                .iter()
                .any(|option| section.option(option).is_some())
    };
    sections
        .find(serves)
        .ok_or_else(|| Fault::new("interface", format!("'{name}' is no server")))
}

/// The first words of an option's values.
fn words<'a>(section: &'a Section, option: &str) -> Vec<&'a str> {
    let values = match section.option(option).map(|option| &option.value) {
        None => &[],
        Some(Value::One(value)) => std::slice::from_ref(value),
        Some(Value::List(list)) => list.as_slice(),
    };
    let words = values.iter().map(|value| value.split_whitespace().next());
    words.flatten().collect()
}

/// The first word of an option.
fn word<'a>(section: &'a Section, option: &str) -> Option<&'a str> {
    words(section, option).into_iter().next()
}

/// The directives before the blocks.
fn head(text: &mut String, section: &Section, remote: &str) -> Result<(), Fault> {
    let local = word(section, "local").is_some();
    let mut protos = words(section, "ovpnproto");
    if protos.is_empty() {
        protos.push("udp");
    }
    // UDP first, in whatever order the server has them.
    protos.sort_by_key(|proto| proto.starts_with("tcp"));
    let port = word(section, "port")
        .or(word(section, "lport"))
        .unwrap_or(PORT);
    let ciphers = word(section, "data_ciphers").unwrap_or(CIPHERS);
    let path = word(section, "cert").unwrap_or_default();
    let cert = fs::read_to_string(path).map_err(|error| error.to_string());
    let name = cert
        .and_then(|cert| certificate(&cert))
        .map_err(|why| Fault::new("interface", format!("{path}: {why}")))?
        .common_name
        .filter(|name| !name.contains('"'));
    text.push_str("client\ndev tun\n");
    for proto in protos {
        // A server on a socket of IPv6 has both families, unless it is bound to an address.
        let family = match proto.contains('6') && local {
            true => "6",
            false => "",
        };
        let proto = match proto.starts_with("tcp") {
            true => "tcp",
            false => "udp",
        };
        text.push_str(&format!("remote {remote} {port} {proto}{family}\n"));
    }
    text.push_str("resolv-retry infinite\nnobind\nremote-cert-tls server\n");
    if let Some(name) = name {
        text.push_str(&format!("verify-x509-name \"{name}\" name\n"));
    }
    text.push_str(&format!("data-ciphers {ciphers}\n"));
    if let Some(version) = word(section, "tls_version_min") {
        text.push_str(&format!("tls-version-min {version}\n"));
    }
    if word(section, "tls_auth").is_some() {
        if let Some(digest) = word(section, "auth") {
            text.push_str(&format!("auth {digest}\n"));
        }
        match word(section, "key_direction") {
            Some("0") => text.push_str("key-direction 1\n"),
            Some("1") => text.push_str("key-direction 0\n"),
            _ => {}
        }
    }
    // The server asks for a user and a password besides the certificate.
    if word(section, "user_file").is_some() {
        text.push_str("auth-user-pass\n");
    }
    text.push_str("verb 3\n");
    Ok(())
}

/// The client's key for control packets.
fn wrap(section: &Section, now: u64) -> Result<Option<(&'static str, Zeroizing<String>)>, Fault> {
    let Some((option, tag)) = [
        ("tls_crypt_v2", "tls-crypt-v2"),
        ("tls_crypt", "tls-crypt"),
        ("tls_auth", "tls-auth"),
    ]
    .into_iter()
    .find(|(option, _)| section.option(option).is_some()) else {
        return Ok(None);
    };
    let path = word(section, option).unwrap_or_default();
    let fault = |why: String| Fault::new("interface", format!("{path}: {why}"));
    let content = fs::read_to_string(path).map(Zeroizing::new);
    let content = content.map_err(|error| fault(error.to_string()))?;
    let content = match tag {
        "tls-crypt-v2" => text::server_key(content.as_bytes())
            .and_then(|key| text::new_client_key(&key, now, &mut random))
            .map_err(fault)?,
        _ => content,
    };
    Ok(Some((tag, content)))
}

fn block(text: &mut String, tag: &str, content: &str) {
    for part in ["<", tag, ">\n", content.trim_end(), "\n</", tag, ">\n"] {
        text.push_str(part);
    }
}
