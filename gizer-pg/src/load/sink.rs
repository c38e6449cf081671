//! The sink of a load: one connection, COPY after COPY, one transaction a range.

use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio_postgres::Statement;

use super::{RangeDone, RangeSink, Written};
use crate::connect::Session;
use crate::copy::{Buffers, CopyEncoder, EncodedUnit, TableData};
use crate::error::PgError;
use crate::ident::Qualified;
use crate::state::{self, RangeRow};

/// Bytes of one CopyData message. 64 KiB to 1 MiB measure the same; 4 KiB is slower.
const CHUNK_BYTES: usize = 64 * 1024;

/// Which load may write: checked in every transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadFence {
    /// The collection.
    pub collection: String,
    /// Counted up by every load of it.
    pub load_epoch: i64,
}

/// A table to copy into.
#[derive(Debug, Clone)]
pub(super) struct CopyTarget {
    pub(super) table: Qualified,
    /// `COPY … FROM STDIN`, with all columns by name.
    pub(super) statement: String,
}

impl CopyTarget {
    /// One COPY of rows of this table; gives the buffer back.
    pub(super) async fn copy(
        &self,
        session: &Session,
        statement: &Statement,
        data: TableData,
    ) -> Result<Vec<u8>, PgError> {
        let table = &self.table;
        let whole = Bytes::from(data.bytes);
        let mut stream = session.copy_in(format!("copying into {table}"), statement).await?;
        let mut rest = whole.clone();
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
            stream.feed(chunk).await?;
        }
        let copied = stream.finish().await?;
        if copied != data.rows {
            return Err(PgError::RowsDiffer {
                schema: table.schema().to_owned(),
                table: table.name().to_owned(),
                encoded: data.rows,
                copied,
            });
        }
        drop(rest);
        // The connection has let go of all chunks: this is the buffer itself, not a copy of it.
        Ok(Vec::from(whole))
    }
}

/// Writes ranges over one connection. Where a range fails, see [`RangeSink`].
#[derive(Debug)]
pub struct CopySink {
    session: Session,
    fence: LoadFence,
    targets: Vec<CopyTarget>,
    /// Prepared at their first use: most ranges have rows for few tables.
    prepared: Vec<OnceCell<Statement>>,
    /// What the open transaction holds.
    pending: Option<Written>,
    written: Written,
}

impl CopySink {
    pub(super) fn new(session: Session, fence: LoadFence, targets: Vec<CopyTarget>) -> CopySink {
        let written = Written { rows: vec![0; targets.len()], ..Written::default() };
        CopySink { session, fence, prepared: vec![OnceCell::new(); targets.len()], targets, pending: None, written }
    }

    /// How much was written so far.
    pub fn written(&self) -> &Written {
        &self.written
    }

    async fn begin_in_transaction(&mut self) -> Result<Written, PgError> {
        // No waiting for the disk after every range: the swap's commit makes all of them durable (see RangeSink).
        self.session.run("beginning a range", "SET LOCAL synchronous_commit TO off").await?;
        state::check_load(&self.session, &self.fence).await?;
        Ok(Written { rows: vec![0; self.targets.len()], ranges: 1, ..Written::default() })
    }

    async fn copy_in_transaction(&mut self, unit: EncodedUnit, pending: &mut Written) -> Result<Buffers, PgError> {
        let LoadFence { collection, load_epoch } = &self.fence;
        state::write_rejects(&self.session, collection, *load_epoch, &unit.rejects).await?;
        *pending += &amount(&unit, self.targets.len());
        let mut buffers = Buffers::default();
        for data in unit.tables {
            buffers.put(self.copy_table(data).await?);
        }
        Ok(buffers)
    }

    async fn or_rolled_back<T>(&self, outcome: Result<T, PgError>) -> Result<T, PgError> {
        match outcome {
            Ok(value) => Ok(value),
            failed => self.session.end(failed).await,
        }
    }

    async fn write_down(&self, done: RangeDone<'_>, rows: &[u64]) -> Result<(), PgError> {
        let Some((place, tally)) = done.place else { return Ok(()) };
        let LoadFence { collection, load_epoch } = &self.fence;
        let range = RangeRow { place, rows, bytes: done.bytes, tally };
        state::write_range(&self.session, collection, *load_epoch, &range).await
    }

    /// One COPY; gives the buffer back.
    async fn copy_table(&mut self, data: TableData) -> Result<Vec<u8>, PgError> {
        let statement = self.statement(data.table.0).await?;
        self.targets[data.table.0].copy(&self.session, statement, data).await
    }

    async fn statement(&self, table: usize) -> Result<&Statement, PgError> {
        let CopyTarget { table: at, statement } = &self.targets[table];
        let prepare = || self.session.prepare(format!("preparing to copy into {at}"), statement);
        self.prepared[table].get_or_try_init(prepare).await
    }
}

impl RangeSink for CopySink {
    type Encoder = CopyEncoder;

    async fn copy(&mut self, unit: EncodedUnit) -> Result<Buffers, PgError> {
        // Taken out meanwhile: if this future is dropped, the next one starts over.
        let mut pending = match self.pending.take() {
            Some(pending) => pending,
            None => {
                self.session.begin().await?;
                let outcome = self.begin_in_transaction().await;
                self.or_rolled_back(outcome).await?
            }
        };
        let outcome = self.copy_in_transaction(unit, &mut pending).await;
        let buffers = self.or_rolled_back(outcome).await?;
        self.pending = Some(pending);
        Ok(buffers)
    }

    async fn commit(&mut self, done: RangeDone<'_>) -> Result<u64, PgError> {
        if self.pending.is_none() && done.place.is_some() {
            self.copy(EncodedUnit::default()).await?;
        }
        let Some(pending) = self.pending.take() else { return Ok(0) };
        let outcome = self.write_down(done, &pending.rows).await;
        self.session.end(outcome).await?;
        self.written += &pending;
        Ok(pending.rows.iter().sum())
    }

    async fn finish(self) -> Result<Written, PgError> {
        Ok(self.written)
    }
}

pub(crate) fn amount(unit: &EncodedUnit, tables: usize) -> Written {
    let mut rows = vec![0; tables];
    for data in &unit.tables {
        rows[data.table.0] += data.rows;
    }
    Written {
        rows,
        bytes: unit.tables.iter().map(|data| data.bytes.len() as u64).sum(),
        documents: unit.documents,
        rejected: unit.rejects.len() as u64,
        ranges: 0,
        copies: unit.tables.len() as u64,
    }
}
