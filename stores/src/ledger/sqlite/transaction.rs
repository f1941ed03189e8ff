//! One SQL transaction on a connection of a pool.
//!
//! Invariant: a connection goes back to its pool only after a commit. After an error, or when the work is abandoned, it is
//! closed, which rolls back whatever state it is in: on a full disk SQLite rolls back by itself, and who then counts
//! transactions on that connection counts wrong for ever.

use sqlx::{Sqlite, SqlitePool, pool::PoolConnection};

use crate::ledger::sql::{Dialect, Record, Statement, Transaction};

/// A transaction that is open until it is committed.
pub(in crate::ledger) struct SqliteTransaction {
    connection: PoolConnection<Sqlite>,
    committed: bool,
}

impl SqliteTransaction {
    /// Begins to write: takes the write lock at once, so that it waits for other writers here and not in the middle.
    pub(super) async fn to_write(pool: &SqlitePool) -> Result<Self, sqlx::Error> {
        Self::begin(pool, "BEGIN IMMEDIATE").await
    }

    /// Begins to read: everything that is read is of one moment.
    pub(super) async fn to_read(pool: &SqlitePool) -> Result<Self, sqlx::Error> {
        Self::begin(pool, "BEGIN").await
    }

    async fn begin(pool: &SqlitePool, statement: &'static str) -> Result<Self, sqlx::Error> {
        let mut begun = Self {
            connection: pool.acquire().await?,
            committed: false,
        };
        sqlx::query(statement)
            .execute(&mut *begun.connection)
            .await?;
        Ok(begun)
    }
}

impl Transaction for SqliteTransaction {
    const DIALECT: Dialect = Dialect {
        insert_images: "INSERT INTO images (task, image_index, source) SELECT $1, key, value FROM json_each($2)",
        fill_sources: "UPDATE images SET source = known.value FROM json_each($2) AS known
             WHERE images.task = $1 AND images.image_index = known.key
               AND images.source IS NULL AND known.value IS NOT NULL",
        take_early_failures: "DELETE FROM early_failures WHERE task_id = $1 RETURNING rowid, image_id, error",
        mark_sent: "UPDATE outbox SET sent_at_us = $2
             WHERE event_id IN (SELECT value FROM json_each($1)) AND sent_at_us IS NULL",
        add_uses: "INSERT INTO blob_uses (blob_key, task, class)
             SELECT value, $1, $3 FROM json_each($2) WHERE true ON CONFLICT DO NOTHING",
        blob_uses: "SELECT value, CAST(max(CASE WHEN ended_at_us IS NULL THEN 1
                 WHEN ended_at_us >= CASE class WHEN 'original' THEN $2 ELSE $3 END THEN 1 ELSE 0 END) AS BIGINT)
             FROM json_each($1)
             JOIN blob_uses ON blob_key = value JOIN tasks ON sequence = task GROUP BY value",
        take_versions: "INSERT INTO latest_versions AS known (task, image_index, version)
             SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), 1 + json_extract(value, '$[2]')
             FROM json_each($1) WHERE true
             ON CONFLICT (task, image_index) DO UPDATE SET version = known.version + excluded.version - 1
             RETURNING task, image_index, version",
        set_versions: "UPDATE images SET version = json_extract(value, '$[1]'),
                 first_task = json_extract(value, '$[2]'), first_index = json_extract(value, '$[3]')
             FROM json_each($2) WHERE images.task = $1 AND images.image_index = json_extract(value, '$[0]')",
        prune: [
            "DELETE FROM inbox
             WHERE rowid IN (SELECT rowid FROM inbox WHERE applied_at_us < $1 LIMIT $2)",
            "DELETE FROM early_failures
             WHERE rowid IN (SELECT rowid FROM early_failures WHERE seen_at_us < $1 LIMIT $2)",
            "DELETE FROM outbox
             WHERE sequence IN (SELECT sequence FROM outbox WHERE sent_at_us < $1 LIMIT $2)",
        ],
    };

    async fn execute(&mut self, statement: Statement) -> Result<u64, sqlx::Error> {
        let (sql, arguments) = statement.for_driver::<Sqlite>()?;
        let done = sqlx::query_with(sql, arguments).execute(&mut *self.connection);
        Ok(done.await?.rows_affected())
    }

    async fn fetch<R: Record>(&mut self, statement: Statement) -> Result<Vec<R>, sqlx::Error> {
        let (sql, arguments) = statement.for_driver::<Sqlite>()?;
        sqlx::query_as_with(sql, arguments)
            .fetch_all(&mut *self.connection)
            .await
    }

    async fn commit(mut self) -> Result<(), sqlx::Error> {
        sqlx::query("COMMIT").execute(&mut *self.connection).await?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for SqliteTransaction {
    fn drop(&mut self) {
        if !self.committed {
            self.connection.close_on_drop();
        }
    }
}
