// SPDX-License-Identifier: GPL-2.0-only
//! The suites.

pub mod bench;
mod daemon;
mod engine;
mod faults;
mod leak;
mod mp;
mod openvpn;
mod ovpn_cli;
mod p2p;
mod path;
mod place;
mod socket;
mod tcp;
mod uapi;

use crate::tap::{Case, Failure, Outcome};

/// A named list of cases, run with a freshly loaded module and closed by a look into the kernel's log.
pub struct Suite {
    /// Name on the command line.
    pub name: &'static str,
    /// Makes its cases.
    pub cases: fn() -> Vec<Case>,
}

const SUITES: &[Suite] = &[
    Suite {
        name: "uapi",
        cases: uapi::cases,
    },
    Suite {
        name: "p2p",
        cases: p2p::cases,
    },
    Suite {
        name: "ovpn-cli",
        cases: ovpn_cli::cases,
    },
    Suite {
        name: "engine",
        cases: engine::cases,
    },
    Suite {
        name: "openvpn",
        cases: openvpn::cases,
    },
    Suite {
        name: "openvpn-matrix",
        cases: openvpn::cases_matrix,
    },
    Suite {
        name: "openvpn-clients",
        cases: openvpn::cases_clients,
    },
    Suite {
        name: "openvpn-reneg",
        cases: openvpn::cases_renegotiation,
    },
    Suite {
        name: "daemon",
        cases: daemon::cases,
    },
    Suite {
        name: "verdicts",
        cases: daemon::verdicts,
    },
    Suite {
        name: "releases",
        cases: daemon::releases,
    },
    Suite {
        name: "matrix",
        cases: daemon::matrix,
    },
    Suite {
        name: "leak",
        cases: leak::cases,
    },
    Suite {
        name: "uapi-mp",
        cases: uapi::cases_mp,
    },
    Suite {
        name: "mp",
        cases: mp::cases,
    },
    Suite {
        name: "tcp",
        cases: tcp::cases,
    },
    Suite {
        name: "path",
        cases: path::cases,
    },
    Suite {
        name: "place",
        cases: place::cases,
    },
    Suite {
        name: "faults",
        cases: faults::cases,
    },
];

/// Names for several suites at once.
const GROUPS: &[(&str, &str)] = &[
    ("fast", "uapi,uapi-mp,p2p,ovpn-cli"),
    ("server", "mp,tcp,path,place"),
    ("openvpn-server", "openvpn-matrix,openvpn-clients"),
    (
        "all",
        "uapi,uapi-mp,p2p,ovpn-cli,mp,tcp,path,place,engine,openvpn,openvpn-matrix,openvpn-clients,openvpn-reneg,daemon,verdicts,releases,matrix,leak,faults",
    ),
];

/// All names that [`by_names`] knows.
pub fn names() -> String {
    let groups = GROUPS
        .iter()
        .map(|(name, members)| format!("{name} ({members})"));
    SUITES
        .iter()
        .map(|s| s.name.to_owned())
        .chain(groups)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Suites of a comma-separated list of suites and groups, in that order.
pub fn by_names(list: &str) -> Outcome<Vec<Suite>> {
    let expanded = list.split(',').flat_map(|name| {
        let members = GROUPS
            .iter()
            .find(|(group, _)| *group == name)
            .map_or(name, |(_, members)| members);
        members.split(',')
    });
    expanded
        .map(|name| {
            let suite = SUITES.iter().find(|s| s.name == name);
            let suite = suite.ok_or_else(|| Failure::new(format!("unknown suite {name}")))?;
            Ok(Suite { ..*suite })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    /// The rows of the first table of docs/faults.md: suite and case.
    fn rows(text: &str) -> Vec<(&str, &str)> {
        let table = text.split("\n## ").next().unwrap_or_default();
        let cells = table.lines().filter(|line| line.starts_with("| "));
        cells
            .skip(1)
            .filter_map(
                |line| match line.split('|').collect::<Vec<_>>().as_slice() {
                    [_, _, suite, case, _] => Some((suite.trim(), case.trim())),
                    _ => None,
                },
            )
            .collect()
    }

    #[test]
    fn each_class_of_faults_has_the_cases_that_the_documentation_names() {
        let rows = rows(include_str!("../../../docs/faults.md"));
        assert!(rows.len() > 20, "{rows:?}");
        let missing: Vec<_> = rows
            .into_iter()
            .filter(|(suite, case)| {
                let suite = super::SUITES.iter().find(|s| s.name == *suite);
                !suite.is_some_and(|s| (s.cases)().iter().any(|c| c.name == *case))
            })
            .collect();
        assert!(missing.is_empty(), "no such case: {missing:#?}");
    }
}
