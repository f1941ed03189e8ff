//! What happens in the background, at intervals: retention, compaction, forgetting what was not used for long.

use std::io;
use std::sync::Arc;

use crate::broker::Broker;
use crate::clock::now_ms;
use crate::log::Partition;
use crate::state::JournalRecord;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// `producer.id.expiration.ms`
const PRODUCER_EXPIRES_MS: i64 = DAY_MS;
/// `transactional.id.expiration.ms`
const TRANSACTIONAL_ID_EXPIRES_MS: i64 = 7 * DAY_MS;

/// Looks after everything at the broker's interval until the broker stops.
pub async fn run(broker: Arc<Broker>) {
    loop {
        tokio::time::sleep(broker.options.maintenance_interval).await;
        let for_pass = Arc::clone(&broker);
        // Disk work of unknown length: not on the threads that serve requests.
        if tokio::task::spawn_blocking(move || look_after_partitions(&for_pass))
            .await
            .is_err()
        {
            tracing::error!("a maintenance pass panicked; the next one tries again");
        }
        expire_transactional_ids(&broker).await;
    }
}

fn look_after_partitions(broker: &Broker) {
    for partition in broker
        .topics
        .all()
        .iter()
        .flat_map(|topic| topic.partitions())
    {
        if let Err(error) = look_after(&partition) {
            tracing::warn!(topic = partition.topic, index = partition.index, %error, "maintenance failed; the next pass tries again");
        }
    }
}

fn look_after(partition: &Partition) -> io::Result<()> {
    let now = now_ms();
    {
        let mut log = partition.log();
        log.roll_if_old(now)?;
        log.forget_silent_producers(now - PRODUCER_EXPIRES_MS);
        if let Some(start) = log.retention_start(now)? {
            let log_start = log.move_start(start)?;
            tracing::info!(
                topic = partition.topic,
                index = partition.index,
                log_start,
                "retention removed records"
            );
        }
    }
    if let Some(compacted) = partition.compact(now)? {
        tracing::info!(
            topic = partition.topic,
            index = partition.index,
            before_bytes = compacted.bytes_before,
            after_bytes = compacted.bytes_after,
            "compacted"
        );
    }
    Ok(())
}

async fn expire_transactional_ids(broker: &Broker) {
    let before_ms = now_ms() - TRANSACTIONAL_ID_EXPIRES_MS;
    for id in broker.transactions.forget_unused(before_ms).await {
        if let Err(error) = broker
            .journal
            .append(JournalRecord::TransactionalIdExpired { id })
        {
            tracing::debug!(%error, "an unused transactional id stays in the journal");
        }
    }
}
