// SPDX-License-Identifier: GPL-2.0-or-later
use super::*;
use serde_json::json;
use ubus::envelope::EnvBuilder;
use ubus::{BlobMsgTable, MsgType};

/// A bus and the broker's end of its connection.
struct Test {
    bus: Bus,
    broker: UnixStream,
    now: Instant,
}

const OBJECT_ID: u32 = 77;

impl Test {
    fn new() -> Self {
        let (broker, stream) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        broker
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let now = Instant::now();
        let mut bus = Bus::new("/nonexistent".into());
        bus.connection = Some(Connection::new(stream, now));
        Self { bus, broker, now }
    }

    fn serving() -> Self {
        let mut test = Self::new();
        test.send(MsgType::Hello, 0, 9, EnvBuilder::new());
        test.serve();
        assert_eq!(test.receive().hdr.ty, MsgType::AddObject);
        test.send(
            MsgType::Data,
            ADD_OBJECT_SEQ,
            0,
            attr(UbusAttr::ObjId, OBJECT_ID),
        );
        test.send(
            MsgType::Status,
            ADD_OBJECT_SEQ,
            0,
            attr(UbusAttr::Status, 0),
        );
        test.serve();
        assert_eq!(test.bus.next_wait(), None);
        test
    }

    fn send(&mut self, kind: MsgType, seq: u16, peer: u32, envelope: EnvBuilder) {
        let frame = Frame::to_peer(kind, seq, peer, envelope.finish());
        self.broker.write_all(&Codec::write_frame(&frame)).unwrap();
    }

    fn call(&mut self, method: &str, object: u32) -> Vec<Call> {
        let mut envelope = attr(UbusAttr::ObjId, object);
        envelope.push_str(UbusAttr::Method, method);
        let args = BlobMsgTable::build(|b| b.put_str(Some("ubus_rpc_session"), "0"));
        envelope.push_data(args.contents());
        self.send(MsgType::Invoke, 5, 1234, envelope);
        self.serve()
    }

    fn serve(&mut self) -> Vec<Call> {
        self.bus.serve(self.now)
    }

    fn receive(&mut self) -> Frame {
        let mut bytes = Vec::new();
        loop {
            match Codec::read_frame(&bytes) {
                Ok((frame, len)) if len > HEADER_SIZE => return frame,
                Ok(_) | Err(UbusError::Short { .. }) => {
                    let mut byte = [0];
                    self.broker.read_exact(&mut byte).unwrap();
                    bytes.extend(byte);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn status(&mut self) -> u32 {
        let frame = self.receive();
        assert_eq!(
            (frame.hdr.ty, frame.hdr.seq, frame.hdr.peer),
            (MsgType::Status, 5, 1234)
        );
        find(&frame.payload, UbusAttr::Status)
            .unwrap()
            .as_u32()
            .unwrap()
    }
}

fn reply(status: Status, data: Value) -> Reply {
    Reply {
        status,
        data: Some(data.into()),
    }
}

fn attr(id: UbusAttr, value: u32) -> EnvBuilder {
    let mut envelope = EnvBuilder::new();
    envelope.push_u32(id, value);
    envelope
}

#[test]
fn a_call_is_answered_with_data_and_success() {
    let mut test = Test::serving();
    let [call] = &test.call("status", OBJECT_ID)[..] else {
        panic!("no call")
    };
    assert_eq!(call.method, Method::Status);
    assert_eq!(call.args, Some(json!({"ubus_rpc_session": "0"})));
    let answer = reply(Status::Ok, json!({"n": 1u64 << 40, "list": [{"a": null}]}));
    test.bus.reply(call.from, &answer, test.now);
    let data = test.receive();
    let data = find(&data.payload, UbusAttr::Data)
        .unwrap()
        .as_blobmsg()
        .to_vec();
    assert_eq!(
        ubus::json::blobmsg_to_json(&data).unwrap(),
        json!({"n": 1u64 << 40, "list": [{"a": null}]})
    );
    assert_eq!(test.status(), 0);
    assert_eq!(test.call("reload", OBJECT_ID)[0].method, Method::Reload);
}

#[test]
fn unknown_methods_and_objects_are_refused_by_their_status() {
    let mut test = Test::serving();
    assert_eq!(test.call("erase", OBJECT_ID), []);
    assert_eq!(test.status(), 3);
    assert_eq!(test.call("status", OBJECT_ID + 1), []);
    assert_eq!(test.status(), 4);
}

#[test]
fn frames_may_come_in_pieces() {
    let mut test = Test::new();
    let frame = Codec::write_frame(&Frame::to_peer(
        MsgType::Hello,
        0,
        9,
        EnvBuilder::new().finish(),
    ));
    for byte in frame {
        assert_eq!(test.bus.connection.as_ref().unwrap().phase, Phase::Greeting);
        test.broker.write_all(&[byte]).unwrap();
        test.serve();
    }
    assert_eq!(
        test.bus.connection.as_ref().unwrap().phase,
        Phase::Adding(None)
    );
}

#[test]
fn a_broker_that_ends_refuses_talks_nonsense_or_hangs_is_left_and_tried_again() {
    type End = fn(&mut Test);
    let ends: [(&str, End); 4] = [
        ("end", |test| {
            test.broker.shutdown(std::net::Shutdown::Both).unwrap()
        }),
        ("nonsense", |test| {
            test.broker.write_all(&[0xff; 64]).unwrap()
        }),
        ("length", |test| {
            test.broker
                .write_all(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0])
                .unwrap()
        }),
        ("refuse", |test| {
            test.send(MsgType::Hello, 0, 9, EnvBuilder::new());
            test.serve();
            test.send(
                MsgType::Status,
                ADD_OBJECT_SEQ,
                0,
                attr(UbusAttr::Status, 6),
            );
        }),
    ];
    for (name, end) in ends {
        let mut test = Test::new();
        end(&mut test);
        test.serve();
        assert!(test.bus.connection.is_none(), "{name}");
        let wait = test.bus.next_wait().unwrap() - test.now;
        assert!(wait <= Duration::from_secs(1), "{name}: {wait:?}");
    }
    let mut hung = Test::new();
    hung.bus.wake(hung.now);
    assert!(hung.bus.connection.is_some());
    hung.bus.wake(hung.now + HANDSHAKE);
    assert!(hung.bus.connection.is_none());
}

#[test]
fn without_a_broker_attempts_go_on() {
    let now = Instant::now();
    let mut bus = Bus::new("/nonexistent/ubus.sock".into());
    bus.wake(now);
    let first = bus.next_wait().unwrap();
    bus.wake(now);
    assert_eq!(bus.next_wait(), Some(first));
    bus.wake(first);
    assert!(bus.next_wait().unwrap() > first);
}

#[test]
fn a_caller_that_does_not_read_is_given_up() {
    let mut test = Test::serving();
    let answer = reply(Status::Ok, json!({ "text": "x".repeat(100_000) }));
    let [call] = &test.call("status", OBJECT_ID)[..] else {
        panic!("no call")
    };
    for _ in 0..80 {
        test.bus.reply(call.from, &answer, test.now);
    }
    assert!(test.bus.connection.is_none());
}

/// An INVOKE whose arguments are these bytes.
fn invoke(test: &mut Test, args: &[u8]) -> Vec<Call> {
    let mut envelope = attr(UbusAttr::ObjId, OBJECT_ID);
    envelope.push_str(UbusAttr::Method, "peers");
    envelope.push_data(args);
    test.send(MsgType::Invoke, 5, 1234, envelope);
    test.serve()
}

#[test]
fn arguments_cut_anywhere_are_answered_and_the_next_call_is_served() {
    let whole = BlobMsgTable::build(|b| {
        b.put_str(Some("interface"), "vpn0");
        b.open_table(Some("options"));
        b.put_i32(Some("limit"), 5);
        b.close_table();
    });
    let whole = whole.contents();
    let mut test = Test::serving();
    let mut refused = 0;
    for len in 0..whole.len() {
        let calls = invoke(&mut test, &whole[..len]);
        let [call] = &calls[..] else {
            panic!("{len}: {calls:?}")
        };
        if call.args.is_none() {
            refused += 1;
            let answer = crate::api::with_args(None, |_| -> Result<Value, _> {
                panic!("the method is called")
            });
            assert_eq!(answer.status, Status::InvalidArgument);
        }
    }
    // Between two arguments a cut leaves a whole message.
    assert!(refused > whole.len() / 2, "{refused} of {}", whole.len());
    let args = invoke(&mut test, whole)[0].args.clone();
    assert_eq!(args.unwrap()["options"]["limit"], 5);
}

#[test]
fn arguments_of_every_type_and_any_nonsense_leave_the_connection() {
    let mut test = Test::serving();
    for kind in 0..=255u8 {
        let calls = invoke(
            &mut test,
            &[0x80 | kind, 0, 0, 12, 0, 1, b'x', 0, 0, 0, 0, 1],
        );
        assert_eq!(calls.len(), 1, "type {kind}");
    }
    // A length that reaches beyond the message.
    assert_eq!(
        invoke(&mut test, &[0x83, 0xff, 0xff, 0xff, 0, 0, 0, 0])[0].args,
        None
    );
    assert!(test.bus.connection.is_some());
}

#[test]
fn an_answer_longer_than_a_message_is_an_error_and_not_sent() {
    let mut test = Test::serving();
    let [call] = &test.call("status", OBJECT_ID)[..] else {
        panic!("no call")
    };
    let long = reply(Status::Ok, json!({ "text": "x".repeat(MAX_FRAME) }));
    test.bus.reply(call.from, &long, test.now);
    assert_eq!(test.status(), Status::UnknownError as u32);
}

#[test]
fn another_s_object_is_looked_up_and_called() {
    let mut test = Test::serving();
    let args = json!({"interface": "vpn0"});
    for method in ["down", "up"] {
        test.bus
            .call("network.interface", method, args.clone(), test.now);
    }
    // The second question is asked before the first is answered: the calls keep their order.
    let asked = [test.receive(), test.receive()];
    for frame in &asked {
        assert_eq!(frame.hdr.ty, MsgType::Lookup);
        let path = find(&frame.payload, UbusAttr::ObjPath).unwrap();
        assert_eq!(path.as_str(), Some("network.interface"));
    }
    for (frame, method) in asked.iter().zip(["down", "up"]) {
        test.send(MsgType::Data, frame.hdr.seq, 0, attr(UbusAttr::ObjId, 99));
        test.send(MsgType::Status, frame.hdr.seq, 0, attr(UbusAttr::Status, 0));
        test.serve();
        let call = test.receive();
        assert_eq!((call.hdr.ty, call.hdr.peer), (MsgType::Invoke, 99));
        let named = find(&call.payload, UbusAttr::Method).unwrap();
        assert_eq!(named.as_str(), Some(method));
        let data = find(&call.payload, UbusAttr::Data).unwrap();
        assert_eq!(blobmsg_to_json(data.as_blobmsg()).unwrap(), args);
    }
    // An object that is not there is forgotten, and the bus goes on.
    test.bus.call("network.interface", "renew", args, test.now);
    let seq = test.receive().hdr.seq;
    test.send(MsgType::Status, seq, 0, attr(UbusAttr::Status, 4));
    assert_eq!(test.serve(), []);
    assert!(test.bus.is_serving());
    assert_eq!(test.call("status", OBJECT_ID).len(), 1);
}

#[test]
fn events_that_the_broker_does_not_read_are_counted_and_not_kept() {
    let mut test = Test::serving();
    let data = json!({ "text": "x".repeat(1024) });
    for _ in 0..1000 {
        test.bus.notify("peer.up", &data, test.now);
    }
    let lost = test.bus.events_lost();
    assert!((1..1000).contains(&lost), "{lost} lost");
    let waiting = test.bus.connection.as_ref().unwrap().output.len();
    assert!(
        (MAX_NOTICE_BACKLOG..MAX_NOTICE_BACKLOG + 8192).contains(&waiting),
        "{waiting} bytes"
    );
}
