//! The comparison of documents' rows with stored ones.

use std::borrow::Cow;
use std::cmp::Ordering;

use gizer_flatten::{Cell, DocumentBatch, Flattener, Rejection, Row, RowPosition, RowSink, Scope};
use gizer_pg::copy::Reject;
use gizer_pg::rows::{Keys, RowChanges, RowStore};
use gizer_schema::raw::RawDoc;
use gizer_schema::{ColumnId, Layout, TableId};

use crate::field::FieldComparer;
use crate::key_text::key_text;
use crate::stored::StoredRows;
use crate::value_text::{cell_text, extra_text, field_text};
use crate::{Difference, Fault, NAMED_DIFFERENCES, Values, Verdict, VerifyError};

/// Compares documents with the rows stored under `keys` and the documents' own keys, in the open transaction. It reads
/// all tables, whatever the keys' scopes. Nothing is written.
///
/// # Errors
/// [`VerifyError::Tables`] if the rows cannot be read; [`VerifyError::SameKey`]. A difference is no error.
pub async fn compare(
    store: &mut RowStore<'_>,
    flattener: &mut Flattener,
    documents: &[DocumentBatch],
    keys: &Keys,
) -> Result<Verdict, VerifyError> {
    let mut keys = to_look_at(documents, flattener, keys);
    for number in (0..keys.len() as u32).filter(|number| *keys.scope(*number) != Scope::All).collect::<Vec<_>>() {
        keys.to_mut().widen(number);
    }
    let stored = StoredRows::read(store, &keys).await?;
    Ok(Pass::over(store.layout(), flattener, all(documents), &keys, &stored, None, NAMED_DIFFERENCES)?.verdict)
}

/// The documents of all batches.
pub(crate) fn all(documents: &[DocumentBatch]) -> impl Iterator<Item = RawDoc<'_>> {
    documents.iter().flat_map(DocumentBatch::documents)
}

/// The keys, and those of the documents. MongoDB may give a document under another form of the `_id`, which then
/// counts as touched. A scope is of use only for a key that has a document: of one that has none all rows must go.
pub(crate) fn to_look_at<'k>(documents: &[DocumentBatch], flattener: &Flattener, keys: &'k Keys) -> Cow<'k, Keys> {
    let mut found = vec![false; keys.len()];
    let mut keys = Cow::Borrowed(keys);
    for document in all(documents) {
        // One without a usable key is rejected when it is flattened.
        let Ok(key) = flattener.key_of(document) else { continue };
        match keys.number_of(&key) {
            Some(number) => found.get_mut(number as usize).into_iter().for_each(|found| *found = true),
            None => drop(keys.to_mut().insert(&key)),
        }
    }
    for number in (0..).zip(found).filter(|(_, found)| !found).map(|(number, _)| number) {
        if *keys.scope(number) != Scope::All {
            keys.to_mut().widen(number);
        }
    }
    keys
}

/// What one pass over the documents gave.
pub(crate) struct Pass {
    pub(crate) verdict: Verdict,
    pub(crate) rejected: Vec<Reject>,
    pub(crate) changes: Option<RowChanges>,
    /// The numbers of the keys under which something differs.
    pub(crate) differing: Vec<u32>,
    /// Keys whose scope was too narrow: their documents had no rows, or have none. To be looked at in all tables.
    pub(crate) too_narrow: Vec<u32>,
    /// For each key whether a document has it, and whether that one's row in the root table is missing.
    pub(crate) has_document: Vec<bool>,
    pub(crate) lacks_root: Vec<bool>,
}

impl Pass {
    /// Flattens the documents and compares their rows in the scopes of their keys. What is to be written goes into
    /// `changes`; so many differences are `named` one by one.
    pub(crate) fn over<'b>(
        layout: &Layout,
        flattener: &mut Flattener,
        documents: impl Iterator<Item = RawDoc<'b>>,
        keys: &Keys,
        stored: &StoredRows,
        changes: Option<RowChanges>,
        named: usize,
    ) -> Result<Pass, VerifyError> {
        let mut comparison = Comparison::new(layout, keys, stored, changes, named);
        let mut rejected = Vec::new();
        flattener.flatten(documents, &mut comparison, |document, rejection| rejected.push(reject(document, rejection)));
        comparison.finish()?;
        let Comparison { verdict, changes, differing, too_narrow, has_document, lacks_root, .. } = comparison;
        let differing = (0..).zip(differing).filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
        Ok(Pass { verdict, rejected, changes, differing, too_narrow, has_document, lacks_root })
    }
}

fn reject(document: RawDoc<'_>, rejection: Rejection) -> Reject {
    Reject {
        id: rejection.id,
        reason: rejection.reason.to_string(),
        document: document.as_bytes().to_vec(),
        retry: None,
        is_unfit_key: rejection.reason.is_unfit_key(),
    }
}

/// Takes the rows of documents, and holds them against the stored ones.
///
/// The rows of one table and document come in the order of their positions, and the stored ones are sorted so: they are
/// gone through side by side.
struct Comparison<'a> {
    layout: &'a Layout,
    keys: &'a Keys,
    stored: &'a StoredRows,
    /// Where each key comes among the others, in the order in which rows are written.
    ranks: Vec<u32>,
    changes: Option<RowChanges>,
    verdict: Verdict,
    /// How many differences are named one by one.
    named: usize,
    /// What is wrong with the current document, and not counted yet.
    faults: Vec<(TableId, Fault)>,
    fields: FieldComparer,
    /// For each key whether a document with it has come.
    has_document: Vec<bool>,
    /// For each key whether anything differs.
    differing: Vec<bool>,
    /// For each key whether its document has no row in the root table.
    lacks_root: Vec<bool>,
    too_narrow: Vec<u32>,
    /// The key of the current document; `None` until its first row.
    key: Option<u32>,
    /// For each table the place of the next stored row of this key.
    places: Vec<u32>,
    positions: Vec<i64>,
    /// How it stood before the current document.
    before: Before,
    /// A key that two documents have.
    same_key: Option<u32>,
}

/// What a discarded document takes back.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    documents: u64,
    rows: u64,
    named: usize,
    more: u64,
    same_key: Option<u32>,
}

impl<'a> Comparison<'a> {
    fn new(
        layout: &'a Layout,
        keys: &'a Keys,
        stored: &'a StoredRows,
        changes: Option<RowChanges>,
        named: usize,
    ) -> Self {
        Comparison {
            layout,
            keys,
            stored,
            ranks: if changes.is_some() { keys.ranks() } else { vec![0; keys.len()] },
            changes,
            verdict: Verdict::default(),
            named,
            faults: Vec::new(),
            fields: FieldComparer::default(),
            has_document: vec![false; keys.len()],
            differing: vec![false; keys.len()],
            lacks_root: vec![false; keys.len()],
            too_narrow: Vec::new(),
            key: None,
            places: vec![0; layout.tables.len()],
            positions: Vec::new(),
            before: Before::default(),
            same_key: None,
        }
    }

    /// The last document has come: whatever is stored and has not been met is left over.
    fn finish(&mut self) -> Result<(), VerifyError> {
        self.finish_document();
        if let Some(key) = self.same_key {
            return Err(VerifyError::SameKey { collection: self.layout.collection.clone(), key: self.key_text(key) });
        }
        for key in (0..self.keys.len() as u32).filter(|key| !self.has_document[*key as usize]).collect::<Vec<_>>() {
            // Its document was rejected.
            self.find_too_narrow(key);
            self.begin_key(key);
            self.leave_rest(key);
        }
        self.count_faults();
        Ok(())
    }

    fn finish_document(&mut self) {
        if let Some(key) = self.key.take() {
            self.leave_rest(key);
        }
        self.count_faults();
    }

    fn count_faults(&mut self) {
        for fault in self.faults.drain(..) {
            *self.verdict.faults.entry(fault).or_default() += 1;
        }
    }

    fn begin_key(&mut self, key: u32) {
        for (table, place) in self.places.iter_mut().enumerate() {
            *place = self.stored.table(TableId(table)).of_key(key).start;
        }
    }

    /// The stored rows of a key that no row of its document has met.
    fn leave_rest(&mut self, key: u32) {
        for table in (0..self.layout.tables.len()).map(TableId) {
            let stored = self.stored.table(table);
            for place in self.places[table.0]..stored.of_key(key).end {
                self.differs(table, key, || stored.row_positions(place), Fault::LeftOver);
                self.delete(table, key, place);
            }
            self.places[table.0] = stored.of_key(key).end;
        }
    }

    /// The key of the current document, from its first row; `None` if its rows are not to be compared.
    fn key_of(&mut self, row: &Row<'_>) -> Option<u32> {
        if self.key.is_some() {
            return self.key;
        }
        let cell = &row.cells[self.layout.table(row.table).key.0];
        let key = self.keys.number_of(cell).expect("the keys of all documents were added");
        if std::mem::replace(&mut self.has_document[key as usize], true) {
            self.same_key = Some(key);
            return None;
        }
        self.begin_key(key);
        self.key = Some(key);
        self.key
    }

    /// Holds a row of key `key` at `positions` against the stored ones from its table's place on.
    fn meet(&mut self, key: u32, row: Row<'_>, positions: &[i64]) {
        let stored = self.stored.table(row.table);
        let end = stored.of_key(key).end;
        let mut place = self.places[row.table.0];
        while place < end && stored.positions(place) < positions {
            self.differs(row.table, key, || stored.row_positions(place), Fault::LeftOver);
            self.delete(row.table, key, place);
            place += 1;
        }
        let first = place;
        while place < end && stored.positions(place).cmp(positions) == Ordering::Equal {
            place += 1;
        }
        self.places[row.table.0] = place;
        match place - first {
            0 => {
                let data = self.layout.table(row.table).data_columns();
                self.differs(row.table, key, || row.cells[data..].iter().map(position_of).collect(), Fault::Missing);
                self.insert(row, key);
            }
            1 => {
                if let Some(column) = self.first_difference(first, &row) {
                    self.differs(row.table, key, || stored.row_positions(first), Fault::Cell(column));
                    self.show_values(first, &row, column);
                    self.update(row, key);
                }
            }
            // Only where no key has been built. Deleting one deletes all.
            _ => {
                self.differs(row.table, key, || stored.row_positions(first), Fault::Repeated);
                self.delete(row.table, key, first);
                self.insert(row, key);
            }
        }
    }

    /// The first column in which the stored row is not the document's.
    fn first_difference(&mut self, place: u32, row: &Row<'_>) -> Option<ColumnId> {
        let mut stored = self.stored.table(row.table).fields(place);
        for (at, cell) in row.cells.iter().enumerate() {
            if !stored.field().is_some_and(|field| self.fields.hold(field, cell)) {
                return Some(ColumnId(at));
            }
        }
        let has_extra = self.layout.table(row.table).has_extra;
        let holds = !has_extra || stored.field().is_some_and(|field| self.fields.hold_extra(field, row.extra));
        (!holds).then_some(ColumnId(row.cells.len()))
    }

    /// Remembers a key that should have been looked at in all tables.
    fn find_too_narrow(&mut self, key: u32) {
        if *self.keys.scope(key) != Scope::All {
            self.too_narrow.push(key);
        }
    }

    fn differs(&mut self, table: TableId, key: u32, positions: impl FnOnce() -> Vec<RowPosition>, fault: Fault) {
        self.differing[key as usize] = true;
        self.lacks_root[key as usize] |= table == TableId(0) && fault == Fault::Missing;
        self.faults.push((table, fault));
        // What an update changes is a document that has its rows, each once. This one was rejected before, or it is
        // another one than was updated, which an entry further on will tell.
        if table == TableId(0) && matches!(fault, Fault::Missing | Fault::Repeated) {
            self.find_too_narrow(key);
        }
        let text = |key| key_text(self.layout.key.ty, self.keys.field(key));
        self.verdict.add(self.named, || Difference {
            table,
            key: text(key),
            positions: positions(),
            fault,
            values: None,
        });
    }

    /// Gives the cell that was just found to differ its values, if they were asked for and it is named.
    fn show_values(&mut self, place: u32, row: &Row<'_>, column: ColumnId) {
        let Verdict { differences, more: 0, .. } = &mut self.verdict else { return };
        let Some(difference) = differences.last_mut().filter(|_| self.stored.shows_values()) else { return };
        let mut stored = self.stored.table(row.table).fields(place);
        let field = (0..=column.0).map_while(|_| stored.field()).last().flatten();
        let document = row.cells.get(column.0).map_or_else(|| extra_text(row.extra), cell_text);
        let stored = field_text(self.layout.table(row.table).columns[column.0].ty, field);
        difference.values = Some(Values { document, stored });
    }

    /// Deletes the stored row at this place.
    fn delete(&mut self, table: TableId, key: u32, place: u32) {
        if let Some(changes) = &mut self.changes {
            changes.delete(table, self.keys.field(key), self.stored.table(table).position_fields(place));
        }
    }

    fn update(&mut self, row: Row<'_>, key: u32) {
        if let Some(changes) = &mut self.changes {
            changes.update(row, self.ranks[key as usize]);
        }
    }

    fn insert(&mut self, row: Row<'_>, key: u32) {
        if let Some(changes) = &mut self.changes {
            changes.insert(row, self.ranks[key as usize]);
        }
    }

    fn key_text(&self, key: u32) -> String {
        key_text(self.layout.key.ty, self.keys.field(key))
    }
}

/// A position of a document's row, for a report.
fn position_of(cell: &Cell<'_>) -> RowPosition {
    match cell {
        Cell::Text(key) => RowPosition::Key(key.as_str().to_owned()),
        Cell::BigInt(index) => RowPosition::Index(*index),
        _ => RowPosition::Index(0),
    }
}

impl RowSink for Comparison<'_> {
    fn begin_document(&mut self) {
        self.finish_document();
        let Verdict { documents, rows, ref differences, more, .. } = self.verdict;
        self.before = Before { documents, rows, named: differences.len(), more, same_key: self.same_key };
        self.verdict.documents += 1;
        if let Some(changes) = &mut self.changes {
            changes.begin_document();
        }
    }

    fn row(&mut self, row: Row<'_>) {
        self.verdict.rows += 1;
        let Some(key) = self.key_of(&row) else { return };
        if !self.keys.scope(key).contains(row.table) {
            return;
        }
        let table = self.layout.table(row.table);
        let data = table.data_columns();
        let mut positions = std::mem::take(&mut self.positions);
        positions.clear();
        let stored = self.stored.table(row.table);
        positions.extend(row.cells[data..data + table.positions].iter().map(|cell| stored.position_of(cell)));
        self.meet(key, row, &positions);
        self.positions = positions;
    }

    fn discard_document(&mut self) {
        if let Some(key) = self.key.take() {
            self.has_document[key as usize] = false;
            self.lacks_root[key as usize] = false;
        }
        self.faults.clear();
        let Before { documents, rows, named, more, same_key } = self.before;
        self.same_key = same_key;
        self.verdict.documents = documents;
        self.verdict.rows = rows;
        self.verdict.differences.truncate(named);
        self.verdict.more = more;
        if let Some(changes) = &mut self.changes {
            changes.discard_document();
        }
    }
}
