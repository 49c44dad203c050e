// SPDX-License-Identifier: GPL-2.0-only
//! `ovpn-tests bridge TTY`: lets a program on the host act in this guest, over a console that leads to it.
//!
//! A line of JSON is a request, and each is answered by one: `{"run": [WORD...], "ns": 0 | 1, "input": TEXT}` by
//! `{"code", "out", "err"}`; `{"start": [WORD...], "ns"}` leaves the program running; `{"ubus": [OBJECT, METHOD], "args",
//! "socket"}` by `{"status", "data"}`, where an answer comes with its data whatever its status; `{"module": BOOL}` loads or
//! unloads the driver; `{"end": true}` ends it.
//! `{"piece": TEXT}`, some times, and then `{"whole": true}` are a request too long for a terminal to hold.
//! Both namespaces are those of a pair of routers, 10.10.0.1 and 10.10.0.2.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use serde_json::{Value, json};
use ubus::client::UbusClient;
use ubus::envelope::{EnvBuilder, UbusAttr, try_find};
use ubus::json::{blobmsg_to_json, json_to_blobmsg};
use ubus::unix::UnixUbusTransport;
use ubus::{MsgType, UbusError};

use crate::lab::{Cmd, KernelLog, Module, Ns, Pair, Proc};
use crate::tap::{During, Failure, Outcome, Totals};

/// No program that is waited for takes longer.
const LIMIT: Duration = Duration::from_secs(30);
/// UBUS_STATUS_TIMEOUT of ubusmsg.h.
const TIMEOUT: i32 = 7;
/// No call on the bus does.
const CALL: Duration = Duration::from_secs(10);

struct Bridge {
    module: Module,
    pair: Pair,
    started: Vec<Proc>,
}

/// Serves until told to end; what the kernel complained about meanwhile is a failure.
pub fn run(mut args: impl Iterator<Item = String>) -> Outcome<Totals> {
    let (mut module, mut tty) = (None, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--module" => module = args.next().map(Into::into),
            _ => tty = Some(arg),
        }
    }
    let tty = tty.ok_or_else(|| Failure::new("bridge needs a terminal"))?;
    Cmd::new(None, "stty raw -echo -F").arg(&tty).ok()?;
    let input = OpenOptions::new().read(true).write(true).open(&tty)?;
    let mut output = input.try_clone()?;
    let module = Module::new(module);
    module.reload().during("module")?;
    let mut log = KernelLog::from_now()?;
    let mut bridge = Bridge {
        module,
        pair: Pair::new()?,
        started: Vec::new(),
    };
    writeln!(output, "{}", json!({ "ready": true }))?;
    let mut pieces = String::new();
    for line in BufReader::new(input).lines() {
        let line = line?;
        let mut request: Value = serde_json::from_str(&line).map_err(Failure::new)?;
        if let Some(piece) = request["piece"].as_str() {
            pieces.push_str(piece);
            writeln!(output, "{{}}")?;
            continue;
        }
        if request["whole"] == true {
            request = serde_json::from_str(&std::mem::take(&mut pieces)).map_err(Failure::new)?;
        }
        if request["end"] == true {
            break;
        }
        let answer = bridge
            .answer(&request)
            .unwrap_or_else(|failure| match failure {
                Failure::Failed(why) | Failure::Skipped(why) => json!({ "error": why }),
            });
        writeln!(output, "{answer}")?;
    }
    drop(bridge);
    Module::unload()?;
    let trouble: Vec<String> = log
        .drain()?
        .into_iter()
        .filter(|l| kernel_log::is_trouble(l))
        .collect();
    match trouble.is_empty() {
        true => Ok(Totals::default()),
        false => Err(Failure::new(trouble.join("\n"))),
    }
}

impl Bridge {
    fn answer(&mut self, request: &Value) -> Outcome<Value> {
        if let Some(target) = words(&request["ubus"]) {
            return call(request, &target);
        }
        if let Some(there) = request["module"].as_bool() {
            match there {
                true => self.module.load()?,
                false => Module::unload()?,
            }
            return Ok(json!({}));
        }
        if let Some(words) = words(&request["start"]) {
            let proc = self.cmd(request, &words)?.spawn()?;
            self.started.push(proc);
            return Ok(json!({ "process": self.started.len() - 1 }));
        }
        if let Some(process) = request["said"].as_u64() {
            let proc = usize::try_from(process)
                .ok()
                .and_then(|n| self.started.get(n));
            let proc = proc.ok_or_else(|| Failure::new("no such process"))?;
            return Ok(json!({ "out": proc.stdout(), "err": proc.stderr() }));
        }
        let words = words(&request["run"]).ok_or_else(|| Failure::new("no such request"))?;
        let mut cmd = self.cmd(request, &words)?;
        if let Some(text) = request["input"].as_str() {
            cmd = cmd.input(text);
        }
        let done = cmd.run(LIMIT)?;
        Ok(json!({ "code": done.status.code(), "out": done.out, "err": done.err }))
    }

    fn cmd(&self, request: &Value, words: &[&str]) -> Outcome<Cmd> {
        let ns: &Ns = match request["ns"].as_u64().unwrap_or(0) {
            0 => &self.pair.a,
            _ => &self.pair.b,
        };
        let (program, args) = words
            .split_first()
            .ok_or_else(|| Failure::new("no program"))?;
        Ok(args.iter().fold(ns.cmd(program), Cmd::arg))
    }
}

fn words(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

/// A call whose data arrives also when its status is not 0, as uhttpd hands it to a page.
fn call(request: &Value, target: &[&str]) -> Outcome<Value> {
    let [object, method] = target else {
        return Err(Failure::new("ubus takes an object and a method"));
    };
    let socket = request["socket"].as_str().unwrap_or_default();
    let mut transport = UnixUbusTransport::connect(socket).map_err(Failure::new)?;
    transport.set_deadline(Some(CALL));
    let mut client = UbusClient::connect(transport).map_err(Failure::new)?;
    let id = match client.lookup(object) {
        Ok(id) => id,
        Err(UbusError::Status(status)) => return Ok(json!({ "status": status, "data": null })),
        Err(error) => return Err(Failure::new(error)),
    };
    let args = json_to_blobmsg(&request["args"]).map_err(Failure::new)?;
    let mut envelope = EnvBuilder::new();
    envelope.push_u32(UbusAttr::ObjId, id);
    envelope.push_str(UbusAttr::Method, method);
    envelope.push_data(args.contents());
    let mut data = Value::Null;
    let done = client.request(MsgType::Invoke, id, envelope, |frame| {
        if let Some(found) = try_find(&frame.payload, UbusAttr::Data)? {
            data = blobmsg_to_json(found.payload)?;
        }
        Ok(())
    });
    match done {
        Ok(()) => Ok(json!({ "status": 0, "data": data })),
        Err(UbusError::Status(status)) => Ok(json!({ "status": status, "data": data })),
        Err(UbusError::Timeout(_)) => Ok(json!({ "status": TIMEOUT, "data": null })),
        Err(error) => Err(Failure::new(error)),
    }
}
