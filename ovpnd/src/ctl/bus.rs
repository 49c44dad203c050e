// SPDX-License-Identifier: GPL-2.0-or-later
//! `push-update` and `answer`: methods of a running ovpnd, called by the bus.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use ubus::client::UbusClient;
use ubus::envelope::{EnvBuilder, UbusAttr};
use ubus::json::{blobmsg_to_json, json_to_blobmsg};
use ubus::transport::Transport;
use ubus::wire::{Codec, Frame, MsgType};
use ubus::{InboundMsg, UbusError};
use zeroize::Zeroizing;

use super::args::Args;
use super::{Done, Failure, print};
use crate::ubus::{Method, next_frame};

/// Where OpenWrt's broker listens.
const SOCKET: &str = "/var/run/ubus/ubus.sock";
/// How long one look for an answer lasts. The client of crate `ubus` gives up after 200 of them without a word.
const LOOK: Duration = Duration::from_millis(50);

/// `ovpnctl push-update IFACE [client NAME] OPTION...`
pub(super) fn push_update(mut args: Args) -> Done {
    let socket = socket(&mut args)?;
    let client = args.option("client")?;
    let interface = args.next("an interface")?;
    let first = args.next("an option")?;
    let rest = std::iter::from_fn(|| args.maybe());
    let options: Vec<String> = std::iter::once(first).chain(rest).collect();
    let mut call = json!({ "interface": interface, "options": options });
    if let (Some(client), Some(call)) = (client, call.as_object_mut()) {
        call.insert("peer".into(), client.into());
    }
    print(&outcome(&on_bus(&socket, Method::PushUpdate, &call)?))
}

/// `ovpnctl answer IFACE [user NAME]`: the answer is a line of stdin, as the words of a command are for everybody to see.
pub(super) fn answer(mut args: Args) -> Done {
    let socket = socket(&mut args)?;
    let user = args.option("user")?;
    let interface = args.next("an interface")?;
    args.end()?;
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().read_line(&mut line)?;
    let text = line.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(Failure::Usage("stdin has no answer".into()));
    }
    let mut call = json!({ "interface": interface, "answer": text });
    if let (Some(user), Some(call)) = (user, call.as_object_mut()) {
        call.insert("user".into(), user.into());
    }
    on_bus(&socket, Method::Answer, &call).map(drop)
}

fn socket(args: &mut Args) -> Result<String, Failure> {
    let given = args.option("ubus-socket")?;
    Ok(given.unwrap_or_else(|| SOCKET.into()))
}

/// One line for the clients that were told, and one for those that cannot be.
fn outcome(told: &Value) -> String {
    let line = |key: &str, what: &str| {
        let names = told.get(key).and_then(Value::as_array);
        let names: Vec<&str> = names
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        match names.is_empty() {
            true => String::new(),
            false => format!("{what}: {}\n", names.join(", ")),
        }
    };
    match line("sent", "sent to") + &line("unable", "unable to take it") {
        nothing if nothing.is_empty() => "no client is connected\n".into(),
        lines => lines,
    }
}

fn on_bus(socket: &str, method: Method, args: &Value) -> Result<Value, Failure> {
    let stream = UnixStream::connect(socket);
    let stream = stream.map_err(|error| Failure::Failed(format!("{socket}: {error}")))?;
    call(stream, method, args)
}

/// Calls a method of ovpnd's over a connection to the broker and gives its answer.
///
/// # Errors
/// ovpnd is not there, or refuses; its sentences are the message.
fn call(stream: UnixStream, method: Method, args: &Value) -> Result<Value, Failure> {
    let failed = |error: UbusError| Failure::Failed(format!("ubus: {error}"));
    stream.set_read_timeout(Some(LOOK))?;
    let input = Vec::new();
    let mut client = UbusClient::connect(Broker { stream, input }).map_err(failed)?;
    let id = client.lookup("ovpnd").map_err(|error| match error {
        UbusError::Status(_) => Failure::Failed("ovpnd does not run".into()),
        error => failed(error),
    })?;
    let args = json_to_blobmsg(args).map_err(failed)?;
    let mut envelope = EnvBuilder::new();
    envelope.push_u32(UbusAttr::ObjId, id);
    envelope.push_str(UbusAttr::Method, method.name());
    envelope.push_data(args.contents());
    let mut told = Value::Null;
    let done = client.request(MsgType::Invoke, id, envelope, |frame| {
        if let InboundMsg::Data {
            data: Some(data), ..
        } = InboundMsg::parse(frame)?
        {
            told = blobmsg_to_json(data)?;
        }
        Ok(())
    });
    match done {
        Ok(()) => Ok(told),
        Err(error) => Err(Failure::Failed(
            problems(&told).unwrap_or_else(|| format!("ubus: {error}")),
        )),
    }
}

/// The sentences of a refusal, one a line.
fn problems(told: &Value) -> Option<String> {
    let problems = told.get("problems")?.as_array()?;
    let texts = problems.iter().filter_map(|one| one.get("text")?.as_str());
    let texts: Vec<&str> = texts.collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// A connection whose reads last [`LOOK`] at most.
struct Broker {
    stream: UnixStream,
    input: Vec<u8>,
}

impl Transport for Broker {
    fn send(&mut self, frame: &Frame) -> Result<(), UbusError> {
        let sent = self.stream.write_all(&Codec::write_frame(frame));
        sent.map_err(|error| UbusError::Io(error.to_string()))
    }

    fn recv(&mut self) -> Result<Option<Frame>, UbusError> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(frame) = next_frame(&mut self.input).map_err(UbusError::Io)? {
                return Ok(Some(frame));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(UbusError::Closed),
                Ok(len) => self.input.extend(chunk.iter().take(len)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {
                        return Ok(None);
                    }
                    _ => return Err(UbusError::Io(error.to_string())),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const ID: u32 = 0x2a;

    /// A frame that a broker sends: with the data of an answer, or a status.
    fn frame(kind: MsgType, seq: u16, peer: u32, fill: impl FnOnce(&mut EnvBuilder)) -> Frame {
        let mut envelope = EnvBuilder::new();
        fill(&mut envelope);
        Frame::to_peer(kind, seq, peer, envelope.finish())
    }

    /// A broker with ovpnd on it, which answers one call. Gives the arguments that came.
    fn broker(stream: UnixStream, status: i32, answer: &Value) -> Value {
        let mut broker = Broker {
            stream,
            input: Vec::new(),
        };
        let hello = frame(MsgType::Hello, 0, 7, |_| {});
        broker.send(&hello).unwrap();
        loop {
            let Some(request) = broker.recv().unwrap() else {
                continue;
            };
            let (seq, peer) = (request.hdr.seq, request.hdr.peer);
            let (status, data, args) = match InboundMsg::parse(&request).unwrap() {
                InboundMsg::Invoke { data, method, .. } => {
                    assert_eq!(method, "push_update");
                    let args = blobmsg_to_json(data.unwrap_or_default()).unwrap();
                    (status, Some(answer), Some(args))
                }
                _ => (0, None, None),
            };
            broker
                .send(&frame(MsgType::Data, seq, peer, |envelope| {
                    envelope.push_u32(UbusAttr::ObjId, ID);
                    if let Some(data) = data {
                        envelope.push_data(json_to_blobmsg(data).unwrap().contents());
                    }
                }))
                .unwrap();
            broker
                .send(&frame(MsgType::Status, seq, peer, |envelope| {
                    envelope.push_u32(UbusAttr::Status, status as u32);
                }))
                .unwrap();
            if let Some(args) = args {
                return args;
            }
        }
    }

    /// The result of a call that is answered so, and the request that the broker got.
    fn called(status: i32, answer: Value) -> (Result<Value, String>, Value) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(LOOK)).unwrap();
        let other = thread::spawn(move || broker(theirs, status, &answer));
        let args = json!({ "interface": "home", "options": ["-dns"] });
        let told = call(ours, Method::PushUpdate, &args).map_err(|failure| match failure {
            Failure::Usage(why) | Failure::Failed(why) => why,
        });
        (told, other.join().unwrap())
    }

    #[test]
    fn a_call_carries_its_arguments_and_brings_the_answer() {
        let answer = json!({ "ok": true, "sent": ["anna", "eva"], "unable": ["bob"] });
        let (told, args) = called(0, answer.clone());
        assert_eq!(args, json!({ "interface": "home", "options": ["-dns"] }));
        assert_eq!(told, Ok(answer.clone()));
        assert_eq!(
            outcome(&answer),
            "sent to: anna, eva\nunable to take it: bob\n"
        );
        let none = json!({ "ok": true, "sent": [], "unable": [] });
        assert_eq!(outcome(&none), "no client is connected\n");
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        let answer =
            json!({ "ok": false, "problems": [{ "text": "options: no" }, { "text": "two" }] });
        assert_eq!(called(2, answer).0, Err("options: no\ntwo".into()));
        assert_eq!(called(4, json!({})).0, Err("ubus: ubus status 4".into()));
    }

    #[test]
    fn a_broker_that_goes_away_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert!(call(ours, Method::Answer, &json!({})).is_err());
    }
}
