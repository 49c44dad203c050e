// SPDX-License-Identifier: GPL-2.0-or-later
//! Options of OpenVPN that ovpnd does not take, with their remedies, and those it has no need of.

/// Options that stock OpenVPN takes and this program does not, and an alternative.
pub(super) const REFUSED: &[(&str, &str)] = &[
    (
        "allow_compression",
        "compression is not supported: remove it on both sides",
    ),
    (
        "comp_lzo",
        "compression is not supported: remove it on both sides",
    ),
    (
        "compress",
        "compression is not supported: remove it on both sides",
    ),
    (
        "fragment",
        "fragmentation is not supported: lower tun_mtu on both sides instead",
    ),
    (
        "secret",
        "static keys are not for use: set ca, cert and key, or peer_fingerprint",
    ),
    (
        "config",
        "a profile is not read at run time: ubus call ovpnd profile_import with make client writes its options here",
    ),
    (
        "http_proxy",
        "proxies are not supported: connect without one",
    ),
    (
        "socks_proxy",
        "proxies are not supported: connect without one",
    ),
    ("pkcs11_id", "PKCS#11 is not supported: set cert and key"),
    (
        "pkcs11_providers",
        "PKCS#11 is not supported: set cert and key",
    ),
    (
        "pkcs12",
        "PKCS#12 is not supported: openssl pkcs12 -in FILE -nodes -out NEW.pem converts it; set ca, cert and key",
    ),
    (
        "capath",
        "directories of CAs are not supported: join their files into one for ca",
    ),
    (
        "management",
        "there is no management interface: ubus call ovpnd tells the same",
    ),
    ("plugin", "plugins are not supported"),
    (
        "up",
        "scripts are not supported: netifd's hotplug runs them (/etc/hotplug.d/iface)",
    ),
    (
        "down",
        "scripts are not supported: netifd's hotplug runs them (/etc/hotplug.d/iface)",
    ),
    (
        "route_up",
        "scripts are not supported: netifd's hotplug runs them (/etc/hotplug.d/iface)",
    ),
    (
        "tls_verify",
        "scripts are not supported: use verify_x509_name",
    ),
    (
        "ipchange",
        "scripts are not supported: subscribe to ovpnd on ubus",
    ),
    (
        "shaper",
        "is not supported: use OpenWrt's sqm on the interface",
    ),
    ("engine", "OpenSSL is not used"),
    ("providers", "OpenSSL is not used"),
    (
        "tls_cipher",
        "cipher suites of TLS are the library's: AES-GCM and ChaCha20-Poly1305",
    ),
    ("ns_cert_type", "is obsolete: use remote_cert_tls"),
    ("remote_cert_eku", "use remote_cert_tls"),
    ("remote_cert_ku", "use remote_cert_tls"),
    ("verify_hash", "use peer_fingerprint"),
    ("x509_username_field", "the common name is used"),
    (
        "server_bridge",
        "TAP devices are not supported: use server with topology subnet",
    ),
];

/// Options of servers, which a client cannot have.
pub(super) const CLIENT_REFUSED: &[(&str, &str)] = &[
    ("server", "contradicts client: remove one of them"),
    ("server_ipv6", "contradicts client: remove one of them"),
    ("tls_server", "contradicts client: remove one of them"),
];

/// Options of clients, and those of servers that are not supported, which a server cannot have.
pub(super) const SERVER_REFUSED: &[(&str, &str)] = &[
    ("remote", "is a client's: a server waits for clients"),
    ("auth_user_pass", "is a client's"),
    (
        "auth_user_pass_verify",
        "programs are not run: name the users and their passwords' hashes in user_file",
    ),
    (
        "auth_gen_token_secret",
        "is made anew at each start: clients take their passwords then",
    ),
    (
        "client_connect",
        "scripts are not supported: subscribe to ovpnd on ubus",
    ),
    (
        "client_disconnect",
        "scripts are not supported: subscribe to ovpnd on ubus",
    ),
    (
        "client_config_dir",
        "is not read: write a section for each client (config openvpn_dco_INTERFACE)",
    ),
    (
        "learn_address",
        "scripts are not supported: subscribe to ovpnd on ubus",
    ),
    (
        "ifconfig",
        "the first address of server and server_ipv6 is ours",
    ),
    ("ifconfig_pool", "the pool is the rest of server's network"),
    (
        "ifconfig_pool_persist",
        "addresses are kept in memory: fix them by ifconfig_push in a client's section",
    ),
    ("port_share", "is not supported"),
];

/// Options that change nothing on a server.
pub(super) const SERVER_NEEDLESS: &[&str] = &[
    "client_to_client",
    "ifconfig_pool_linear",
    "opt_verify",
    "push_peer_info",
    "route",
    "route_ipv6",
    "route_gateway",
    "tls_server",
    "connect_freq",
    "connect_freq_initial",
];

/// Options that change nothing here, or that this program does in any case.
pub(super) const NEEDLESS: &[&str] = &[
    "auth_nocache",
    "auth_retry",
    "cipher",
    "dev",
    "dh",
    "explicit_exit_notify",
    "float",
    "key_method",
    "mlock",
    "ncp_ciphers",
    "nobind",
    "passtos",
    "persist_key",
    "persist_tun",
    "pull",
    "rcvbuf",
    "resolv_retry",
    "sndbuf",
    "status",
    "verb",
    "mute",
    "mute_replay_warnings",
    "user",
    "group",
    "fast_io",
    "script_security",
    "tls_client",
    "connect_retry",
    "connect_timeout",
    "data_ciphers_fallback",
    "disable_dco",
];
