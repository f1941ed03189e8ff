//! Dead letters that are put back on a real log.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;

use atelier_runtime::{
    Header, OutRecord,
    letters::LetterReader,
    replay::{Repair, Replayer},
};
use atelier_servers::{Broker, on_each_broker};
use support::kafka::Log;

on_each_broker! {
    letters_of_every_size_go_back_to_the_partition_of_their_key,
}

/// As large as the topic takes, its headers included: more than librdkafka sends unless it is told to.
const LARGE_BYTES: usize = 1_040_000;

async fn letters_of_every_size_go_back_to_the_partition_of_their_key(broker: Broker) {
    let log = Log::start(broker).await;
    let letter = |number: usize| OutRecord {
        topic: "ingest-dead-letters".into(),
        key: Some(format!("key {number}").into()),
        headers: vec![Header::text("ce_id", "a")],
        value: Some(vec![b'x'; if number == 0 { LARGE_BYTES } else { 10 }].into()),
    };
    log.publish((0..12).map(letter).collect()).await;

    let (kafka, table) = (log.kafka.clone(), log.table.clone());
    let letters = tokio::task::spawn_blocking(move || {
        let reader = LetterReader::new(&kafka, &table).unwrap();
        reader.list(Some("ingest"), 50).unwrap()
    })
    .await
    .unwrap();
    assert_eq!(letters.len(), 12);
    let replayer = Replayer::new(&log.kafka).unwrap();
    for letter in &letters {
        replayer.replay(letter, Repair::default()).await.unwrap();
    }

    let back = log.wait_for("ingest-retry", 12).await;
    let partitions: BTreeMap<_, _> = back
        .iter()
        .map(|record| (record.key.clone(), record.source.partition))
        .collect();
    for letter in &letters {
        assert_eq!(
            partitions[&letter.record.key],
            letter.record.source.partition
        );
    }
    let largest = back
        .iter()
        .filter_map(|record| record.value.as_ref())
        .map(|value| value.len());
    assert_eq!(largest.max(), Some(LARGE_BYTES));
}
