// SPDX-License-Identifier: GPL-2.0-only
//! Which package takes the place of a pinned one: a suite's index read, its versions compared, the choice made.

use crate::lock::Deb;
use std::cmp::Ordering;

/// A package file that a suite's index lists.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Binary or source package.
    pub package: String,
    /// Debian version; of a source package the upstream part alone.
    pub version: String,
    /// Path below the mirror.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Hex digest of the file.
    pub sha256: String,
}

/// How an offer is related to the pin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kinship {
    /// Another build or point release of what is pinned.
    Series,
    /// Of the next series that the suite has.
    Next,
}

/// The files that an index lists: `Packages` of a binary architecture, or `Sources` (its upstream archives).
pub fn offers(index: &str) -> Vec<Offer> {
    index
        .split("\n\n")
        .flat_map(|stanza| match binary(stanza) {
            Some(offer) => vec![offer],
            None => archives(stanza),
        })
        .collect()
}

fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza
        .lines()
        .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

fn binary(stanza: &str) -> Option<Offer> {
    Some(Offer {
        package: field(stanza, "Package")?.to_owned(),
        version: field(stanza, "Version")?.to_owned(),
        path: field(stanza, "Filename")?.to_owned(),
        size: field(stanza, "Size")?.parse().ok()?,
        sha256: field(stanza, "SHA256")?.to_owned(),
    })
}

fn archives(stanza: &str) -> Vec<Offer> {
    let named = |name| field(stanza, name);
    let (Some(package), Some(version), Some(directory)) =
        (named("Package"), named("Version"), named("Directory"))
    else {
        return Vec::new();
    };
    let lines = stanza
        .lines()
        .skip_while(|l| !l.starts_with("Checksums-Sha256:"));
    let files = lines.skip(1).take_while(|l| l.starts_with(' '));
    files
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (sha256, size, file) = (words.next()?, words.next()?, words.next()?);
            file.contains(".orig.tar.").then_some(())?;
            Some(Offer {
                package: package.to_owned(),
                version: upstream(version).to_owned(),
                path: format!("{directory}/{file}"),
                size: size.parse().ok()?,
                sha256: sha256.to_owned(),
            })
        })
        // A detached signature has a name like its archive's.
        .filter(|offer| !offer.path.ends_with(".asc"))
        .collect()
}

/// The newest offer of the pin's series, else the newest of the series that comes next.
pub fn successor(pin: &Deb, offers: &[Offer]) -> Option<(Offer, Kinship)> {
    let family = Family::of(pin);
    let newer = |offer: &&Offer| {
        family.has(&offer.package)
            && kind(&offer.path) == kind(&pin.path)
            && compare(&offer.version, &pin.version) == Ordering::Greater
    };
    let newest = |series: &str| {
        let same = offers
            .iter()
            .filter(|o| self::series(pin, &o.version) == series);
        same.filter(newer)
            .max_by(|a, b| compare(&a.version, &b.version))
    };
    let own = series(pin, &pin.version);
    if let Some(offer) = newest(&own) {
        return Some((offer.clone(), Kinship::Series));
    }
    if pin.stay {
        return None;
    }
    let others = offers
        .iter()
        .filter(newer)
        .map(|o| series(pin, &o.version))
        .filter(|series| compare(series, &own) == Ordering::Greater);
    let next = others.min_by(|a, b| compare(a, b))?;
    Some((newest(&next)?.clone(), Kinship::Next))
}

/// Whether the index has the very file that is pinned.
pub fn listed(pin: &Deb, offers: &[Offer]) -> bool {
    offers.iter().any(|o| o.sha256 == pin.sha256)
}

/// The pin with the offer's file in its place.
pub fn replaced(pin: &Deb, offer: &Offer) -> Deb {
    Deb {
        version: offer.version.clone(),
        path: offer.path.clone(),
        size: offer.size,
        sha256: offer.sha256.clone(),
        // Its name is the package's.
        tarball: (pin.tarball.as_ref()).map(|t| t.replace(package(pin), &offer.package)),
        ..pin.clone()
    }
}

/// The pinned package's name: of `NAME_VERSION_ARCH.deb` the first part.
fn package(pin: &Deb) -> &str {
    let file = pin.path.rsplit('/').next().unwrap_or_default();
    file.split('_').next().unwrap_or_default()
}

/// Architecture, or format of a source archive: what follows the version in a file's name.
fn kind(path: &str) -> &str {
    match path.find(".orig.tar.") {
        Some(at) => path.get(at..).unwrap_or_default(),
        None => path.rsplit('_').next().unwrap_or_default(),
    }
}

/// Packages that differ in the version within their name only, as `linux-headers-6.12.107+deb13-arm64` does.
struct Family<'a> {
    before: &'a str,
    /// None: the name has no version.
    after: Option<&'a str>,
}

impl<'a> Family<'a> {
    fn of(pin: &'a Deb) -> Self {
        let name = package(pin);
        let whole = Self {
            before: name,
            after: None,
        };
        // Two numbers at least: the 3 of libnl-3-200 is its interface's.
        let two = two_numbers(upstream(&pin.version));
        let Some(at) = name.find(&format!("-{two}")).filter(|_| two.contains('.')) else {
            return whole;
        };
        let (before, version) = name.split_at(at + 1);
        Self {
            before,
            after: Some(version.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')),
        }
    }

    fn has(&self, package: &str) -> bool {
        let Some(rest) = package.strip_prefix(self.before) else {
            return false;
        };
        let Some(after) = self.after else {
            return rest.is_empty();
        };
        let digits = rest.strip_suffix(after);
        digits.is_some_and(|d| {
            !d.is_empty() && d.chars().all(|c: char| c.is_ascii_digit() || c == '.')
        })
    }
}

/// The first two numbers of a version, as in `7.2`; of a pin that stays the whole version of its authors.
fn series(pin: &Deb, version: &str) -> String {
    match pin.stay {
        true => upstream(version).to_owned(),
        false => two_numbers(upstream(version)),
    }
}

fn two_numbers(version: &str) -> String {
    let two: Vec<_> = version.split('.').take(2).collect();
    two.join(".")
}

/// A version without epoch, Debian's revision, and what was left out of the archive.
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let version = version.rsplit_once('-').map_or(version, |(own, _)| own);
    version.split(['+', '~']).next().unwrap_or(version)
}

/// The order of Debian versions (deb-version(7)).
pub fn compare(a: &str, b: &str) -> Ordering {
    let parts = |version: &str| {
        let (epoch, rest) = version.split_once(':').unwrap_or(("0", version));
        let (own, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        [epoch, own, revision].map(str::to_owned)
    };
    let pairs = parts(a).into_iter().zip(parts(b));
    pairs
        .map(|(a, b)| compare_part(a.as_bytes(), b.as_bytes()))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Text and numbers in turn. A tilde sorts before the end, letters before all other characters.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let weight = |c: Option<&u8>| match c {
        Some(b'~') => -1,
        None | Some(b'0'..=b'9') => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    };
    while !a.is_empty() || !b.is_empty() {
        loop {
            let (x, y) = (weight(a.first()), weight(b.first()));
            if x != y {
                return x.cmp(&y);
            }
            if x == 0 {
                break;
            }
            (a, b) = (
                a.get(1..).unwrap_or_default(),
                b.get(1..).unwrap_or_default(),
            );
        }
        let (x, y) = (number(&mut a), number(&mut b));
        let order = x.len().cmp(&y.len()).then(x.cmp(y));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Takes the digits at the front, and gives them without leading zeros.
fn number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|c| !c.is_ascii_digit());
    let (mut digits, rest) = text.split_at(end.unwrap_or(text.len()));
    *text = rest;
    while let [b'0', more @ ..] = digits {
        digits = more;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(path: &str, version: &str) -> Deb {
        Deb {
            name: "pin".to_owned(),
            suite: "suite".to_owned(),
            version: version.to_owned(),
            path: path.to_owned(),
            size: 1,
            sha256: "0".repeat(64),
            tarball: None,
            unpack: None,
            stay: false,
            group: None,
        }
    }

    fn binary_index(packages: &[(&str, &str, &str)]) -> String {
        let stanza = |(package, version, arch): &(&str, &str, &str)| {
            format!(
                "Package: {package}\nVersion: {version}\nArchitecture: {arch}\nDescription: a\n b\n \
                 Version: 9\nFilename: pool/x/{package}_{version}_{arch}.deb\nSize: 7\nSHA256: {}\n",
                "a".repeat(64)
            )
        };
        packages.iter().map(stanza).collect::<Vec<_>>().join("\n")
    }

    fn choice(pin: &Deb, index: &[(&str, &str, &str)]) -> Option<(String, Kinship)> {
        let found = successor(pin, &offers(&binary_index(index)));
        found.map(|(offer, kinship)| (format!("{} {}", offer.package, offer.version), kinship))
    }

    #[test]
    fn the_same_series_comes_first() {
        let kernel = pin(
            "pool/linux-source-7.2_7.2.12-1~bpo13+1_all.deb",
            "7.2.12-1~bpo13+1",
        );
        let newer = [
            ("linux-source-7.4", "7.4.1-1~bpo13+1", "all"),
            ("linux-source-7.3", "7.3.4-1~bpo13+1", "all"),
            ("linux-source-7.3", "7.3.2-1~bpo13+1", "all"),
            ("linux-source", "7.4.1-1~bpo13+1", "all"),
            ("linux-source-7.3", "7.3.9-1~bpo13+1", "amd64"),
            ("linux-source-7.1", "7.1.20-1~bpo13+1", "all"),
        ];
        let want = ("linux-source-7.3 7.3.4-1~bpo13+1".to_owned(), Kinship::Next);
        assert_eq!(choice(&kernel, &newer), Some(want));
        let mut same = newer.to_vec();
        same.push(("linux-source-7.2", "7.2.14-1~bpo13+1", "all"));
        same.push(("linux-source-7.2", "7.2.13-1~bpo13+1", "all"));
        same.push(("linux-source-7.2", "7.2.12-1~bpo13+1", "all"));
        let want = (
            "linux-source-7.2 7.2.14-1~bpo13+1".to_owned(),
            Kinship::Series,
        );
        assert_eq!(choice(&kernel, &same), Some(want));
        assert_eq!(choice(&kernel, &newer[5..]), None, "never an older one");
    }

    #[test]
    fn a_pin_that_stays_takes_another_build_only() {
        let mut std = pin(
            "pool/rust-src_1.95.0+dfsg1-2~bpo13+1_all.deb",
            "1.95.0+dfsg1-2~bpo13+1",
        );
        std.stay = true;
        let next = ("rust-src", "1.96.0+dfsg1-1~bpo13+1", "all");
        let point = ("rust-src", "1.95.1+dfsg1-1~bpo13+1", "all");
        assert_eq!(choice(&std, &[next, point]), None);
        let build = ("rust-src", "1.95.0+dfsg1-3~bpo13+1", "all");
        let want = format!("{} {}", build.0, build.1);
        assert_eq!(choice(&std, &[next, build]), Some((want, Kinship::Series)));
    }

    #[test]
    fn versions_within_names() {
        let headers = pin(
            "pool/linux-headers-6.12.107+deb13-armmp_6.12.107-1_armhf.deb",
            "6.12.107-1",
        );
        let index = [
            (
                "linux-headers-6.12.110+deb13-armmp-lpae",
                "6.12.110-1",
                "armhf",
            ),
            ("linux-headers-6.12.110+deb13-armmp", "6.12.110-1", "armhf"),
            ("linux-headers-6.12.111+deb14-armmp", "6.12.111-1", "armhf"),
        ];
        let want = "linux-headers-6.12.110+deb13-armmp 6.12.110-1".to_owned();
        assert_eq!(choice(&headers, &index), Some((want, Kinship::Series)));
        let library = pin("pool/libnl-3-200_3.12.0-2+b1_armhf.deb", "3.12.0-2+b1");
        let index = [
            ("libnl-3-dev", "3.12.0-3", "armhf"),
            ("libnl-4-200", "3.12.0-4", "armhf"),
            ("libnl-3-200", "3.12.0-2+b2", "armhf"),
        ];
        let want = "libnl-3-200 3.12.0-2+b2".to_owned();
        assert_eq!(choice(&library, &index), Some((want, Kinship::Series)));
    }

    #[test]
    fn upstream_archives() {
        let (old, new) = ("a".repeat(64), "b".repeat(64));
        let index = format!(
            "Package: busybox\nBinary: busybox\nVersion: 1:1.37.0-6\nFiles:\n d41d8 1 x.orig.tar.bz2\n\
             Checksums-Sha256:\n {old} 9 busybox_1.37.0.orig.tar.bz2\n {old} 3 busybox_1.37.0.orig.tar.bz2.asc\n \
             {old} 4 busybox_1.37.0-6.debian.tar.xz\nDirectory: pool/main/b/busybox\n\n\
             Package: busybox\nVersion: 1:1.37.1-1\nChecksums-Sha256:\n {new} 10 busybox_1.37.1.orig.tar.bz2\n\
             Directory: pool/main/b/busybox\n"
        );
        let offers = offers(&index);
        assert_eq!(offers.len(), 2);
        let mut busybox = pin("pool/main/b/busybox/busybox_1.37.0.orig.tar.bz2", "1.37.0");
        busybox.sha256 = old;
        assert!(listed(&busybox, &offers));
        let (offer, _) = successor(&busybox, &offers).unwrap();
        assert_eq!(
            offer.path,
            "pool/main/b/busybox/busybox_1.37.1.orig.tar.bz2"
        );
        assert_eq!((offer.size, &offer.sha256), (10, &new));
    }

    #[test]
    fn the_archive_within_has_the_packages_name() {
        let mut kernel = pin("pool/linux-source-7.2_7.2.12-1_all.deb", "7.2.12-1");
        kernel.tarball = Some("usr/src/linux-source-7.2.tar.xz".to_owned());
        kernel.unpack = Some("linux-source-7.2".to_owned());
        let index = binary_index(&[("linux-source-7.3", "7.3.4-1", "all")]);
        let (offer, _) = successor(&kernel, &offers(&index)).unwrap();
        let got = replaced(&kernel, &offer);
        assert_eq!(
            got.tarball.as_deref(),
            Some("usr/src/linux-source-7.3.tar.xz")
        );
        assert_eq!(got.unpack, kernel.unpack);
        assert_eq!((got.size, got.version.as_str()), (7, "7.3.4-1"));
    }

    #[test]
    fn order_of_versions() {
        // As dpkg --compare-versions has them.
        for (less, more) in [
            ("7.2.12-1~bpo13+1", "7.2.12-1"),
            ("7.2.9-1", "7.2.12-1"),
            ("2.7.8-1", "2.7.8-1+b1"),
            ("1.37.0-6", "1:1.0-1"),
            ("1.0~rc1", "1.0"),
            ("1.0", "1.0a"),
            ("1.0a", "1.0+dfsg"),
            ("1.95.0+dfsg1-2~bpo13+1", "1.95.0+dfsg1-2"),
        ] {
            assert_eq!(compare(less, more), Ordering::Less, "{less} {more}");
            assert_eq!(compare(more, less), Ordering::Greater, "{more} {less}");
        }
        assert_eq!(compare("1.02-1", "1.2-1"), Ordering::Equal);
    }
}
