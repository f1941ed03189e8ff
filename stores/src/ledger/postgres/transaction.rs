//! One transaction on a connection of the pool.
//!
//! Invariants: writers of one task hold its lock from their begin to their commit; a connection goes back to its pool
//! only after a commit, and is closed otherwise; no statement waits for ever, also where the server is frozen.

use std::{future::Future, io, time::Duration};

use sqlx::{PgPool, Postgres, pool::PoolConnection};
use tokio::time::timeout;
use uuid::Uuid;

use crate::ledger::sql::{Dialect, Record, Statement, Transaction};

/// Marks the ledger's advisory locks among those of a database.
const LOCK_CLASS: i32 = 0x4154_4c52;
/// How long after its own time limit the server may take to say that it was reached.
const GRACE: Duration = Duration::from_secs(1);

/// A transaction that is open until it is committed.
pub(in crate::ledger) struct PostgresTransaction {
    connection: PoolConnection<Postgres>,
    patience: Duration,
    committed: bool,
}

impl PostgresTransaction {
    /// Begins to write about `tasks`.
    pub(super) async fn to_write(
        pool: &PgPool,
        statement_timeout: Duration,
        tasks: &[Uuid],
    ) -> Result<Self, sqlx::Error> {
        // Each statement must see what the one before in the lock's queue has committed, so no snapshot may be older
        // than the lock. Whether it may write at all is the server's default, which is not overruled.
        let mut begun = Self::begin(
            pool,
            statement_timeout,
            "BEGIN ISOLATION LEVEL READ COMMITTED",
        )
        .await?;
        begun.lock(tasks).await?;
        Ok(begun)
    }

    /// Begins to read: everything that is read is of one moment.
    pub(super) async fn to_read(
        pool: &PgPool,
        statement_timeout: Duration,
    ) -> Result<Self, sqlx::Error> {
        let statement = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        Self::begin(pool, statement_timeout, statement).await
    }

    async fn begin(
        pool: &PgPool,
        statement_timeout: Duration,
        statement: &'static str,
    ) -> Result<Self, sqlx::Error> {
        let mut begun = Self {
            connection: pool.acquire().await?,
            patience: statement_timeout + GRACE,
            committed: false,
        };
        begun.run(statement).await?;
        Ok(begun)
    }

    /// Takes the locks of `tasks`. A task may have no row yet that could be locked, so the locks are of numbers; two
    /// tasks that share one only wait without need. In one order everywhere, so that two writers never wait for each other.
    async fn lock(&mut self, tasks: &[Uuid]) -> Result<(), sqlx::Error> {
        let mut keys: Vec<i32> = tasks.iter().map(lock_key).collect();
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return Ok(());
        }
        let locks =
            sqlx::query("SELECT pg_advisory_xact_lock($1, key) FROM unnest($2) AS wanted (key)")
                .bind(LOCK_CLASS)
                .bind(keys);
        within(self.patience, locks.execute(&mut *self.connection)).await?;
        Ok(())
    }

    /// Whether the server takes no writes now.
    pub(super) async fn is_read_only(&mut self) -> Result<bool, sqlx::Error> {
        let setting = sqlx::query_scalar("SELECT current_setting('transaction_read_only') = 'on'");
        within(self.patience, setting.fetch_one(&mut *self.connection)).await
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        // As one plain message, which needs no preparation and so one round trip less.
        let done = sqlx::raw_sql(statement).execute(&mut *self.connection);
        within(self.patience, done).await?;
        Ok(())
    }
}

/// What `work` answers, or that the server did not answer in time. Time limits of the server itself do not help where the
/// server is frozen or the network swallows its answer.
pub(super) async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(patience, work).await.unwrap_or_else(|_| {
        let reason = format!(
            "the server did not answer within {} ms",
            patience.as_millis()
        );
        Err(io::Error::new(io::ErrorKind::TimedOut, reason).into())
    })
}

/// The whole id folded: the first bits of an id that begins with its time are the same for all of a day.
fn lock_key(task_id: &Uuid) -> i32 {
    let [a, b, c, d] = [0, 32, 64, 96].map(|shift| (task_id.as_u128() >> shift) as u32);
    (a ^ b ^ c ^ d).cast_signed()
}

impl Transaction for PostgresTransaction {
    const DIALECT: Dialect = Dialect {
        insert_images: "INSERT INTO images (task, image_index, source)
             SELECT $1, ordinal - 1, nullif(value::text, 'null')
             FROM json_array_elements($2::json) WITH ORDINALITY AS known (value, ordinal)",
        fill_sources: "UPDATE images SET source = known.value::text
             FROM json_array_elements($2::json) WITH ORDINALITY AS known (value, ordinal)
             WHERE images.task = $1 AND images.image_index = known.ordinal - 1
               AND images.source IS NULL AND known.value::text <> 'null'",
        take_early_failures: "DELETE FROM early_failures WHERE task_id = $1 RETURNING sequence, image_id, error",
        mark_sent: "UPDATE outbox SET sent_at_us = $2
             WHERE event_id IN (SELECT json_array_elements_text($1::json)) AND sent_at_us IS NULL",
        add_uses: "INSERT INTO blob_uses (blob_key, task, class)
             SELECT value, $1, $3 FROM json_array_elements_text($2::json) AS known (value)
             ON CONFLICT DO NOTHING",
        blob_uses: "SELECT value, CAST(max(CASE WHEN ended_at_us IS NULL THEN 1
                 WHEN ended_at_us >= CASE class WHEN 'original' THEN $2 ELSE $3 END THEN 1 ELSE 0 END) AS BIGINT)
             FROM json_array_elements_text($1::json) AS known (value)
             JOIN blob_uses ON blob_key = value JOIN tasks ON sequence = task GROUP BY value",
        take_versions: "INSERT INTO latest_versions AS known (task, image_index, version)
             SELECT (value->>0)::bigint, (value->>1)::bigint, 1 + (value->>2)::bigint
             FROM json_array_elements($1::json) AS wanted (value)
             ON CONFLICT (task, image_index) DO UPDATE SET version = known.version + excluded.version - 1
             RETURNING task, image_index, version",
        set_versions: "UPDATE images SET version = (value->>1)::bigint,
                 first_task = (value->>2)::bigint, first_index = (value->>3)::bigint
             FROM json_array_elements($2::json) AS given (value)
             WHERE images.task = $1 AND images.image_index = (value->>0)::bigint",
        // Two processes that prune at once share the rows instead of waiting for each other.
        prune: [
            "DELETE FROM inbox WHERE ctid = ANY (ARRAY (
                 SELECT ctid FROM inbox WHERE applied_at_us < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
            "DELETE FROM early_failures WHERE ctid = ANY (ARRAY (
                 SELECT ctid FROM early_failures WHERE seen_at_us < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
            "DELETE FROM outbox WHERE ctid = ANY (ARRAY (
                 SELECT ctid FROM outbox WHERE sent_at_us < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))",
        ],
    };

    async fn execute(&mut self, statement: Statement) -> Result<u64, sqlx::Error> {
        let (sql, arguments) = statement.for_driver::<Postgres>()?;
        let done = sqlx::query_with(sql, arguments).execute(&mut *self.connection);
        Ok(within(self.patience, done).await?.rows_affected())
    }

    async fn fetch<R: Record>(&mut self, statement: Statement) -> Result<Vec<R>, sqlx::Error> {
        let (sql, arguments) = statement.for_driver::<Postgres>()?;
        let rows = sqlx::query_as_with(sql, arguments).fetch_all(&mut *self.connection);
        within(self.patience, rows).await
    }

    async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.run("COMMIT").await?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for PostgresTransaction {
    fn drop(&mut self) {
        if !self.committed {
            self.connection.close_on_drop();
        }
    }
}
