//! Reads the ledger's tables with plain SQL.

use anyhow::{Context as _, bail};
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions,
};

use super::{Ledger, LedgerImage, LedgerTask};

/// A connection to either kind of server.
enum Tables {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Tables {
    async fn open(url: &str) -> anyhow::Result<Self> {
        if url.starts_with("postgres://") {
            return Ok(Self::Postgres(PgConnection::connect(url).await?));
        }
        let Some(file) = url.strip_prefix("sqlite://") else {
            bail!("`{url}` is no ledger that can be read: sqlite:// or postgres://");
        };
        let options = SqliteConnectOptions::new().filename(file);
        Ok(Self::Sqlite(
            SqliteConnection::connect_with(&options).await?,
        ))
    }

    /// Every row as an object of these columns.
    async fn rows(&mut self, columns: &[&str], from: &str) -> anyhow::Result<Vec<Value>> {
        let pairs: Vec<String> = columns
            .iter()
            .map(|column| {
                let name = column.rsplit('.').next().unwrap_or(column);
                format!("'{name}', {column}")
            })
            .collect();
        let pairs = pairs.join(", ");
        let texts: Vec<(String,)> = match self {
            Self::Sqlite(connection) => {
                let statement = format!("SELECT json_object({pairs}) FROM {from}");
                sqlx::query_as(AssertSqlSafe(statement))
                    .fetch_all(connection)
                    .await?
            }
            Self::Postgres(connection) => {
                let statement = format!("SELECT json_build_object({pairs})::text FROM {from}");
                sqlx::query_as(AssertSqlSafe(statement))
                    .fetch_all(connection)
                    .await?
            }
        };
        let rows = texts.iter().map(|(text,)| serde_json::from_str(text));
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// Everything that the checker compares.
pub(super) async fn read(url: &str) -> anyhow::Result<Ledger> {
    let mut tables = Tables::open(url).await?;
    let mut ledger = Ledger::default();
    let columns = ["task_id", "status", "image_count"];
    for row in tables.rows(&columns, "tasks").await? {
        ledger.tasks.push(LedgerTask {
            task: text(&row, "task_id")?.parse()?,
            status: text(&row, "status")?.to_owned(),
            image_count: row["image_count"].as_u64().context("image_count")?,
        });
    }
    let columns = [
        "tasks.task_id",
        "images.image_index",
        "images.status",
        "images.result",
    ];
    let joined = "images JOIN tasks ON tasks.sequence = images.task";
    for row in tables.rows(&columns, joined).await? {
        ledger.images.push(LedgerImage {
            task: text(&row, "task_id")?.parse()?,
            index: row["image_index"].as_u64().context("image_index")?,
            status: text(&row, "status")?.to_owned(),
            result: row["result"]
                .as_str()
                .map_or(Ok(Value::Null), serde_json::from_str)?,
        });
    }
    for row in tables.rows(&["event_id", "events"], "inbox").await? {
        let events: Vec<Value> = serde_json::from_str(text(&row, "events")?)?;
        let types = events
            .iter()
            .map(|event| text(event, "type").map(str::to_owned));
        let types = types.collect::<anyhow::Result<_>>()?;
        ledger
            .inbox
            .insert(text(&row, "event_id")?.to_owned(), types);
    }
    let unsent = "outbox WHERE sent_at_us IS NULL";
    for row in tables.rows(&["task_id"], unsent).await? {
        ledger.unsent.push(text(&row, "task_id")?.parse()?);
    }
    Ok(ledger)
}

fn text<'a>(row: &'a Value, column: &str) -> anyhow::Result<&'a str> {
    row[column]
        .as_str()
        .with_context(|| format!("column {column} of {row} is no text"))
}
