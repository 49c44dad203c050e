// SPDX-License-Identifier: GPL-2.0-or-later
//! OpenWrt's libuci and ovpnd's reader on the same text.

use std::ffi::{CStr, CString};
use std::ptr;

use libuci_sys as c;
use ovpnd::uci::{File, Value};

/// A section as both readers give it: type, name (none for anonymous ones), options in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    kind: String,
    name: Option<String>,
    options: Vec<(String, Vec<String>, bool)>,
}

/// libuci's reading of a text: sections, or nothing when it refuses the file.
///
/// # Panics
/// When libuci cannot be set up, which has nothing to do with the text.
pub fn libuci(text: &str) -> Option<Vec<Section>> {
    let name = CString::new("test").expect("no NUL in it");
    let mut bytes = text.as_bytes().to_vec();
    // SAFETY: `bytes` outlives the stream, which is closed below and only read; the context is freed once, after
    // everything that points into it was copied; libuci's lists are walked as its header's macros do.
    unsafe {
        let context = c::uci_alloc_context();
        assert!(!context.is_null(), "no context");
        let stream = libc::fmemopen(bytes.as_mut_ptr().cast(), bytes.len(), c"r".as_ptr());
        assert!(!stream.is_null(), "no stream");
        let mut package = ptr::null_mut();
        let status = c::uci_import(context, stream.cast(), name.as_ptr(), &mut package, true);
        let sections = (status == 0 && !package.is_null()).then(|| {
            let mut sections = Vec::new();
            walk(&raw mut (*package).sections, |element| {
                let section: *mut c::uci_section = element.cast();
                let mut options = Vec::new();
                walk(&raw mut (*section).options, |element| {
                    options.push(option(element.cast()));
                });
                sections.push(Section {
                    kind: text_of((*section).type_),
                    name: (!(*section).anonymous).then(|| text_of((*section).e.name)),
                    options,
                });
            });
            sections
        });
        libc::fclose(stream);
        c::uci_free_context(context);
        sections
    }
}

/// # Safety
/// `option` is one of a loaded package.
unsafe fn option(option: *mut c::uci_option) -> (String, Vec<String>, bool) {
    // SAFETY: the caller's promise; the type says which part of the union is valid.
    unsafe {
        let name = text_of((*option).e.name);
        if (*option).type_ == c::uci_option_type_UCI_TYPE_STRING {
            return (name, vec![text_of((*option).v.string)], false);
        }
        let mut values = Vec::new();
        walk(&raw mut (*option).v.list, |element| {
            values.push(text_of((*element).name));
        });
        (name, values, true)
    }
}

/// Calls `each` with the elements of a list, whose link is their first field.
///
/// # Safety
/// `head` is the head of a list of libuci's.
unsafe fn walk(head: *mut c::uci_list, mut each: impl FnMut(*mut c::uci_element)) {
    // SAFETY: the caller's promise: a ring that comes back to its head.
    unsafe {
        let mut at = (*head).next;
        while at != head {
            each(at.cast());
            at = (*at).next;
        }
    }
}

/// # Safety
/// `text` is NUL-terminated.
unsafe fn text_of(text: *const std::ffi::c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// ovpnd's reading of a text: sections, or nothing when it names an error in it.
pub fn ours(text: &str) -> Option<Vec<Section>> {
    let file = File::parse(text.as_bytes());
    if !file.errors.is_empty() {
        return None;
    }
    let option = |option: ovpnd::uci::Opt| match option.value {
        Value::One(value) => (option.name, vec![value], false),
        Value::List(list) => (option.name, list, true),
    };
    let section = |section: ovpnd::uci::Section| Section {
        kind: section.kind,
        name: section.name,
        options: section.options.into_iter().map(option).collect(),
    };
    Some(file.sections.into_iter().map(section).collect())
}

/// Whether a named section may be opened more than twice: this libuci then works on memory it has freed, and says
/// yes or no as that happens to look.
fn reopened_often(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !"'\"\\".contains(*c)).collect();
    let mut names: Vec<&str> = plain
        .split([';', '\n'])
        .filter(|statement| statement.trim_start().starts_with('c'))
        .filter_map(|statement| statement.split_whitespace().nth(2))
        .collect();
    names.sort_unstable();
    names.windows(3).any(|three| three.iter().all(|name| Some(name) == three.first()))
}

/// Compares both readers: whether both take the file, or nothing when there is nothing to compare.
///
/// # Panics
/// When they differ.
pub fn compare(text: &str) -> Option<bool> {
    // libuci's strings end at a NUL, and an empty buffer cannot be opened as a stream.
    if text.is_empty() || text.contains('\0') || reopened_often(text) {
        return None;
    }
    let (theirs, ours) = (libuci(text), ours(text));
    assert_eq!(theirs, ours, "libuci (left) and ovpnd (right) on {text:?}");
    Some(theirs.is_some())
}
