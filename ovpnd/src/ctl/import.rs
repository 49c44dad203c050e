// SPDX-License-Identifier: GPL-2.0-or-later
//! `import`: an .ovpn file as an interface of ovpnd.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::args::{Args, unknown};
use super::{Done, Failure, print};
use crate::api;

/// Where configurations and keys are.
pub(super) struct Dirs {
    pub(super) config: PathBuf,
    pub(super) keys: PathBuf,
}

impl Dirs {
    /// Takes the two options away wherever they stand.
    pub(super) fn take(args: &mut Args) -> Result<Self, Failure> {
        let mut path = |option, default: &str| -> Result<PathBuf, Failure> {
            Ok(args
                .option(option)?
                .unwrap_or_else(|| default.into())
                .into())
        };
        Ok(Self {
            config: path("config-dir", "/etc/config")?,
            keys: path("key-dir", "/etc/ovpn")?,
        })
    }
}

/// `ovpnctl import FILE ...`
pub(super) fn import(mut args: Args) -> Done {
    let dirs = Dirs::take(&mut args)?;
    let file: PathBuf = args.next("a file")?.into();
    let (mut name, mut login) = (None, None::<PathBuf>);
    while let Some(option) = args.maybe() {
        match option.as_str() {
            "name" => name = Some(args.next("the value of name")?),
            "login" => login = Some(args.value("login")?),
            _ => return Err(unknown(&option)),
        }
    }
    let name = name.unwrap_or_else(|| plain(&file));
    let text = |path: &Path| {
        let bytes = fs::read(path);
        let bytes =
            bytes.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?;
        Ok::<_, Failure>(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
    };
    let mut call = Map::new();
    let mut put = |key: &str, value: &str| call.insert(key.to_owned(), Value::from(value));
    put("name", &name);
    put("text", &text(&file)?);
    put("make", "client");
    if let Some(login) = login {
        let login = text(&login)?;
        let mut lines = login.lines();
        put("user", lines.next().unwrap_or_default());
        put("password", lines.next().unwrap_or_default());
    }
    let taken = api::take_profile(&dirs.keys, &dirs.config, api::Args(&call));
    taken.map_err(|refusal| {
        let problems = refusal
            .problems
            .iter()
            .map(|problem| match &problem.option {
                Some(option) => format!("{option}: {}", problem.message),
                None => problem.message.clone(),
            });
        Failure::Failed(problems.collect::<Vec<_>>().join("\n"))
    })?;
    print(&format!(
        "{name}: written to {}; it starts with /etc/init.d/network reload\n",
        dirs.config.join("network").display()
    ))
}

/// The name of an interface, after a file's.
fn plain(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    stem.chars()
        .map(word)
        .take(ovpn_netlink::MAX_NAME)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_called_after_the_file() {
        for (file, name) in [
            ("/tmp/office.ovpn", "office"),
            ("my vpn-1.ovpn", "my_vpn_1"),
            ("a-name-that-is-too-long.ovpn", "a_name_that_is_"),
        ] {
            assert_eq!(plain(Path::new(file)), name);
        }
    }
}
