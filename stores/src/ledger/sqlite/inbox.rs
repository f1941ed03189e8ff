//! Which events were applied, and what followed.

use atelier_schemas::{Envelope, Event};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::rows::{RowError, corrupt, from_column, to_column};

/// An event as the inbox keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "type")]
    event_type: String,
    value: Box<RawValue>,
}

/// What followed from `event_id` the first time; `None` where this is the first time.
pub(super) async fn answered(
    connection: &mut SqliteConnection,
    event_id: Uuid,
) -> Result<Option<Vec<Event>>, RowError> {
    let stored: Option<String> = sqlx::query_scalar("SELECT events FROM inbox WHERE event_id = ?1")
        .bind(event_id.to_string())
        .fetch_optional(connection)
        .await?;
    let Some(stored) = stored else {
        return Ok(None);
    };
    let kept: Vec<Kept> = from_column(&event_id.to_string(), "events", &stored)?;
    let events = kept.into_iter().map(|event| {
        let envelope = Envelope::root("/atelier/ledger", &event.event_type, event_id, event_id);
        Event::decode(&envelope, event.value.get().as_bytes())
            .map_err(|error| corrupt(&event_id.to_string(), "events", &error))
    });
    events.collect::<Result<Vec<_>, _>>().map(Some)
}

/// Keeps what followed from `event_id`.
pub(super) async fn remember(
    connection: &mut SqliteConnection,
    event_id: Uuid,
    events: &[Event],
    now: DateTime<Utc>,
) -> Result<(), RowError> {
    let unserialisable =
        |error: &dyn std::fmt::Display| corrupt(&event_id.to_string(), "events", error);
    let mut kept = Vec::with_capacity(events.len());
    for event in events {
        let json = event.to_json().map_err(|error| unserialisable(&error))?;
        let json = String::from_utf8(json).map_err(|error| unserialisable(&error))?;
        let value = RawValue::from_string(json).map_err(|error| unserialisable(&error))?;
        kept.push(Kept {
            event_type: event.event_type().to_owned(),
            value,
        });
    }
    sqlx::query("INSERT INTO inbox (event_id, events, applied_at_us) VALUES (?1, ?2, ?3)")
        .bind(event_id.to_string())
        .bind(to_column(&kept)?)
        .bind(now.timestamp_micros())
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets at most `rows` of what was applied before `before`, and as many failures of tasks that never came.
pub(super) async fn prune(
    connection: &mut SqliteConnection,
    before: DateTime<Utc>,
    rows: u32,
) -> Result<(), RowError> {
    for statement in [
        "DELETE FROM inbox WHERE rowid IN (SELECT rowid FROM inbox WHERE applied_at_us < ?1 LIMIT ?2)",
        "DELETE FROM early_failures WHERE rowid IN (SELECT rowid FROM early_failures WHERE seen_at_us < ?1 LIMIT ?2)",
    ] {
        sqlx::query(statement)
            .bind(before.timestamp_micros())
            .bind(rows)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
