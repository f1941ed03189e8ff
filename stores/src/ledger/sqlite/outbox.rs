//! Tasks that the gateway accepted, and what is to be published of them.

use atelier_schemas::{Event, TaskStatus, event_id};
use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    apply::{Description, insert_task},
    read::task_row,
    rows::{RowError, corrupt, time_of},
};
use crate::ledger::{Created, NewTask, OutboxRow};

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
    connection: &mut SqliteConnection,
    task: NewTask,
) -> Result<Created, RowError> {
    if let Some(known) = task_row(connection, task.task_id).await? {
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
        connection,
        &description,
        TaskStatus::Pending,
        Some(&task.fingerprint),
    )
    .await?;
    let event = Event::TaskSubmitted(request);
    let value = event
        .to_json()
        .map_err(|error| corrupt(&task.task_id.to_string(), "value", &error))?;
    sqlx::query(
        "INSERT INTO outbox (event_id, task_id, topic, event_type, value, traceparent, created_at_us)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )
    .bind(event_id(task.task_id, "gateway", "submitted").to_string())
    .bind(task.task_id.to_string())
    .bind(event.topic())
    .bind(event.event_type())
    .bind(value)
    .bind(task.traceparent)
    .bind(task.submitted_at.timestamp_micros())
    .execute(connection)
    .await?;
    Ok(Created::New)
}

/// The oldest rows that are not sent.
pub(super) async fn pending(
    connection: &mut SqliteConnection,
    limit: u32,
) -> Result<Vec<OutboxRow>, RowError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT event_id, task_id, topic, event_type, value, traceparent, created_at_us
         FROM outbox WHERE sent_at_us IS NULL ORDER BY sequence LIMIT ?1",
    )
    .bind(limit)
    .fetch_all(connection)
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
pub(super) async fn mark_sent(
    connection: &mut SqliteConnection,
    ids: &[Uuid],
    now: DateTime<Utc>,
) -> Result<(), RowError> {
    for id in ids {
        sqlx::query("UPDATE outbox SET sent_at_us = ?2 WHERE event_id = ?1 AND sent_at_us IS NULL")
            .bind(id.to_string())
            .bind(now.timestamp_micros())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Removes at most `rows` that were sent before `before`.
pub(super) async fn prune(
    connection: &mut SqliteConnection,
    before: DateTime<Utc>,
    rows: u32,
) -> Result<(), RowError> {
    sqlx::query("DELETE FROM outbox WHERE sequence IN (SELECT sequence FROM outbox WHERE sent_at_us < ?1 LIMIT ?2)")
        .bind(before.timestamp_micros())
        .bind(rows)
        .execute(connection)
        .await?;
    Ok(())
}
