//! Which events were applied, and what followed.

use atelier_schemas::{Envelope, Event};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use uuid::Uuid;

use super::{
    Statement, Transaction,
    rows::{RowError, corrupt, from_column, to_column},
};

/// An event as the inbox keeps it.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "type")]
    event_type: String,
    value: Box<RawValue>,
}

/// What followed from `event_id` the first time; `None` where this is the first time.
pub(super) async fn answered(
    transaction: &mut impl Transaction,
    event_id: Uuid,
) -> Result<Option<Vec<Event>>, RowError> {
    let stored: Option<(String,)> = Statement::new("SELECT events FROM inbox WHERE event_id = $1")
        .bind(event_id.to_string())
        .fetch_optional(transaction)
        .await?;
    let Some((stored,)) = stored else {
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
    transaction: &mut impl Transaction,
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
    Statement::new("INSERT INTO inbox (event_id, events, applied_at_us) VALUES ($1, $2, $3)")
        .bind(event_id.to_string())
        .bind(to_column(&kept)?)
        .bind(now.timestamp_micros())
        .execute(transaction)
        .await?;
    Ok(())
}
