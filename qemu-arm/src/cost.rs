// SPDX-License-Identifier: GPL-2.0-only
//! Instructions that a packet costs, and whether it costs more of them than it did.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::image;
use crate::lab::Bench;
use crate::machine;
use crate::probe;
use crate::report::{Report, Style, Tally};
use crate::underlay::MODULE;
use crate::vm::Vm;
use crate::{Inputs, SUITES};

/// Percent that a cell may grow by. The count of one binary is the same in each run; another compiler or another point
/// release of the kernel moves it a little.
const LIMIT: f64 = 5.0;

/// Instructions by row ("AES-256-GCM, GSO") and size of the datagrams ("64 B"), without those of the bare way.
type Cells = BTreeMap<(String, String), f64>;

/// Prints what a packet through the tunnel costs, in instructions: deterministic, whatever the host does beside it, on
/// [`machine::counted`]. Where the kernel has drivers of its own, they are compared; `more` are arguments for that.
/// Gives the table.
///
/// # Errors
/// The machine could not be had, a packet was lost, or the kernel complained.
pub fn cost(inputs: &Inputs, more: &[String]) -> Result<String> {
    let bench = Bench::new(inputs)?;
    let vm = bench.boot("cost", 4, None, Vec::new())?;
    let mut command = match bench.has_mainline() {
        true => format!(
            "ovpn-tests instructions --driver ours={MODULE} --driver mainline=/{} --wireguard",
            image::MAINLINE
        ),
        false => counted(),
    };
    command.extend(more.iter().map(|arg| format!(" '{arg}'")));
    let table = measure(&vm, &command)?;
    println!("{}\n{table}", inputs.machine.description);
    // A story ends at its first complaint, with an error.
    let mut report = Report::new(Style::Story, inputs.machine.lane);
    report.step("cost: the kernel has nothing to complain about", |notes| {
        probe::clean_log(notes, &vm)
    })?;
    vm.shutdown()?;
    Ok(table)
}

/// Fails for each cell of this driver's cost that is more than 5 % above `kept`, an earlier [`cost`]; TAP on standard output.
///
/// # Errors
/// The machine could not be had, or `kept` is no such table. A cell that grew is no error: it is counted.
pub fn gate(inputs: &Inputs, kept: &str) -> Result<Tally> {
    let kept = cells(kept).context("the kept table")?;
    let mut report = Report::new(Style::Tap, inputs.machine.lane);
    let bench = Bench::new(inputs)?;
    let vm = bench.boot("cost", 4, None, Vec::new())?;
    let table = measure(&vm, &counted())?;
    table.lines().for_each(|line| println!("# {line}"));
    let now = cells(&table)?;
    for ((row, size), before) in &kept {
        report.step(
            &format!("cost: {row}, {size}: at most {LIMIT} % more instructions"),
            |_| {
                let now = now.get(&(row.clone(), size.clone()));
                grown(*now.context("it was not measured")?, *before)
            },
        )?;
    }
    report.step("cost: the kernel has nothing to complain about", |notes| {
        probe::clean_log(notes, &vm)
    })?;
    report.step("cost: the machine powers off", |_| vm.shutdown())?;
    Ok(report.finish())
}

/// The command for a machine whose clock counts.
fn counted() -> String {
    format!("ovpn-tests cost --instruction {}", machine::COUNTED_NS)
}

fn measure(vm: &Vm, command: &str) -> Result<String> {
    let table = vm.exec(command, SUITES)?.success(command)?;
    // A line that says how it was counted, the head, and a row.
    ensure!(table.lines().count() >= 3, "cost: the table has no rows");
    Ok(table)
}

fn grown(now: f64, before: f64) -> Result<()> {
    let percent = (now / before - 1.0) * 100.0;
    ensure!(
        now <= before * (100.0 + LIMIT) / 100.0,
        "{now} instructions, and {before} were kept: {percent:+.1} %"
    );
    Ok(())
}

/// The cells of a table of `ovpn-tests cost`: a head with the sizes, and rows with two numbers for each, of which the second is
/// the driver's.
fn cells(table: &str) -> Result<Cells> {
    let lines: Vec<_> = table.lines().map(str::trim_end).collect();
    let is_head = |line: &&str| line.starts_with(' ') && line.ends_with(" B");
    let at = lines.iter().position(is_head);
    let at = at.context("the table has no line of sizes")?;
    let sizes: Vec<_> = lines[at].split_whitespace().collect();
    ensure!(
        sizes.chunks(2).all(|words| words.last() == Some(&"B")),
        "a size without its unit"
    );
    let sizes: Vec<_> = sizes.chunks(2).map(|words| words.join(" ")).collect();
    let mut cells = Cells::new();
    for line in lines[at + 1..].iter().filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let names = words.len().checked_sub(2 * sizes.len());
        let (name, numbers) = words.split_at(names.with_context(|| format!("short row: {line}"))?);
        let name = name.join(" ");
        if name.starts_with("no tunnel") {
            continue;
        }
        for (size, pair) in sizes.iter().zip(numbers.chunks(2)) {
            let cost = pair[1].parse::<f64>();
            let cost = cost.with_context(|| format!("no number in: {line}"))?;
            ensure!(cost > 0.0, "{name}, {size}: {cost} instructions");
            cells.insert((name.clone(), size.clone()), cost);
        }
    }
    if cells.is_empty() {
        bail!("the table has no rows");
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Instructions for a datagram\n                64 B        512 B\n\
        no tunnel        6273     0   6170     0\n\
        AES-256-GCM, GSO 29818 23545 62435 56265\n";

    #[test]
    fn tables_are_read() {
        let cells = cells(TABLE).unwrap();
        let want = [("512 B", 56265.0), ("64 B", 23545.0)]
            .map(|(size, cost)| (("AES-256-GCM, GSO".to_owned(), size.to_owned()), cost));
        assert_eq!(cells.into_iter().collect::<Vec<_>>(), want);
    }

    #[test]
    fn tables_that_say_nothing_are_refused() {
        for (from, to) in [
            ("64 B", "64"),
            ("AES-256-GCM, GSO 29818 23545 62435 56265", ""),
            ("29818 23545", ""),
            ("23545", "x"),
            ("23545", "0"),
        ] {
            let table = TABLE.replace(from, to);
            assert!(cells(&table).is_err(), "{table}");
        }
    }

    #[test]
    fn growth_is_refused_above_the_limit() {
        assert!(grown(105.0, 100.0).is_ok());
        assert!(grown(50.0, 100.0).is_ok());
        assert!(grown(105.1, 100.0).is_err());
    }
}
