//! Documents rebuilt from their stored rows, and held against the source.
//!
//! The comparison of cells asks whether the tables hold what the *flattener* makes of a document. What the flattener itself
//! gets wrong, it gets wrong on both sides. This check goes the other way: from the stored bytes alone the document is rebuilt,
//! and has to be the source again, but for what [`rebuild`] does not promise. It shares nothing with the flattener, nor with
//! the encoder.
//!
//! Only for gizer's dialect: the classic one does not keep what does not fit.

mod beside;
pub(crate) mod decode;
mod extended;
mod holds;
mod number;
mod same;
#[cfg(test)]
mod tests;

use beside::Beside;
use gizer_flatten::{RebuildError, StoredRow, rebuild};
use gizer_schema::raw::RawDoc;
use gizer_schema::{ColumnSource, Dialect, Layout, Table, TableId};

use crate::stored::StoredRows;

/// A document that does not come back from its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RebuiltDiffers {
    /// The first path that differs: names joined by dots, positions from 0, as MongoDB writes it. Where the rows are not
    /// those of any document, that of the column or array in question, without positions; it may be empty.
    pub path: String,
    /// Why the rows are not those of any document, if they are not.
    pub error: Option<RebuildError>,
}

/// Checks documents of one collection against what is rebuilt from their rows.
#[derive(Debug)]
pub struct RebuildCheck<'l> {
    layout: &'l Layout,
    beside: Beside,
    /// How many documents walking along did not settle.
    rebuilt: u64,
}

impl<'l> RebuildCheck<'l> {
    /// A check for the tables of this layout; `None` if it is of the classic dialect.
    pub fn new(layout: &'l Layout) -> Option<RebuildCheck<'l>> {
        (layout.dialect != Dialect::Classic).then(|| RebuildCheck { layout, beside: Beside::new(layout), rebuilt: 0 })
    }

    /// Whether the rows that are stored under the key with this number give this document. It must be one that the
    /// flattener does not reject.
    ///
    /// # Errors
    /// [`RebuiltDiffers`] if they do not.
    ///
    /// # Panics
    /// If the rows are of another layout, or there are not so many keys.
    pub fn check(&mut self, document: RawDoc<'_>, key: u32, stored: &StoredRows) -> Result<(), RebuiltDiffers> {
        if self.beside.gives(document, key, stored) {
            return Ok(());
        }
        self.rebuilt += 1;
        self.by_definition(document, key, stored)
    }

    /// Rebuilds the document and compares the two: what the check means.
    fn by_definition(&self, document: RawDoc<'_>, key: u32, stored: &StoredRows) -> Result<(), RebuiltDiffers> {
        let fail = |error| RebuiltDiffers { path: path_of(self.layout, &error), error: Some(error) };
        let rebuilt = rebuild_stored(self.layout, stored, key).map_err(fail)?;
        let differs = match RawDoc::new(&rebuilt) {
            Ok(rebuilt) => same::document(self.layout, document, rebuilt),
            Err(malformed) => Err(malformed.into()),
        };
        differs.map_err(|differs| RebuiltDiffers { path: differs.path(), error: None })
    }
}

/// The document, in BSON, whose rows are stored under the key with this number.
///
/// # Errors
/// [`RebuildError`] if they are not the rows of one document.
pub fn rebuild_stored(layout: &Layout, stored: &StoredRows, key: u32) -> Result<Vec<u8>, RebuildError> {
    let rows = |(at, table): (usize, &Table)| {
        let stored = stored.table(TableId(at));
        stored.of_key(key).map(|place| decode::row(table, stored.fields(place))).collect()
    };
    let rows: Vec<Vec<StoredRow>> = layout.tables.iter().enumerate().map(rows).collect::<Result<_, _>>()?;
    rebuild(layout, &rows)
}

/// Where in documents an error is.
fn path_of(layout: &Layout, error: &RebuildError) -> String {
    let (table, column) = match error {
        RebuildError::Cell { table, column, .. } => (table, Some(column)),
        RebuildError::Gap { table, .. }
        | RebuildError::Orphans { table }
        | RebuildError::Extra { table, .. }
        | RebuildError::RootRows { table, .. } => (table, None),
        RebuildError::Classic => return String::new(),
    };
    let Some(table) = layout.tables.iter().find(|known| known.name == *table) else { return String::new() };
    let column = column.and_then(|name| table.columns.iter().find(|column| column.name == *name));
    let path = match column.map(|column| &column.source) {
        Some(ColumnSource::Field(path)) => Some(*path),
        _ => table.path,
    };
    path.map_or(String::new(), |path| layout.path(path).dotted())
}
