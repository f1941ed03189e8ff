//! Reads a topic from given offsets without a group: for the gateway's live progress.
//!
//! Invariant: every committed record from the given offsets on is seen, once, in the order of its partition.

use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    log_access::{LogAccessError, LogReader, Offsets, blocking},
    options::KafkaOptions,
    record::InRecord,
};

/// Records that may wait for a slow reader.
const BUFFERED_RECORDS: usize = 1_024;
pub(crate) const GROUP: &str = "atelier-tail";

/// The offsets behind the last committed record of each partition of `topic`.
///
/// # Errors
/// [`LogAccessError`] where the broker cannot be asked or the topic is not there.
pub async fn ends(kafka: &KafkaOptions, topic: &str) -> Result<Offsets, LogAccessError> {
    let (kafka, topic) = (kafka.clone(), topic.to_owned());
    blocking(move || LogReader::connect(&kafka, GROUP)?.ends(&topic)).await
}

/// Every committed record of `topic` from the offsets `from` on, without an end; a partition that is not named starts at
/// its beginning. Outages of the broker are waited for; after an error the stream ends. Dropping it stops the reading.
pub fn tail(
    kafka: &KafkaOptions,
    topic: &str,
    from: Offsets,
) -> impl Stream<Item = Result<InRecord, LogAccessError>> + Send + use<> {
    let (sender, receiver) = mpsc::channel(BUFFERED_RECORDS);
    let (kafka, topic) = (kafka.clone(), topic.to_owned());
    // A thread of its own: it lives as long as its reader, which would use up Tokio's blocking threads.
    std::thread::spawn(move || {
        let outcome = LogReader::connect(&kafka, GROUP).and_then(|reader| {
            reader.follow(&topic, &from, |record| match record {
                Some(record) => sender.blocking_send(Ok(record)).is_ok(),
                None => !sender.is_closed(),
            })
        });
        if let Err(error) = outcome {
            // Nobody may be listening any more.
            let _ = sender.blocking_send(Err(error));
        }
    });
    ReceiverStream::new(receiver)
}

/// The committed records of `topic` between `from` and `to` (not included), on the partitions that `to` names, in the order of
/// each partition. A partition that `from` does not name starts at its beginning.
///
/// # Errors
/// [`LogAccessError`] where the broker cannot be asked or the topic is not there.
pub async fn read(
    kafka: &KafkaOptions,
    topic: &str,
    from: Offsets,
    to: Offsets,
) -> Result<Vec<InRecord>, LogAccessError> {
    let (kafka, topic) = (kafka.clone(), topic.to_owned());
    blocking(move || {
        let reader = LogReader::connect(&kafka, GROUP)?;
        let mut starts = reader.beginnings(&topic)?;
        for (partition, start) in from {
            // What is no longer kept cannot be read: the first record that is takes its place.
            starts
                .entry(partition)
                .and_modify(|beginning| *beginning = (*beginning).max(start));
        }
        let mut records = Vec::new();
        reader.scan(&topic, &starts, &to, |record| {
            records.push(record);
            true
        })?;
        Ok(records)
    })
    .await
}

/// The partition that a key has among `partitions`, as this project's producers and Java's choose it (murmur2).
pub fn partition_of_key(key: &[u8], partitions: i32) -> i32 {
    // The mask leaves a number that fits.
    let positive = i32::try_from(murmur2(key) & 0x7fff_ffff).unwrap_or(i32::MAX);
    positive % partitions.max(1)
}

fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    for (index, byte) in rest.iter().enumerate() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_javas_client_does() {
        // From the tests of Apache Kafka's `Utils.murmur2`.
        let known: [(&str, i32); 4] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()), hash.cast_unsigned(), "{key}");
        }
    }
}
