//! Transactions that are open: readers of committed records come no further than the first record of one.

use atelier_schemas::TopicTable;
use chrono::{DateTime, Utc};

use super::{GROUP, TopicAdmin};
use crate::log_access::{LogAccessError, LogReader, Offsets, blocking};

/// The first record that is not known to be committed or aborted, on one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
    /// When it was written, as the log says.
    pub since: DateTime<Utc>,
}

impl TopicAdmin {
    /// Every partition of the table that holds its readers back, in order. Under work there is always one for a moment.
    ///
    /// # Errors
    /// [`LogAccessError`] where the broker cannot be asked.
    pub async fn open_transactions(
        &self,
        table: &TopicTable,
    ) -> Result<Vec<OpenTransaction>, LogAccessError> {
        let kafka = self.kafka.clone();
        let topics: Vec<String> = table
            .topics()
            .iter()
            .map(|topic| topic.name.clone())
            .collect();
        blocking(move || {
            let committed = LogReader::connect(&kafka, GROUP)?;
            let uncommitted = LogReader::connect_uncommitted(&kafka, GROUP)?;
            let mut found = Vec::new();
            for topic in topics {
                let (stable, ends) = (committed.ends(&topic)?, uncommitted.ends(&topic)?);
                let behind: Offsets = stable
                    .into_iter()
                    .filter(|(partition, stable)| {
                        ends.get(partition).is_some_and(|end| end > stable)
                    })
                    .collect();
                let first = behind
                    .iter()
                    .map(|(partition, stable)| (*partition, stable + 1))
                    .collect();
                uncommitted.scan(&topic, &behind, &first, |record| {
                    found.push(OpenTransaction {
                        topic: topic.clone(),
                        partition: record.source.partition,
                        offset: record.offset,
                        since: record.timestamp,
                    });
                    true
                })?;
            }
            found.sort_by_key(|open| (open.topic.clone(), open.partition));
            Ok(found)
        })
        .await
    }
}
