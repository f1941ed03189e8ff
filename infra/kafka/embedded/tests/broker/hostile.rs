//! Bytes that no client sends: each ends its own connection, and nothing else.

use super::raw::RawClient;
use super::support::{TestBroker, send};

const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;

fn resident_bytes(broker: &TestBroker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1_024
}

/// The same bytes in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| byte()).collect()
}

#[test]
fn lengths_that_lie_end_the_connection_and_cost_no_memory() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let producer = broker.producer(&[]);
    let huge_array = [&i32::MAX.to_be_bytes()[..], &[0; 100]].concat();
    let mut open = Vec::new();
    for _ in 0..50 {
        // Claims two gigabytes in a frame, and in an array inside a small frame; claims a large produce and sends little.
        let mut client = RawClient::connect(&broker.address);
        client
            .send_bytes(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 3])
            .unwrap();
        assert!(client.is_closed());
        let mut client = RawClient::connect(&broker.address);
        client.send(METADATA, 1, &huge_array);
        assert!(client.is_closed());
        let mut client = RawClient::connect(&broker.address);
        client.send_bytes(&(-5_i32).to_be_bytes()).unwrap();
        client.send_bytes(&[0, 0]).unwrap();
        assert!(client.is_closed());
        let mut client = RawClient::connect(&broker.address);
        client
            .send_bytes(&[&(30_000_000_i32).to_be_bytes()[..], &[0, 0, 0, 3, 0, 0]].concat())
            .unwrap();
        open.push(client);
    }
    let resident = resident_bytes(&broker);
    assert!(resident < 100 * 1024 * 1024, "{resident} bytes resident");
    assert_eq!(send(&producer, "t", 0, "k", "v"), 0);
}

#[test]
fn noise_ends_only_its_own_connection() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let producer = broker.producer(&[]);
    for seed in 0..300 {
        let mut client = RawClient::connect(&broker.address);
        let body = noise(seed, usize::try_from(seed).unwrap() * 7 % 500 + 8);
        if seed % 3 == 0 {
            // Raw noise; the broker may have closed before all of it is sent.
            let _ = client.send_bytes(&body);
            continue;
        }
        // A header that is right, a body that is not; every request there is, in every version.
        let key = i16::try_from(seed % 70).unwrap();
        let version = i16::try_from(seed % 13).unwrap();
        client.send(key, version, &body);
        // `ApiVersions` is answered in every version, so that a newer client learns what there is.
        if seed % 3 == 1 && key != API_VERSIONS {
            assert!(
                client.is_closed(),
                "request {key} version {version} of seed {seed} was answered"
            );
        }
    }
    assert_eq!(send(&producer, "t", 0, "k", "v"), 0);
}

#[test]
fn a_request_cut_short_leaves_nothing_behind() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    for _ in 0..100 {
        let mut client = RawClient::connect(&broker.address);
        client
            .send_bytes(&[0, 0, 0, 200, 0, 0, 0, 3, 1, 2, 3])
            .unwrap();
    }
    assert!(broker.read_all("t", 0, "read_uncommitted").is_empty());
    assert_eq!(send(&broker.producer(&[]), "t", 0, "k", "v"), 0);
}
