// SPDX-License-Identifier: GPL-2.0-only
//! OpenWrt packages of what is built here: made by the feed's own recipes, with a signed index, and installed into the
//! emulated routers, which run nothing else of this project.

mod apk;
#[cfg(test)]
mod hook;
mod install;
mod key;
mod recipe;
mod tree;

use crate::cmd::Cmd;
use crate::ctx::Ctx;
use crate::fetch;
use crate::musl;
use crate::stamp::{self, Key};
use crate::tally::Tally;
use crate::ui;
use adb::container::{Container, Schema};
use adb::index::Index;
use adb::sign::{Private, Public};
use anyhow::{Context, Result, ensure};
use apk::Maker;
use install::{Feed, INDEX, Named, Router};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Change it when the rules here do, so that older packages are made anew.
const RULES: &str = "packages 3";

/// The most that the package of daemon and tool may take, bytes: routers have 8 MiB of flash for everything.
const DAEMON_LIMIT: usize = 1220 << 10;

/// The same of the daemon without TLS.
const MINI_LIMIT: usize = 640 << 10;

/// Variants of the daemon's recipe, and where a lane's programs are that they install.
const VARIANTS: [(&str, &str); 2] = [("tls", "bin"), ("mini", musl::MINI)];

/// Names a key of P-256 in PEM that signs the indexes, instead of one made here.
const KEY_VARIABLE: &str = "OVPN_SIGN_KEY";

/// The script that each of them leaves for the first boot of another kernel.
const HOOK: &str = "usr/share/ovpnd/module.sh";

/// Packages of the routers, the one that draws in the other first.
const INSTALLED: [&str; 2] = ["ovpnd", "kmod-ovpn"];

/// Kernel packages and the module each is about.
const KERNEL_PACKAGES: [(&str, &str); 6] = [
    ("kmod-udptunnel4", "udp_tunnel"),
    ("kmod-udptunnel6", "ip6_udp_tunnel"),
    ("kmod-crypto-chacha20poly1305", "chacha20poly1305"),
    ("kmod-crypto-lib-chacha20", "libchacha"),
    ("kmod-crypto-lib-poly1305", "libpoly1305"),
    ("kmod-crypto-gcm", "gcm"),
];

/// The file of the public key beside an index.
const PUBLIC_KEY: &str = "public-key.pem";

/// Packages of the emulated routers beside their kernel, with the version apk would know.
const USERLAND: [(&str, &str); 4] = [
    ("libc", "1"),
    // Another implementation of it, under the same name.
    ("ubus", "1"),
    // Only netifd's protocol handler asks for it, and there is no netifd.
    ("jshn", "1"),
    // For the kill switch, which no emulated router has.
    ("nftables", "1"),
];

/// Reads every recipe as far as it goes without OpenWrt, once as scripts/feeds does and once for what a build uses.
pub fn recipes(ctx: &Ctx) -> Result<Tally> {
    let mut tally = Tally::default();
    for name in recipe::ALL {
        let faults = match recipe::read(ctx, name, "dump", &[]) {
            Ok(packages) => {
                let mut faults = recipe::faults(name, &packages, env!("CARGO_PKG_VERSION"));
                match recipe::metadata(ctx, name) {
                    Ok(all) => faults.extend(recipe::metadata_faults(&all)),
                    Err(err) => faults.push(format!("as scripts/feeds reads it: {err:#}")),
                }
                faults.extend(recipe::beside(ctx, name)?);
                for package in &packages {
                    faults.extend(recipe::lost_members(ctx, package)?);
                }
                faults
            }
            Err(err) => vec![format!("{err:#}")],
        };
        tally += match faults.is_empty() {
            true => Tally::pass(),
            false => Tally::fail(faults.join("; ")),
        };
    }
    Ok(tally)
}

/// Where a lane's packages are: a module is for one kernel, so that the processor's name would not do.
fn feed(ctx: &Ctx, lane: &str) -> PathBuf {
    ctx.cache.join("packages").join(lane)
}

/// Packs what a lane has built, twice, and installs it. Cases: the packages come out the same and are small, each installed
/// one is whole, one whose dependency the router lacks is refused, and the module's recipe finds what it needs in an SDK.
pub fn test(ctx: &Ctx, lane: &str) -> Result<Tally> {
    let root = installed(ctx, lane)?;
    let again = ctx.lane(lane).join("packed-again");
    make(ctx, lane, &again)?;
    let feed = feed(ctx, lane);
    let (first, second) = (listing(&feed)?, listing(&again)?);
    let mut tally = match first == second {
        true => Tally::pass(),
        false => Tally::fail(format!("{lane}: packing twice gives different bytes")),
    };
    fs::remove_dir_all(again)?;
    for (name, limit) in [("ovpnd", DAEMON_LIMIT), ("ovpnd-mini", MINI_LIMIT)] {
        let start = format!("{name}-{}", env!("CARGO_PKG_VERSION"));
        let mut found = first.iter().filter(|(file, _)| file.starts_with(&start));
        tally += match found.next() {
            Some((_, apk)) if apk.len() <= limit => Tally::pass(),
            other => Tally::fail(format!(
                "{lane}: {name} has {:?} bytes, {limit} are the limit",
                other.map(|(_, apk)| apk.len())
            )),
        };
        tally += remedy(lane, name, &first)?;
    }
    for name in INSTALLED {
        let list = root.join(apk::LISTS).join(format!("{name}.list"));
        let files = fs::read_to_string(list)?;
        let lost: Vec<_> = files
            .lines()
            .filter(|f| fs::symlink_metadata(root.join(f.trim_start_matches('/'))).is_err())
            .collect();
        tally += match lost.is_empty() && files.lines().count() > 1 {
            true => Tally::pass(),
            false => Tally::fail(format!("{lane}: {name} lacks {lost:?}")),
        };
    }
    tally += match sdk(ctx, lane) {
        Ok(()) => Tally::pass(),
        Err(err) => Tally::fail(format!("{lane}: the module's recipe in an SDK: {err:#}")),
    };
    // There is no web server.
    let refused = router(ctx, lane, &root)?.install(&open(&feed)?, &["luci-app-ovpn"]);
    tally += match refused {
        Err(err) if format!("{err:#}").contains("needs luci-base") => Tally::pass(),
        other => Tally::fail(format!(
            "{lane}: luci-app-ovpn without luci-base: {other:?}"
        )),
    };
    Ok(tally)
}

/// Whether the script that a variant of the daemon leaves for another kernel tells to install that variant.
fn remedy(lane: &str, name: &str, packages: &BTreeMap<String, Vec<u8>>) -> Result<Tally> {
    for bytes in packages.values() {
        let Ok(container) = Container::read(bytes, Schema::Package) else {
            continue;
        };
        let package = adb::package::Package::read(&container)?;
        if package.info.name != name {
            continue;
        }
        if let Some(adb::package::Kind::File(_, text)) = package.files.get(HOOK)
            && String::from_utf8_lossy(text).contains(&format!(" apk add kmod-ovpn {name}\""))
        {
            return Ok(Tally::pass());
        }
    }
    Ok(Tally::fail(format!(
        "{lane}: {HOOK} of {name} tells to install another package"
    )))
}

/// Has the module's recipe prepare its sources and begin to compile them, with a kernel that has no rust/ folder and a
/// tarball that has. Nothing is compiled: the module's Makefile looks at everything it is given before that.
fn sdk(ctx: &Ctx, lane: &str) -> Result<()> {
    let dir = ctx.lane(lane);
    let entry = ctx.lock.lane(lane)?;
    let work = dir.join("sdk");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let downloads = work.join("dl");
    fs::create_dir_all(&downloads)?;
    let release = Kernel::of(ctx, lane)?.version().to_owned();
    let source = fetch::unpack(ctx, &entry.source)?;
    Cmd::new(ctx, "tar")
        .args(["--create", "--xz", "--file"])
        .arg(downloads.join(format!("linux-{release}.tar.xz")))
        .arg(format!("--transform=s,^,linux-{release}/,"))
        .arg("--directory")
        .arg(source)
        .args(["Makefile", "rust", "scripts/generate_rust_target.rs"])
        .env("XZ_OPT", "-0")
        .output()?;
    let settings = [
        ("DL_DIR", downloads.into_os_string()),
        ("ARCH", entry.arch.clone().into()),
        ("CROSS_COMPILE", entry.cross_compile.clone().into()),
        ("LINUX_VERSION", release.into()),
        ("LINUX_DIR", dir.join("kernel").into_os_string()),
        ("PKG_BUILD_DIR", work.join("build_dir").into_os_string()),
        // Its goal that only links the sources to where they would be compiled.
        ("PKG_JOBS", "mirror".into()),
        ("OVPN_BINDGEN", fetch::tool(ctx, "bindgen-cli")?.into()),
        ("RUST_LIB_SRC", fetch::rust_library(ctx)?.into()),
    ];
    for goal in ["prepare", "compile"] {
        recipe::run(ctx, "kmod-ovpn", goal, &settings)?;
    }
    let main = work.join("build_dir/build/src/ovpn_main.rs");
    ensure!(main.is_file(), "there are no sources in {}", work.display());
    fs::remove_dir_all(work)?;
    Ok(())
}

/// Prints the sizes of packages and of what is in them.
pub fn sizes(ctx: &Ctx, lanes: &[&str]) -> Result<()> {
    let mut text = format!("{:<52} {:>9} {:>9}\n", "package, KiB", "packed", "unpacked");
    for lane in lanes {
        for path in apk::files_of(&feed(ctx, lane))? {
            let package = adb::package::Package::read(&apk::open(&path)?)?;
            let kib = |bytes: u64| bytes.div_ceil(1024);
            let name = package.info.file_name();
            let (packed, unpacked) = (fs::metadata(&path)?.len(), package.info.installed_size);
            text += &format!("{name:<52} {:>9} {:>9}\n", kib(packed), kib(unpacked));
        }
        text += &format!("in {}\n", feed(ctx, lane).display());
    }
    ui::say_as("", &text);
    Ok(())
}

/// A root, with a lane's packages installed and nothing else in it but links that lead to /usr; made anew when anything
/// in the packages changed.
pub fn installed(ctx: &Ctx, lane: &str) -> Result<PathBuf> {
    let root = ctx.lane(lane).join("installed");
    let key = inputs(ctx, lane)?;
    stamp::once(
        &stamp::path(&ctx.lane(lane), "installed"),
        &root,
        key,
        || {
            let feed = feed(ctx, lane);
            make(ctx, lane, &feed)?;
            if root.exists() {
                fs::remove_dir_all(&root)?;
            }
            for dir in ["usr/lib", "usr/bin", "usr/sbin", "etc"] {
                fs::create_dir_all(root.join(dir))?;
            }
            for (link, target) in [("lib", "usr/lib"), ("bin", "usr/bin"), ("sbin", "usr/sbin")] {
                symlink(target, root.join(link))?;
            }
            let done = router(ctx, lane, &root)?.install(&open(&feed)?, &INSTALLED)?;
            ui::say(format!("installed {}", done.join(", ")));
            Ok(())
        },
    )?;
    Ok(root)
}

/// A feed by the key that lies beside it.
fn open(feed: &Path) -> Result<Feed> {
    let pem = fs::read_to_string(feed.join(PUBLIC_KEY))?;
    Feed::open(feed, &Public::from_pem(&pem)?)
}

fn router(ctx: &Ctx, lane: &str, root: &Path) -> Result<Router> {
    Ok(Router {
        root: root.to_owned(),
        arch: ctx.lock.lane(lane)?.package_arch()?.to_owned(),
        names: packages_of(ctx, lane)?,
    })
}

/// All that decides what is in the packages of a lane.
fn inputs(ctx: &Ctx, lane: &str) -> Result<Key> {
    let dir = ctx.lane(lane);
    let mut key = Key::new(RULES)
        .with(signing_key(ctx)?.public().to_pem()?)
        .with(ctx.lock.lane(lane)?.package_arch()?)
        .with_file(&dir.join("module/ovpn.ko"))?
        .with_file(&dir.join("bin/ovpnd"))?
        .with_file(&dir.join(musl::MINI).join("ovpnd"))?
        .with(options(&dir.join("kernel"))?);
    let makefile = recipe::home(ctx, "luci-app-ovpn").join("Makefile");
    key = key.with_file(&makefile)?;
    for tree in [
        "openwrt-feed",
        "tests/openwrt",
        "luci-app-ovpn/htdocs",
        "luci-app-ovpn/root",
    ] {
        for (path, kind) in tree::read(&ctx.project.join(tree))? {
            key = key.with(path);
            if let adb::package::Kind::File(_, content) = kind {
                key = key.with(content);
            }
        }
    }
    Ok(key)
}

/// Writes a lane's packages and their signed index to `feed`, which holds nothing else afterwards.
fn make(ctx: &Ctx, lane: &str, feed: &Path) -> Result<()> {
    let dir = ctx.lane(lane);
    let arch = ctx.lock.lane(lane)?.package_arch()?;
    let work = dir.join("pack");
    let _guard = stamp::lock(&dir.join(".pack.lock"))?;
    for old in [feed, &work] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
        fs::create_dir_all(old)?;
    }
    // Where the recipes' own builds would leave what they install.
    fs::create_dir_all(work.join("build"))?;
    symlink(dir.join("module/ovpn.ko"), work.join("build/ovpn.ko"))?;
    for (variant, bin) in VARIANTS {
        fs::create_dir(work.join(variant))?;
        symlink(dir.join(bin), work.join(variant).join("bin"))?;
    }
    let kernel = Kernel::of(ctx, lane)?;
    let out = work.join("out");
    let settings = [
        ("OUT", out.clone().into_os_string()),
        ("ARCH", ctx.lock.lane(lane)?.arch.clone().into()),
        ("LINUX_VERSION", kernel.version().into()),
        ("LINUX_UNAME_VERSION", kernel.release.clone().into()),
        ("LINUX_VERMAGIC", kernel.vermagic.clone().into()),
        ("LINUX_DIR", dir.join("kernel").into_os_string()),
        ("PKG_BUILD_DIR", work.clone().into_os_string()),
        ("PKG_INSTALL_DIR", work.clone().into_os_string()),
    ];
    let series: Vec<_> = kernel.release.split('.').take(2).collect();
    let series = format!("LINUX_{}", series.join("_"));
    let maker = Maker {
        arch,
        enabled: &["IPV6", &series],
    };
    for name in recipe::ALL {
        let home = recipe::home(ctx, name);
        let origin = home.strip_prefix(&ctx.project)?.display().to_string();
        for package in recipe::read(ctx, name, "pack", &settings)? {
            let path = maker
                .write(&package, &origin, &out.join(&package.name), feed)
                .with_context(|| format!("packing {}", package.name))?;
            ui::say(format!(
                "{}: {} KiB",
                path.file_name().unwrap_or_default().to_string_lossy(),
                fs::metadata(&path)?.len().div_ceil(1024)
            ));
        }
    }
    index(feed, lane, &signing_key(ctx)?)?;
    fs::remove_dir_all(work)?;
    Ok(())
}

/// Signs the packages in a directory, which were made elsewhere.
pub fn sign(ctx: &Ctx, dir: &Path) -> Result<()> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    index(dir, &name, &signing_key(ctx)?)
}

/// Writes the signed index of the packages in a feed, and beside it the key that verifies it.
fn index(feed: &Path, of: &str, key: &Private) -> Result<()> {
    let mut index = Index {
        description: of.to_owned(),
        ..Index::default()
    };
    for path in apk::files_of(feed)? {
        index.add(&apk::open(&path)?, fs::metadata(&path)?.len())?;
    }
    let mut container = index.write()?;
    key.sign(&mut container)?;
    fs::write(feed.join(INDEX), container.deflated()?)?;
    fs::write(feed.join(PUBLIC_KEY), key.public().to_pem()?)?;
    Ok(())
}

/// The key of all indexes: the one named, else one made once.
fn signing_key(ctx: &Ctx) -> Result<Private> {
    match std::env::var_os(KEY_VARIABLE) {
        Some(path) => key::load(Path::new(&path)).context(KEY_VARIABLE),
        None => key::load_or_make(&ctx.cache.join("keys/packages.pem")),
    }
}

/// The files of a directory, by name.
fn listing(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        all.insert(name, fs::read(entry.path())?);
    }
    ensure!(!all.is_empty(), "{} is empty", dir.display());
    Ok(all)
}

/// What OpenWrt would know of a lane's kernel.
struct Kernel {
    release: String,
    /// Digest of the options: modules fit only one.
    vermagic: String,
    modules: Vec<String>,
}

impl Kernel {
    /// The version alone, as apk takes it: a distribution's release has more after it.
    fn version(&self) -> &str {
        let number = |c: char| c.is_ascii_digit() || c == '.';
        let end = self.release.find(|c| !number(c));
        let version = self.release.get(..end.unwrap_or(usize::MAX));
        version.unwrap_or(&self.release).trim_end_matches('.')
    }

    fn of(ctx: &Ctx, lane: &str) -> Result<Self> {
        let build = ctx.lane(lane).join("kernel");
        let read = |file: &str| {
            fs::read_to_string(build.join(file))
                .with_context(|| format!("{lane} has no kernel: {file}"))
        };
        let digest = md5(&options(&build)?)?;
        let modules = read("modules.order")? + &read("modules.builtin")?;
        let stem = |line: &str| Some(Path::new(line).file_stem()?.to_str()?.replace('-', "_"));
        Ok(Self {
            release: read("include/config/kernel.release")?.trim().to_owned(),
            vermagic: digest,
            modules: modules.lines().filter_map(stem).collect(),
        })
    }
}

/// The options a kernel was built with, as OpenWrt sums them up: those that are on, sorted.
fn options(build: &Path) -> Result<String> {
    // The second: of a kernel that was not built here.
    let config = fs::read_to_string(build.join(".config"))
        .or_else(|_| fs::read_to_string(build.join("config")))
        .with_context(|| format!("no configuration in {}", build.display()))?;
    let mut options: Vec<_> = config
        .lines()
        .filter(|l| l.ends_with("=y") || l.ends_with("=m"))
        .collect();
    options.sort_unstable();
    Ok(options.join("\n") + "\n")
}

fn md5(text: &str) -> Result<String> {
    let mut md5sum = Command::new("md5sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run md5sum")?;
    let mut input = md5sum.stdin.take().context("md5sum has no input")?;
    input.write_all(text.as_bytes())?;
    drop(input);
    let done = md5sum.wait_with_output()?;
    let text = String::from_utf8(done.stdout)?;
    let digest = text.split(' ').next().unwrap_or_default();
    ensure!(done.status.success() && digest.len() == 32, "md5sum failed");
    Ok(digest.to_owned())
}

/// The packages an emulated router counts as having.
fn packages_of(ctx: &Ctx, lane: &str) -> Result<BTreeMap<String, Named>> {
    let kernel = Kernel::of(ctx, lane)?;
    let version = format!("{}~{}-r1", kernel.version(), kernel.vermagic);
    let modules = KERNEL_PACKAGES
        .iter()
        .filter(|(_, module)| kernel.modules.iter().any(|m| m == module));
    let all = modules
        .map(|(package, _)| (*package, version.as_str()))
        .chain(USERLAND)
        .chain([("kernel", version.as_str())]);
    Ok(all
        .map(|(name, version)| (name.to_owned(), Named::package(name, version)))
        .collect())
}
