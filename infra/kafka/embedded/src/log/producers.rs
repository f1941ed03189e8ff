//! What a partition remembers of its producers: epochs, the last five batches, open transactions.
//!
//! Invariant: the table is a function of the batches in the log, in order; recovery replays the same [`ProducerTable::note`]
//! that an append calls, so a restart refuses and recognises exactly what the running broker would have.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::batch::{BatchHeader, Marker, NO_PRODUCER_ID, advance_sequence};

/// Kafka's bound on requests in flight of an idempotent producer, and so on what a repeat can be.
const REMEMBERED_BATCHES: usize = 5;

/// One batch that a producer may send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedBatch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    timestamp_ms: i64,
}

/// One producer's state in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Producer {
    /// The epoch of its latest batch or marker.
    pub epoch: i16,
    /// The last batches of that epoch, oldest first.
    batches: VecDeque<RememberedBatch>,
    /// First offset of its open transaction here.
    pub open_since: Option<i64>,
    /// Time of its latest batch or marker, milliseconds.
    pub last_timestamp_ms: i64,
}

impl Producer {
    /// Sequence of the last record, -1 when none is known for the epoch.
    pub fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(-1, |batch| batch.last_sequence)
    }
}

/// What the table says about a batch that wants to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one.
    Fresh,
    /// It is stored already, at this offset.
    Duplicate {
        /// Where the first copy lies.
        base_offset: i64,
        /// The first copy's time, milliseconds.
        timestamp_ms: i64,
    },
    /// A later epoch has been seen.
    StaleEpoch {
        /// The epoch in force.
        current: i16,
    },
    /// Batches are missing between the last one and this one, or it is too old to recognise.
    OutOfOrder {
        /// The sequence that would have been next.
        expected: i32,
    },
}

/// A transaction that was aborted; its records lie between these offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortedTransaction {
    /// Who wrote it.
    pub producer_id: i64,
    /// Its first record.
    pub first_offset: i64,
    /// Its abort marker.
    pub last_offset: i64,
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerTable {
    producers: HashMap<i64, Producer>,
    /// First offset of every open transaction, and whose it is.
    open: BTreeMap<i64, i64>,
}

impl ProducerTable {
    /// Judges a batch before it is appended.
    pub fn judge(&self, batch: &BatchHeader) -> Verdict {
        if batch.producer_id == NO_PRODUCER_ID {
            return Verdict::Fresh;
        }
        let Some(producer) = self.producers.get(&batch.producer_id) else {
            return Verdict::Fresh;
        };
        if batch.producer_epoch < producer.epoch {
            return Verdict::StaleEpoch {
                current: producer.epoch,
            };
        }
        if batch.producer_epoch > producer.epoch {
            return if batch.base_sequence == 0 {
                Verdict::Fresh
            } else {
                Verdict::OutOfOrder { expected: 0 }
            };
        }
        let repeated = producer.batches.iter().find(|known| {
            known.first_sequence == batch.base_sequence
                && known.last_sequence == batch.last_sequence()
        });
        if let Some(known) = repeated {
            return Verdict::Duplicate {
                base_offset: known.base_offset,
                timestamp_ms: known.timestamp_ms,
            };
        }
        let expected = match producer.batches.back() {
            Some(last) => advance_sequence(last.last_sequence, 1),
            None => 0,
        };
        if batch.base_sequence == expected {
            Verdict::Fresh
        } else {
            Verdict::OutOfOrder { expected }
        }
    }

    /// Takes a data batch, now in the log, into account.
    pub fn note(&mut self, batch: &BatchHeader) {
        if batch.producer_id == NO_PRODUCER_ID {
            return;
        }
        let producer = self.producers.entry(batch.producer_id).or_default();
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(RememberedBatch {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset,
            timestamp_ms: batch.max_timestamp_ms,
        });
        producer.last_timestamp_ms = batch.max_timestamp_ms;
        if batch.is_transactional() && producer.open_since.is_none() {
            producer.open_since = Some(batch.base_offset);
            self.open.insert(batch.base_offset, batch.producer_id);
        }
    }

    /// Takes a marker, now in the log, into account; returns the transaction that it aborted.
    pub fn note_marker(
        &mut self,
        batch: &BatchHeader,
        marker: Marker,
    ) -> Option<AbortedTransaction> {
        let producer = self.producers.entry(batch.producer_id).or_default();
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        producer.last_timestamp_ms = batch.max_timestamp_ms;
        let first_offset = producer.open_since.take()?;
        self.open.remove(&first_offset);
        (marker == Marker::Abort).then_some(AbortedTransaction {
            producer_id: batch.producer_id,
            first_offset,
            last_offset: batch.base_offset,
        })
    }

    /// The epoch in force of a producer that has written here.
    pub fn epoch_of(&self, producer_id: i64) -> Option<i16> {
        self.producers
            .get(&producer_id)
            .map(|producer| producer.epoch)
    }

    /// First offset of the oldest open transaction.
    pub fn first_open_offset(&self) -> Option<i64> {
        self.open.first_key_value().map(|(offset, _)| *offset)
    }

    /// Producer ids with an open transaction, their epoch, and where it begins.
    pub fn open_transactions(&self) -> Vec<(i64, i16, i64)> {
        let epoch_of = |producer_id: &i64| {
            self.producers
                .get(producer_id)
                .map_or(0, |producer| producer.epoch)
        };
        self.open
            .iter()
            .map(|(first_offset, id)| (*id, epoch_of(id), *first_offset))
            .collect()
    }

    /// Every producer, for descriptions.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.producers.iter().map(|(id, producer)| (*id, producer))
    }

    /// Forgets producers that have been silent since `before_ms` and have nothing open.
    pub fn forget_silent(&mut self, before_ms: i64) {
        self.producers.retain(|_, producer| {
            producer.open_since.is_some() || producer.last_timestamp_ms >= before_ms
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base_offset: i64, epoch: i16, base_sequence: i32, records: i32) -> BatchHeader {
        BatchHeader {
            base_offset,
            total_bytes: 61,
            magic: 2,
            crc: 0,
            attributes: 0x10,
            last_offset_delta: records - 1,
            first_timestamp_ms: 0,
            max_timestamp_ms: 5,
            producer_id: 9,
            producer_epoch: epoch,
            base_sequence,
            record_count: records,
        }
    }

    #[test]
    fn a_repeat_is_recognised_and_a_gap_refused() {
        let mut table = ProducerTable::default();
        table.note(&batch(100, 0, 0, 3));
        assert_eq!(
            table.judge(&batch(0, 0, 0, 3)),
            Verdict::Duplicate {
                base_offset: 100,
                timestamp_ms: 5
            }
        );
        assert_eq!(table.judge(&batch(0, 0, 3, 1)), Verdict::Fresh);
        assert_eq!(
            table.judge(&batch(0, 0, 4, 1)),
            Verdict::OutOfOrder { expected: 3 }
        );
        for sequence in 3..9 {
            table.note(&batch(100 + i64::from(sequence), 0, sequence, 1));
        }
        assert_eq!(
            table.judge(&batch(0, 0, 0, 3)),
            Verdict::OutOfOrder { expected: 9 }
        );
    }

    #[test]
    fn a_marker_with_a_later_epoch_fences_the_zombie() {
        let mut table = ProducerTable::default();
        table.note(&batch(10, 0, 0, 1));
        assert_eq!(table.first_open_offset(), Some(10));
        let aborted = table
            .note_marker(&batch(12, 1, -1, 1), Marker::Abort)
            .unwrap();
        assert_eq!((aborted.first_offset, aborted.last_offset), (10, 12));
        assert_eq!(table.first_open_offset(), None);
        assert_eq!(
            table.judge(&batch(0, 0, 1, 1)),
            Verdict::StaleEpoch { current: 1 }
        );
        assert_eq!(table.judge(&batch(0, 1, 0, 1)), Verdict::Fresh);
    }
}
