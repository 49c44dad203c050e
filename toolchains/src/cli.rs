// SPDX-License-Identifier: GPL-2.0-only
//! Command lines of the subcommands.

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::time::Duration;

/// Options of `lane run`.
#[derive(Debug, PartialEq)]
pub struct RunArgs {
    /// Lane whose kernel boots.
    pub lane: String,
    /// Host directories to show: host path, guest path.
    pub mounts: Vec<(PathBuf, String)>,
    /// Memory in MiB.
    pub mem: u32,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Longest run.
    pub timeout: Duration,
    /// More kernel arguments.
    pub append: Vec<String>,
    /// Program and arguments in the guest.
    pub command: Vec<String>,
}

/// What `lane run` takes.
pub const RUN_USAGE: &str = "lane run [--mem MIB] [--cpus N] [--timeout SECONDS] [--mount HOST:GUEST]... \
[--append KERNEL_ARGUMENT]... LANE -- COMMAND [ARGUMENT]...";

impl RunArgs {
    /// Reads the words after `run`.
    pub fn parse(args: &[String]) -> Result<Self> {
        let (options, command) = match args.iter().position(|a| a == "--") {
            Some(at) => (
                args.get(..at).unwrap_or_default(),
                args.get(at + 1..).unwrap_or_default(),
            ),
            None => (args, &[] as &[String]),
        };
        let mut run = Self {
            lane: String::new(),
            mounts: Vec::new(),
            mem: 1024,
            cpus: 2,
            timeout: Duration::from_secs(120),
            append: Vec::new(),
            command: command.to_vec(),
        };
        let mut words = options.iter();
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                if !run.lane.is_empty() {
                    bail!("{word}: one lane at a time\n{RUN_USAGE}");
                }
                run.lane.clone_from(word);
                continue;
            }
            let value = words
                .next()
                .with_context(|| format!("{word} needs a value\n{RUN_USAGE}"))?;
            let number = || {
                value
                    .parse()
                    .with_context(|| format!("{word}: {value} is not a number"))
            };
            match word.as_str() {
                "--mem" => run.mem = number()?,
                "--cpus" => run.cpus = number()?,
                "--timeout" => run.timeout = Duration::from_secs(number()?.into()),
                "--append" => run.append.push(value.clone()),
                "--mount" => {
                    let (host, guest) = value
                        .split_once(':')
                        .with_context(|| format!("{value}: not HOST:GUEST"))?;
                    run.mounts.push((PathBuf::from(host), guest.to_owned()));
                }
                _ => bail!("{word} is not known\n{RUN_USAGE}"),
            }
        }
        if run.lane.is_empty() || run.command.is_empty() {
            bail!("{RUN_USAGE}");
        }
        Ok(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_and_command_are_kept_apart() {
        let run = RunArgs::parse(&words(
            "--mem 512 um-7.2 --mount /a:/b --timeout 9 -- ls --mem 3",
        ))
        .unwrap();
        assert_eq!(run.lane, "um-7.2");
        assert_eq!(
            (run.mem, run.cpus, run.timeout),
            (512, 2, Duration::from_secs(9))
        );
        assert_eq!(run.mounts, [(PathBuf::from("/a"), "/b".to_owned())]);
        assert_eq!(run.command, ["ls", "--mem", "3"]);
    }

    #[test]
    fn faults_are_named() {
        for (line, want) in [
            ("um-7.2", "lane run"),
            ("-- ls", "lane run"),
            ("um-7.2 um-6.12 -- ls", "one lane"),
            ("um-7.2 --mem -- ls", "needs a value"),
            ("um-7.2 --mem much -- ls", "much is not a number"),
            ("um-7.2 --colour red -- ls", "--colour is not known"),
            ("um-7.2 --mount /a -- ls", "HOST:GUEST"),
        ] {
            let err = format!("{:#}", RunArgs::parse(&words(line)).unwrap_err());
            assert!(err.contains(want), "{line}: wanted {want:?} in {err:?}");
        }
    }
}
