//! One SQL transaction on a connection of a pool.
//!
//! Invariant: a connection goes back to its pool only after a commit. After an error, or when the work is abandoned, it is
//! closed, which rolls back whatever state it is in: on a full disk SQLite rolls back by itself, and who then counts
//! transactions on that connection counts wrong for ever.

use sqlx::{Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection};

use super::rows::RowError;

/// A transaction that is open until [`Transaction::commit`].
pub(super) struct Transaction {
    connection: PoolConnection<Sqlite>,
    committed: bool,
}

impl Transaction {
    /// Begins to write: takes the write lock at once, so that it waits for other writers here and not in the middle.
    pub(super) async fn to_write(pool: &SqlitePool) -> Result<Self, RowError> {
        Self::begin(pool, "BEGIN IMMEDIATE").await
    }

    /// Begins to read: everything that is read is of one moment.
    pub(super) async fn to_read(pool: &SqlitePool) -> Result<Self, RowError> {
        Self::begin(pool, "BEGIN").await
    }

    async fn begin(pool: &SqlitePool, statement: &'static str) -> Result<Self, RowError> {
        let mut begun = Self {
            connection: pool.acquire().await?,
            committed: false,
        };
        sqlx::query(statement).execute(begun.connection()).await?;
        Ok(begun)
    }

    /// What the work is done on.
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Ends it; what was written is there from now on.
    pub(super) async fn commit(mut self) -> Result<(), RowError> {
        sqlx::query("COMMIT").execute(self.connection()).await?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.committed {
            self.connection.close_on_drop();
        }
    }
}
