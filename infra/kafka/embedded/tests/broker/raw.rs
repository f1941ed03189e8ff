//! Requests written byte by byte: what a client library would never send twice, or wrong, on purpose.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::support::{PATIENCE, TestBroker, values};

const PRODUCE: i16 = 0;
const INIT_PRODUCER_ID: i16 = 22;
const API_VERSIONS: i16 = 18;

const CORRUPT_MESSAGE: i16 = 2;
const INVALID_REQUIRED_ACKS: i16 = 21;
const UNSUPPORTED_VERSION: i16 = 35;
const UNSUPPORTED_FOR_MESSAGE_FORMAT: i16 = 43;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const INVALID_RECORD: i16 = 87;

/// A connection on which frames are written by hand.
pub struct RawClient {
    stream: TcpStream,
}

impl RawClient {
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request with header version 1.
    pub fn send(&mut self, key: i16, version: i16, body: &[u8]) {
        let mut frame = Vec::new();
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&7_i32.to_be_bytes());
        frame.extend_from_slice(&3_i16.to_be_bytes());
        frame.extend_from_slice(b"raw");
        frame.extend_from_slice(body);
        let length = i32::try_from(frame.len()).unwrap();
        self.send_bytes(&length.to_be_bytes()).unwrap();
        self.send_bytes(&frame).unwrap();
    }

    /// The body of the next answer.
    pub fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer[..4], &7_i32.to_be_bytes());
        answer.split_off(4)
    }

    /// Whether the broker closes the connection without an answer.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.stream.read(&mut byte), Ok(0) | Err(_))
    }

    fn new_producer(&mut self) -> (i64, i16) {
        let mut body = (-1_i16).to_be_bytes().to_vec();
        body.extend_from_slice(&60_000_i32.to_be_bytes());
        self.send(INIT_PRODUCER_ID, 0, &body);
        let answer = self.receive();
        assert_eq!(i16::from_be_bytes([answer[4], answer[5]]), 0);
        (
            i64::from_be_bytes(answer[6..14].try_into().unwrap()),
            i16::from_be_bytes([answer[14], answer[15]]),
        )
    }

    /// Produces one batch to partition 0 of `t`; returns the error code and the base offset.
    fn produce(&mut self, acks: i16, batch: &[u8]) -> (i16, i64) {
        self.send(PRODUCE, 3, &produce_body(acks, batch));
        let answer = self.receive();
        // One topic "t", one partition: [count][2 + 1 name][count][index] code offset …
        let at = 4 + 3 + 4 + 4;
        let code = i16::from_be_bytes([answer[at], answer[at + 1]]);
        (
            code,
            i64::from_be_bytes(answer[at + 2..at + 10].try_into().unwrap()),
        )
    }
}

fn produce_body(acks: i16, batch: &[u8]) -> Vec<u8> {
    let mut body = (-1_i16).to_be_bytes().to_vec();
    body.extend_from_slice(&acks.to_be_bytes());
    body.extend_from_slice(&30_000_i32.to_be_bytes());
    body.extend_from_slice(&1_i32.to_be_bytes());
    body.extend_from_slice(&[0, 1, b't']);
    body.extend_from_slice(&1_i32.to_be_bytes());
    body.extend_from_slice(&0_i32.to_be_bytes());
    body.extend_from_slice(&i32::try_from(batch.len()).unwrap().to_be_bytes());
    body.extend_from_slice(batch);
    body
}

/// A batch of one record per value, each shorter than 50 bytes.
#[derive(Clone)]
struct Batch {
    producer_id: i64,
    epoch: i16,
    sequence: i32,
    attributes: i16,
    values: Vec<&'static str>,
}

impl Batch {
    fn plain(values: &[&'static str]) -> Self {
        Self {
            producer_id: -1,
            epoch: -1,
            sequence: -1,
            attributes: 0,
            values: values.to_vec(),
        }
    }

    fn idempotent(producer: (i64, i16), sequence: i32, values: &[&'static str]) -> Self {
        Self {
            producer_id: producer.0,
            epoch: producer.1,
            sequence,
            ..Self::plain(values)
        }
    }

    fn encode(&self) -> Vec<u8> {
        let zigzag = |number: usize| u8::try_from(number * 2).unwrap();
        let mut records = Vec::new();
        for (index, value) in self.values.iter().enumerate() {
            let mut record = vec![0, 0, zigzag(index), 1, zigzag(value.len())];
            record.extend_from_slice(value.as_bytes());
            record.push(0);
            records.push(zigzag(record.len()));
            records.extend_from_slice(&record);
        }
        let count = i32::try_from(self.values.len()).unwrap();
        let mut checked = self.attributes.to_be_bytes().to_vec();
        checked.extend_from_slice(&(count - 1).to_be_bytes());
        checked.extend_from_slice(&1_000_i64.to_be_bytes());
        checked.extend_from_slice(&1_000_i64.to_be_bytes());
        checked.extend_from_slice(&self.producer_id.to_be_bytes());
        checked.extend_from_slice(&self.epoch.to_be_bytes());
        checked.extend_from_slice(&self.sequence.to_be_bytes());
        checked.extend_from_slice(&count.to_be_bytes());
        checked.extend_from_slice(&records);
        let mut batch = 0_i64.to_be_bytes().to_vec();
        batch.extend_from_slice(&i32::try_from(checked.len() + 9).unwrap().to_be_bytes());
        batch.extend_from_slice(&(-1_i32).to_be_bytes());
        batch.push(2);
        batch.extend_from_slice(&crc32c::crc32c(&checked).to_be_bytes());
        batch.extend_from_slice(&checked);
        batch
    }
}

#[test]
fn a_batch_sent_again_is_stored_once() {
    let mut broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let mut client = RawClient::connect(&broker.address);
    let producer = client.new_producer();
    let first = Batch::idempotent(producer, 0, &["a", "b"]).encode();
    let second = Batch::idempotent(producer, 2, &["c"]).encode();
    assert_eq!(client.produce(-1, &first), (0, 0));
    assert_eq!(
        client.produce(-1, &first),
        (0, 0),
        "the repeat is told the first copy's offset"
    );
    assert_eq!(client.produce(-1, &second), (0, 2));
    assert_eq!(client.produce(-1, &first), (0, 0));
    let gap = Batch::idempotent(producer, 9, &["x"]).encode();
    assert_eq!(client.produce(-1, &gap).0, OUT_OF_ORDER_SEQUENCE_NUMBER);
    broker.kill();
    broker.start_again();
    let mut client = RawClient::connect(&broker.address);
    assert_eq!(
        client.produce(-1, &second),
        (0, 2),
        "a restart does not forget"
    );
    let newer = (producer.0, producer.1 + 1);
    assert_eq!(
        client.produce(-1, &Batch::idempotent(newer, 0, &["d"]).encode()),
        (0, 3)
    );
    assert_eq!(
        client
            .produce(-1, &Batch::idempotent(producer, 3, &["x"]).encode())
            .0,
        INVALID_PRODUCER_EPOCH
    );
    assert_eq!(
        values(&broker.read_all("t", 0, "read_committed")),
        ["a", "b", "c", "d"]
    );
    let (other, _) = client.new_producer();
    assert_ne!(other, producer.0, "a producer id was given out twice");
}

#[test]
fn batches_that_break_a_rule_are_refused_with_kafkas_code() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let mut client = RawClient::connect(&broker.address);
    let good = Batch::plain(&["x"]);
    let mut corrupt = good.encode();
    *corrupt.last_mut().unwrap() ^= 0xff;
    assert_eq!(client.produce(-1, &corrupt).0, CORRUPT_MESSAGE);
    let mut cut_short = good.encode();
    cut_short.pop();
    assert_eq!(client.produce(-1, &cut_short).0, CORRUPT_MESSAGE);
    let mut old_format = good.encode();
    old_format[16] = 1;
    assert_eq!(
        client.produce(-1, &old_format).0,
        UNSUPPORTED_FOR_MESSAGE_FORMAT
    );
    let with_attributes = |attributes| {
        Batch {
            attributes,
            ..good.clone()
        }
        .encode()
    };
    assert_eq!(
        client.produce(-1, &with_attributes(7)).0,
        UNSUPPORTED_COMPRESSION_TYPE
    );
    assert_eq!(
        client.produce(-1, &with_attributes(0x20)).0,
        INVALID_RECORD,
        "a control batch"
    );
    let two = [good.encode(), good.encode()].concat();
    assert_eq!(client.produce(-1, &two).0, INVALID_RECORD, "two batches");
    assert_eq!(client.produce(5, &good.encode()).0, INVALID_REQUIRED_ACKS);
    let stray = Batch {
        attributes: 0x10,
        ..Batch::idempotent((424_242, 0), 0, &["x"])
    };
    assert_eq!(
        client.produce(-1, &stray.encode()).0,
        INVALID_PRODUCER_ID_MAPPING
    );
    assert!(broker.read_all("t", 0, "read_uncommitted").is_empty());
    assert_eq!(client.produce(1, &good.encode()), (0, 0));
}

#[test]
fn a_transactional_batch_outside_a_transaction_is_refused() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let mut client = RawClient::connect(&broker.address);
    let mut body = [0, 2, b't', b'x'].to_vec();
    body.extend_from_slice(&60_000_i32.to_be_bytes());
    client.send(INIT_PRODUCER_ID, 0, &body);
    let answer = client.receive();
    let producer = (i64::from_be_bytes(answer[6..14].try_into().unwrap()), 0);
    let stray = Batch {
        attributes: 0x10,
        ..Batch::idempotent(producer, 0, &["x"])
    };
    assert_eq!(client.produce(-1, &stray.encode()).0, INVALID_TXN_STATE);
}

#[test]
fn without_acks_there_is_no_answer() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let mut client = RawClient::connect(&broker.address);
    client.send(
        PRODUCE,
        3,
        &produce_body(0, &Batch::plain(&["quiet"]).encode()),
    );
    assert_eq!(
        client.produce(1, &Batch::plain(&["loud"]).encode()),
        (0, 1),
        "the first answer is the second request's"
    );
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let mut client = RawClient::connect(&broker.address);
    for _ in 0..100 {
        client.send(
            PRODUCE,
            3,
            &produce_body(-1, &Batch::plain(&["x"]).encode()),
        );
    }
    for expected in 0..100 {
        let answer = client.receive();
        assert_eq!(
            i64::from_be_bytes(answer[17..25].try_into().unwrap()),
            expected
        );
    }
}

#[test]
fn a_newer_client_is_told_what_is_served() {
    let broker = TestBroker::start();
    let mut client = RawClient::connect(&broker.address);
    client.send(API_VERSIONS, 99, &[]);
    let answer = client.receive();
    assert_eq!(
        i16::from_be_bytes([answer[0], answer[1]]),
        UNSUPPORTED_VERSION
    );
    let count = i32::from_be_bytes(answer[2..6].try_into().unwrap());
    let keys: Vec<i16> = answer[6..]
        .chunks(6)
        .map(|row| i16::from_be_bytes([row[0], row[1]]))
        .collect();
    assert_eq!(keys.len(), usize::try_from(count).unwrap());
    let (sasl, acls, consumer_group_heartbeat) = (17, 29, 68);
    for absent in [sasl, acls, consumer_group_heartbeat] {
        assert!(!keys.contains(&absent), "{absent} is advertised");
        let mut other = RawClient::connect(&broker.address);
        other.send(absent, 0, &[0; 16]);
        assert!(other.is_closed());
    }
}
