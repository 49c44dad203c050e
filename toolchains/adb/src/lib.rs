// SPDX-License-Identifier: GPL-2.0-only
//! Packages and indexes of apk 3, the package manager of OpenWrt from 25.12 on: a writer whose output depends on its input
//! alone, a reader that takes any bytes, and signatures.
//!
//! The format is that of apk-v3(5) and of apk-tools 3: a container of blocks ([`container`]), of which the first is a
//! database of values ([`value`]). A package ([`package`]) has its files' contents in blocks after that, an index
//! ([`index`]) has the descriptions of packages ([`info`]). Names and versions are those of apk-package(5) ([`depend`],
//! [`version`]). Keys and signatures: [`sign`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod container;
pub mod depend;
pub mod index;
pub mod info;
pub mod package;
pub mod sign;
pub mod value;
pub mod version;

/// Why bytes are no package or index, or why something cannot be written as one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not begin as a database does, or is of another schema than asked for.
    #[error("it is no {0}")]
    Kind(&'static str),
    /// A block, value or field is not where or what it has to be.
    #[error("it cannot be read: {0}")]
    Damaged(&'static str),
    /// Bytes that decompress to more than a reader accepts.
    #[error("it unpacks to more than {0} bytes")]
    TooLarge(usize),
    /// The format has no place for it.
    #[error("it cannot be written: {0}")]
    Unwritable(&'static str),
    /// A name, version or dependency that apk refuses.
    #[error("{0:?} is no {1}")]
    Word(String, &'static str),
    /// No signature by the key, or one of other bytes.
    #[error("{0}")]
    Signature(&'static str),
    /// A file that is no key.
    #[error("no key of P-256 in PEM: {0}")]
    Key(&'static str),
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;
