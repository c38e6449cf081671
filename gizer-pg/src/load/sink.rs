//! The sink of a load: one connection, COPY after COPY, one transaction a unit.

use std::pin::pin;

use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::Statement;

use super::{UnitSink, Written};
use crate::connect::Session;
use crate::copy::{Buffers, EncodedUnit, TableData};
use crate::error::PgError;
use crate::ident::Qualified;
use crate::state;

/// Bytes of one CopyData message. 64 KiB to 1 MiB measure the same; 4 KiB is slower.
const CHUNK_BYTES: usize = 256 * 1024;

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
    /// `COPY … FROM STDIN (FORMAT binary)`, with all columns by name.
    pub(super) statement: String,
}

/// Writes units over one connection. Where a unit fails, see [`UnitSink`].
#[derive(Debug)]
pub struct CopySink {
    session: Session,
    fence: LoadFence,
    targets: Vec<CopyTarget>,
    /// Prepared at their first use: most units have rows for few tables.
    prepared: Vec<Option<Statement>>,
    written: Written,
}

impl CopySink {
    pub(super) fn new(session: Session, fence: LoadFence, targets: Vec<CopyTarget>) -> CopySink {
        let written = Written { rows: vec![0; targets.len()], ..Written::default() };
        CopySink { session, fence, prepared: vec![None; targets.len()], targets, written }
    }

    /// The connection, for a [`CancelHandle`](crate::CancelHandle) for instance.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// How much was written so far.
    pub fn written(&self) -> &Written {
        &self.written
    }

    async fn write_in_transaction(&mut self, unit: EncodedUnit) -> Result<Buffers, PgError> {
        // No waiting for the disk after every unit: the swap's commit makes all of them durable (see UnitSink).
        self.session.run("beginning a unit", "SET LOCAL synchronous_commit TO off").await?;
        let LoadFence { collection, load_epoch } = &self.fence;
        state::check_fence(&self.session, collection, *load_epoch).await?;
        state::write_rejects(&self.session, collection, *load_epoch, &unit.rejects).await?;
        let mut buffers = Buffers::default();
        for data in unit.tables {
            buffers.put(self.copy(data).await?);
        }
        Ok(buffers)
    }

    /// One COPY; gives the buffer back.
    async fn copy(&mut self, data: TableData) -> Result<Vec<u8>, PgError> {
        let statement = self.statement(data.table.0).await?;
        let table = &self.targets[data.table.0].table;
        let fail = |error| self.session.error(format_args!("copying into {table}"), &error);
        let whole = Bytes::from(data.bytes);
        let mut stream = pin!(self.session.client().copy_in::<_, Bytes>(&statement).await.map_err(fail)?);
        let mut rest = whole.clone();
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
            stream.feed(chunk).await.map_err(fail)?;
        }
        let copied = stream.finish().await.map_err(fail)?;
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

    async fn statement(&mut self, table: usize) -> Result<Statement, PgError> {
        if let Some(statement) = &self.prepared[table] {
            return Ok(statement.clone());
        }
        let target = &self.targets[table];
        let fail = |error| self.session.error(format_args!("preparing to copy into {}", target.table), &error);
        let statement = self.session.client().prepare(&target.statement).await.map_err(fail)?;
        self.prepared[table] = Some(statement.clone());
        Ok(statement)
    }

    fn count(&mut self, done: &Written) {
        self.written += done;
    }
}

impl UnitSink for CopySink {
    async fn write(&mut self, unit: EncodedUnit) -> Result<Buffers, PgError> {
        if unit.is_empty() {
            self.written.documents += unit.documents;
            return Ok(Buffers::default());
        }
        let done = amount(&unit, self.targets.len());
        self.session.begin().await?;
        let outcome = self.write_in_transaction(unit).await;
        let buffers = self.session.end(outcome).await?;
        self.count(&done);
        Ok(buffers)
    }

    async fn finish(self) -> Result<Written, PgError> {
        Ok(self.written)
    }
}

fn amount(unit: &EncodedUnit, tables: usize) -> Written {
    let mut rows = vec![0; tables];
    for data in &unit.tables {
        rows[data.table.0] += data.rows;
    }
    Written {
        rows,
        bytes: unit.tables.iter().map(|data| data.bytes.len() as u64).sum(),
        documents: unit.documents,
        rejected: unit.rejects.len() as u64,
        units: 1,
        copies: unit.tables.len() as u64,
    }
}
