//! Tasks that the gateway accepted, and what is to be published of them.

use atelier_schemas::{Event, TaskStatus, event_id, events::TaskCancelRequested};
use chrono::{DateTime, Utc};

use uuid::Uuid;

use super::{
    Statement, Transaction,
    apply::{Description, insert_task},
    read::task_row,
    rows::{RowError, corrupt, time_of, to_column},
};
use crate::ledger::{CancelRequested, Created, NewTask, OutboxRow};

/// What the outbox row of a cancel is made of.
#[derive(Clone)]
pub(super) struct CancelRequest {
    pub task_id: Uuid,
    pub requested_at: DateTime<Utc>,
    pub traceparent: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    event_id: String,
    task_id: String,
    topic: String,
    event_type: String,
    value: Vec<u8>,
    traceparent: Option<String>,
    created_at_us: i64,
}

/// Writes the task and its outbox row.
pub(super) async fn create_task(
    transaction: &mut impl Transaction,
    task: NewTask,
) -> Result<Created, RowError> {
    if let Some(known) = task_row(transaction, task.task_id).await? {
        let same = known.fingerprint.as_deref() == Some(task.fingerprint.as_str());
        return Ok(if same {
            Created::Repeat
        } else {
            Created::Conflict
        });
    }
    let mut request = task.request;
    request.task_id = Some(task.task_id);
    let description = Description {
        task_id: task.task_id,
        options: &request.effective_options(),
        sources: &request.images.iter().map(Some).collect::<Vec<_>>(),
        submitted_at: task.submitted_at,
    };
    insert_task(
        transaction,
        &description,
        TaskStatus::Pending,
        Some(&task.fingerprint),
    )
    .await?;
    let first = Outgoing {
        task_id: task.task_id,
        ordinal: "submitted",
        event: Event::TaskSubmitted(request),
        at: task.submitted_at,
        traceparent: task.traceparent,
    };
    insert(transaction, first).await?;
    Ok(Created::New)
}

/// Writes the outbox row of a cancel, once, where the task has not ended.
pub(super) async fn request_cancel(
    transaction: &mut impl Transaction,
    request: CancelRequest,
) -> Result<CancelRequested, RowError> {
    let Some(task) = task_row(transaction, request.task_id).await? else {
        return Ok(CancelRequested::Unknown);
    };
    let status = task.status()?;
    if status.is_terminal() {
        return Ok(CancelRequested::Ended(status));
    }
    let cancel = TaskCancelRequested {
        task_id: request.task_id,
        requested_at: request.requested_at,
        reason: None,
    };
    let row = Outgoing {
        task_id: request.task_id,
        ordinal: "cancel-requested",
        event: cancel.into(),
        at: request.requested_at,
        traceparent: request.traceparent,
    };
    insert(transaction, row).await?;
    Ok(CancelRequested::Requested)
}

/// An event of the gateway about a task.
struct Outgoing {
    task_id: Uuid,
    /// Which of the task's events it is; the event's id is made of it, so there is one of each.
    ordinal: &'static str,
    event: Event,
    at: DateTime<Utc>,
    traceparent: Option<String>,
}

async fn insert(transaction: &mut impl Transaction, row: Outgoing) -> Result<(), RowError> {
    let task_id = row.task_id.to_string();
    let value = row
        .event
        .to_json()
        .map_err(|error| corrupt(&task_id, "value", &error))?;
    Statement::new(
        "INSERT INTO outbox (event_id, task_id, topic, event_type, value, traceparent, created_at_us)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
    )
    .bind(event_id(row.task_id, "gateway", row.ordinal).to_string())
    .bind(task_id)
    .bind(row.event.topic_for(row.event.priority()))
    .bind(row.event.event_type())
    .bind(value)
    .bind(row.traceparent)
    .bind(row.at.timestamp_micros())
    .execute(transaction)
    .await?;
    Ok(())
}

/// The oldest rows that are not sent.
pub(super) async fn pending(
    transaction: &mut impl Transaction,
    limit: u32,
) -> Result<Vec<OutboxRow>, RowError> {
    let rows: Vec<Row> = Statement::new(
        "SELECT event_id, task_id, topic, event_type, value, traceparent, created_at_us
         FROM outbox WHERE sent_at_us IS NULL ORDER BY sequence LIMIT $1",
    )
    .bind(limit)
    .fetch_all(transaction)
    .await?;
    let parsed = rows.into_iter().map(|row| {
        Ok(OutboxRow {
            event_id: row
                .event_id
                .parse()
                .map_err(|error| corrupt(&row.event_id, "event_id", &error))?,
            task_id: row
                .task_id
                .parse()
                .map_err(|error| corrupt(&row.event_id, "task_id", &error))?,
            topic: row.topic,
            event_type: row.event_type,
            value: row.value,
            created_at: time_of(&row.event_id, "created_at_us", row.created_at_us)?,
            traceparent: row.traceparent,
        })
    });
    parsed.collect()
}

/// Marks rows as sent; ids that are not there, or are sent already, are left alone.
pub(super) async fn mark_sent<T: Transaction>(
    transaction: &mut T,
    ids: &[Uuid],
    now: DateTime<Utc>,
) -> Result<(), RowError> {
    // One statement, because a relay marks hundreds at once.
    Statement::new(T::DIALECT.mark_sent)
        .bind(to_column(&ids)?)
        .bind(now.timestamp_micros())
        .execute(transaction)
        .await?;
    Ok(())
}
