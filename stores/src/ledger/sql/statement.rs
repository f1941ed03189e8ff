//! A statement and its values, as both dialects take them.
//!
//! Invariant: statements are text of this program; what comes from outside is only ever a bound value.

use sqlx::{Arguments, Database, Encode, FromRow, Type, postgres::PgRow, sqlite::SqliteRow};

use super::{Transaction, rows::RowError};

/// A row that reads back from both.
pub(in crate::ledger) trait Record:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

impl<R> Record for R where
    R: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}

/// A statement whose parameters are `$1`, `$2` and so on, which SQLite reads as PostgreSQL does.
#[derive(Debug)]
pub(in crate::ledger) struct Statement {
    sql: &'static str,
    values: Vec<Value>,
}

/// The few types that the ledger's columns have.
#[derive(Debug)]
pub(in crate::ledger) enum Value {
    Integer(i64),
    Real(f64),
    Text(Option<String>),
    Bytes(Vec<u8>),
}

impl Statement {
    pub(in crate::ledger) fn new(sql: &'static str) -> Self {
        Self {
            sql,
            values: Vec::new(),
        }
    }

    /// Gives the next parameter its value.
    pub(in crate::ledger) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it; answers how many rows it changed.
    pub(in crate::ledger) async fn execute(
        self,
        transaction: &mut impl Transaction,
    ) -> Result<u64, RowError> {
        Ok(transaction.execute(self).await?)
    }

    /// Runs it; answers every row.
    pub(in crate::ledger) async fn fetch_all<R: Record>(
        self,
        transaction: &mut impl Transaction,
    ) -> Result<Vec<R>, RowError> {
        Ok(transaction.fetch(self).await?)
    }

    /// Runs it; answers the first row, where there is one.
    pub(in crate::ledger) async fn fetch_optional<R: Record>(
        self,
        transaction: &mut impl Transaction,
    ) -> Result<Option<R>, RowError> {
        Ok(transaction.fetch(self).await?.into_iter().next())
    }

    /// Runs it; answers the row that it always has.
    pub(in crate::ledger) async fn fetch_one<R: Record>(
        self,
        transaction: &mut impl Transaction,
    ) -> Result<R, RowError> {
        let row = self.fetch_optional(transaction).await?;
        row.ok_or(RowError::Sql(sqlx::Error::RowNotFound))
    }

    /// The text, and the values as the driver wants them.
    pub(in crate::ledger) fn for_driver<DB: Database>(
        self,
    ) -> Result<(&'static str, DB::Arguments), sqlx::Error>
    where
        for<'v> i64: Encode<'v, DB> + Type<DB>,
        for<'v> f64: Encode<'v, DB> + Type<DB>,
        for<'v> Option<String>: Encode<'v, DB> + Type<DB>,
        for<'v> Vec<u8>: Encode<'v, DB> + Type<DB>,
    {
        let mut arguments = DB::Arguments::default();
        for value in self.values {
            match value {
                Value::Integer(value) => arguments.add(value),
                Value::Real(value) => arguments.add(value),
                Value::Text(value) => arguments.add(value),
                Value::Bytes(value) => arguments.add(value),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok((self.sql, arguments))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Self {
        Self::Text(value.map(str::to_owned))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}
