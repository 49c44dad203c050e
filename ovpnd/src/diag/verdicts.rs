// SPDX-License-Identifier: GPL-2.0-or-later
//! The verdicts of OpenVPN 2.7.8 on directives with right and wrong words, and those of lint.

use super::lint;

/// The configurations that a line of the table is added to, by its first letter.
fn base(letter: &str) -> &'static str {
    match letter {
        "c" => {
            "client\ndev tun\nremote 127.0.0.1 1194\nnobind\nauth-user-pass auth.txt\nca ca.pem\n"
        }
        "C" => "client\ndev tun\nremote 127.0.0.1 1194\nauth-user-pass auth.txt\nca ca.pem\n",
        "s" => {
            "server 10.8.0.0 255.255.255.0\ndev tun\ntopology subnet\nca ca.pem\ncert cert.pem\nkey key.pem\ndh none\n"
        }
        _ => "",
    }
}

#[test]
fn verdicts_are_those_of_openvpn() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for row in include_str!("verdicts.txt")
        .lines()
        .filter(|row| !row.starts_with('#'))
    {
        let mut parts = row.splitn(3, ' ');
        let (letter, theirs) = (parts.next().unwrap(), parts.next().unwrap());
        let text = parts
            .next()
            .unwrap_or_default()
            .replace("\\n", "\n")
            .replace("\\t", "\t")
            .replace("\\r", "\r");
        let said = lint(&format!("{}{text}\n", base(letter)));
        let ours = match said["verdict"].as_str() {
            Some("kernel") => "K",
            Some("userspace") => "U",
            _ => "R",
        };
        count += 1;
        if ours != theirs {
            wrong.push(format!("{row}: lint {ours} {}", said["findings"]));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
