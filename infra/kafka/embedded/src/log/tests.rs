//! Property tests: whatever a crash does to the tail of a log, what is whole before it comes back, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::Partition;
use super::appending::CheckedBatch;
use super::batch::{BatchHeader, Marker, put_varint};
use super::partition::PartitionLog;
use super::reading::Isolation;
use crate::topics::TopicConfig;

const PRODUCER: i64 = 5;

fn config(overrides: &[(&str, &str)]) -> Arc<TopicConfig> {
    let overrides: BTreeMap<String, String> = overrides
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Arc::new(TopicConfig::from_overrides(&overrides).unwrap())
}

fn batch(sequence: i32, transactional: bool, records: &[(&str, Option<&str>)]) -> Bytes {
    let mut payload = Vec::new();
    for (index, (key, value)) in records.iter().enumerate() {
        let mut record = vec![0];
        put_varint(&mut record, 0);
        put_varint(&mut record, i64::try_from(index).unwrap());
        put_varint(&mut record, i64::try_from(key.len()).unwrap());
        record.extend_from_slice(key.as_bytes());
        put_varint(
            &mut record,
            value.map_or(-1, |value| i64::try_from(value.len()).unwrap()),
        );
        record.extend_from_slice(value.unwrap_or("").as_bytes());
        record.push(0);
        put_varint(&mut payload, i64::try_from(record.len()).unwrap());
        payload.extend_from_slice(&record);
    }
    let count = i32::try_from(records.len()).unwrap();
    let header = BatchHeader {
        base_offset: 0,
        total_bytes: 0,
        magic: 2,
        crc: 0,
        attributes: if transactional { 0x10 } else { 0 },
        last_offset_delta: count - 1,
        first_timestamp_ms: 1_000,
        max_timestamp_ms: 1_000,
        producer_id: PRODUCER,
        producer_epoch: 0,
        base_sequence: sequence,
        record_count: count,
    };
    let mut bytes = header.seal(&payload).to_vec();
    bytes.extend_from_slice(&payload);
    bytes.into()
}

fn append(log: &mut PartitionLog, bytes: Bytes) -> i64 {
    let checked = CheckedBatch::check(bytes, &log.config.clone()).unwrap();
    log.append(&checked, 0).unwrap().base_offset
}

fn read_everything(log: &PartitionLog, isolation: Isolation) -> Vec<u8> {
    let mut all = Vec::new();
    let mut offset = log.log_start();
    loop {
        let records = log
            .plan_read(offset, isolation)
            .unwrap()
            .carry_out(1_000_000, true)
            .unwrap()
            .records;
        if records.is_empty() {
            return all;
        }
        let mut at = 0;
        while let Some(header) = BatchHeader::parse(&records[at..]) {
            offset = header.next_offset();
            at += header.total_bytes;
        }
        all.extend_from_slice(&records);
    }
}

/// Where the batches of a segment file end.
fn batch_ends(bytes: &[u8]) -> Vec<(usize, i64)> {
    let mut ends = vec![(0, 0)];
    let mut at = 0;
    while let Some(header) = bytes.get(at..).and_then(BatchHeader::parse) {
        at += header.total_bytes;
        ends.push((at, header.next_offset()));
    }
    ends
}

fn fill(dir: &Path, sizes: &[u8]) -> Vec<u8> {
    let mut log = PartitionLog::open(dir, config(&[]), false, 0).unwrap();
    let mut sequence = 0;
    for (number, size) in sizes.iter().enumerate() {
        let text = "x".repeat(usize::from(*size));
        let transactional = number % 3 == 1;
        append(
            &mut log,
            batch(sequence, transactional, &[("k", Some(&text)), ("l", None)]),
        );
        sequence += 2;
        if transactional {
            let marker = if number % 2 == 0 {
                Marker::Commit
            } else {
                Marker::Abort
            };
            log.append_marker(PRODUCER, 0, marker, 0).unwrap();
        }
    }
    std::fs::read(dir.join("00000000000000000000.log")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cut_tail_leaves_every_whole_batch(sizes in prop::collection::vec(0_u8..200, 1..12), cut in 0.0_f64..1.0) {
        let dir = tempfile::tempdir().unwrap();
        let whole = fill(dir.path(), &sizes);
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a random cut")]
        let keep = (whole.len() as f64 * cut) as usize;
        std::fs::write(dir.path().join("00000000000000000000.log"), &whole[..keep]).unwrap();
        let log = PartitionLog::open(dir.path(), config(&[]), true, 0).unwrap();
        let (end, next_offset) = batch_ends(&whole).into_iter().rev().find(|(end, _)| *end <= keep).unwrap();
        prop_assert_eq!(log.next_offset(), next_offset);
        prop_assert_eq!(read_everything(&log, Isolation::ReadUncommitted), &whole[..end]);
    }

    #[test]
    fn a_flipped_byte_hides_its_batch_and_what_follows(
        sizes in prop::collection::vec(0_u8..200, 1..12),
        at in 0.0_f64..1.0,
        flip in 1_u8..=255,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let whole = fill(dir.path(), &sizes);
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a random place")]
        let at = (whole.len() as f64 * at) as usize;
        let mut damaged = whole.clone();
        damaged[at] ^= flip;
        std::fs::write(dir.path().join("00000000000000000000.log"), &damaged).unwrap();
        let mut log = PartitionLog::open(dir.path(), config(&[]), false, 0).unwrap();
        let (start, _) = batch_ends(&whole).into_iter().rev().find(|(end, _)| *end <= at).unwrap();
        let in_batch = at - start;
        // The base offset and the leader epoch are not covered by the checksum; a larger offset is a gap, as compaction makes.
        if !(0..8).contains(&in_batch) && !(12..16).contains(&in_batch) {
            prop_assert_eq!(read_everything(&log, Isolation::ReadUncommitted), &whole[..start]);
        }
        let next = log.next_offset();
        let sequence = i32::try_from(sizes.len() * 2).unwrap();
        let mut fresh = batch(sequence, false, &[("after", Some("crash"))]).to_vec();
        // Another producer: what the damaged tail did to the first one's sequences is not the question.
        fresh = { let mut header = BatchHeader::parse(&fresh).unwrap(); header.producer_id = 99; header.base_sequence = 0;
            let payload = fresh[61..].to_vec(); let mut sealed = header.seal(&payload).to_vec(); sealed.extend_from_slice(&payload); sealed };
        prop_assert_eq!(append(&mut log, fresh.into()), next);
    }

    #[test]
    fn recovery_knows_what_the_running_log_knew(sizes in prop::collection::vec(0_u8..200, 1..30)) {
        let dir = tempfile::tempdir().unwrap();
        let small = config(&[("segment.bytes", "1024")]);
        let mut log = PartitionLog::open(dir.path(), Arc::clone(&small), false, 0).unwrap();
        for (sequence, (number, size)) in (0..).zip(sizes.iter().enumerate()) {
            append(&mut log, batch(sequence, number % 2 == 0, &[("k", Some(&"x".repeat(usize::from(*size))))]));
            if number % 4 == 2 {
                log.append_marker(PRODUCER, 0, Marker::Abort, 0).unwrap();
            }
        }
        let known = |log: &PartitionLog| {
            let facts: Vec<_> = log.all_segments().map(|segment| segment.facts.clone()).collect();
            (facts, log.producers().clone(), log.watermarks())
        };
        let before = known(&log);
        drop(log);
        let with_facts_beside = PartitionLog::open(dir.path(), Arc::clone(&small), false, 0).unwrap();
        prop_assert_eq!(&known(&with_facts_beside), &before);
        drop(with_facts_beside);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "facts") {
                std::fs::remove_file(path).unwrap();
            }
        }
        let from_logs_alone = PartitionLog::open(dir.path(), small, false, 0).unwrap();
        prop_assert_eq!(&known(&from_logs_alone), &before);
    }
}

#[test]
fn reads_start_at_any_offset_and_respect_their_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut log =
        PartitionLog::open(dir.path(), config(&[("segment.bytes", "100000")]), false, 0).unwrap();
    let value = "x".repeat(5_000);
    for sequence in 0..100 {
        append(
            &mut log,
            batch(
                sequence * 2,
                false,
                &[("k", Some(&value)), ("l", Some("y"))],
            ),
        );
    }
    for offset in 0..200 {
        let slice = log
            .plan_read(offset, Isolation::ReadCommitted)
            .unwrap()
            .carry_out(12_000, false)
            .unwrap();
        let first = BatchHeader::parse(&slice.records).unwrap();
        assert!(first.base_offset <= offset && first.last_offset() >= offset);
        assert!(slice.records.len() <= 12_000);
        let none = log
            .plan_read(offset, Isolation::ReadCommitted)
            .unwrap()
            .carry_out(10, false)
            .unwrap();
        assert!(none.records.is_empty());
        let one = log
            .plan_read(offset, Isolation::ReadCommitted)
            .unwrap()
            .carry_out(10, true)
            .unwrap();
        assert_eq!(one.records.len(), first.total_bytes);
    }
    assert!(log.plan_read(201, Isolation::ReadCommitted).is_err());
}

#[test]
fn aborted_transactions_are_named_to_those_who_read_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = PartitionLog::open(dir.path(), config(&[]), false, 0).unwrap();
    append(&mut log, batch(0, true, &[("k", Some("aborted"))]));
    assert_eq!(log.last_stable_offset(), 0);
    log.append_marker(PRODUCER, 0, Marker::Abort, 0).unwrap();
    append(&mut log, batch(1, true, &[("k", Some("committed"))]));
    log.append_marker(PRODUCER, 0, Marker::Commit, 0).unwrap();
    let slice = log
        .plan_read(0, Isolation::ReadCommitted)
        .unwrap()
        .carry_out(1_000_000, true)
        .unwrap();
    assert_eq!(slice.aborted.len(), 1);
    assert_eq!(
        (slice.aborted[0].producer_id, slice.aborted[0].first_offset),
        (PRODUCER, 0)
    );
    let later = log
        .plan_read(2, Isolation::ReadCommitted)
        .unwrap()
        .carry_out(1_000_000, true)
        .unwrap();
    assert!(later.aborted.is_empty());
}

#[test]
fn an_interrupted_compaction_leaves_the_old_segment() {
    let dir = tempfile::tempdir().unwrap();
    let settings = config(&[
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1024"),
        ("min.cleanable.dirty.ratio", "0"),
    ]);
    let mut log = PartitionLog::open(dir.path(), Arc::clone(&settings), true, 0).unwrap();
    for sequence in 0..60 {
        append(
            &mut log,
            batch(
                sequence,
                false,
                &[(
                    ["a", "b"][usize::try_from(sequence).unwrap() % 2],
                    Some("value"),
                )],
            ),
        );
    }
    // What a crash leaves before the rename.
    std::fs::write(
        dir.path().join("00000000000000000000.new"),
        b"half a segment",
    )
    .unwrap();
    let before = read_everything(&log, Isolation::ReadUncommitted);
    drop(log);
    let log = PartitionLog::open(dir.path(), settings, true, 0).unwrap();
    assert_eq!(read_everything(&log, Isolation::ReadUncommitted), before);
    assert!(!dir.path().join("00000000000000000000.new").exists());
    let partition = Partition::new("t".to_owned(), 0, log);
    let compacted = partition.compact(1_000_000).unwrap().unwrap();
    assert!(compacted.bytes_after < compacted.bytes_before);
    let log = partition.log();
    assert!(read_everything(&log, Isolation::ReadUncommitted).len() < before.len());
    assert_eq!(log.next_offset(), 60);
}
