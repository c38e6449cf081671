//! Compares what a snapshot of the tables holds with the documents that it should hold.
//!
//! Of several documents with one `_id` each is a copy of the same one: it is equal if any of them is.

use std::collections::BTreeMap;

use bytes::Bytes;
use gizer_flatten::change::id_document;
use gizer_flatten::{DocumentBatch, Flattener, Tally};
use gizer_pg::copy::Reject;
use gizer_pg::rows::{KeyStretch, Keys, RowStore};
use gizer_schema::Layout;
use gizer_schema::raw::RawDoc;

use crate::compare::{Pass, all, to_look_at};
use crate::key_text::key_text;
use crate::stored::StoredRows;
use crate::{RebuildCheck, Verdict, VerifyError};

/// State of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// Document and rows are there, and differ.
    Different,
    /// The document has no row in the root table.
    OnlyDocument,
    /// There are rows, and no document has them.
    OnlyRows,
}

/// A key under which something differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferingKey {
    /// The key in the binary form of its column.
    pub key: Vec<u8>,
    /// The `_id` of its document, as a document of this field; `None` where there is no document.
    pub id: Option<Bytes>,
    /// Its state.
    pub stand: Stand,
}

/// What looking at some documents and rows gave.
#[derive(Debug, Clone, Default)]
pub struct Audited {
    /// What differs; how many documents were compared, and how many rows they have.
    pub verdict: Verdict,
    /// Rows that are stored, by table.
    pub stored: Vec<u64>,
    /// The keys under which something differs.
    pub differing: Vec<DifferingKey>,
    /// Documents that have no rows, and why.
    pub rejected: Vec<Reject>,
    /// Documents whose cells are equal, and that do not come back from them.
    pub not_rebuilt: Vec<NotRebuilt>,
    /// What the flattener has counted.
    pub tally: Tally,
}

/// A document that does not come back from its rows, though each of them is what the flattener makes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotRebuilt {
    /// The document's key, as text.
    pub key: String,
    /// The first path that differs, as [`RebuiltDiffers::path`](crate::RebuiltDiffers) says.
    pub path: String,
}

/// Looks at documents and rows of one collection.
#[derive(Debug)]
pub struct Auditor<'l> {
    layout: &'l Layout,
    flattener: Flattener,
    check: Option<RebuildCheck<'l>>,
    named: usize,
    show_values: bool,
    /// Of the last pass.
    tally: Tally,
}

impl<'l> Auditor<'l> {
    /// An auditor for the tables of this layout. Of each look it names `named` differences, with both values where
    /// they are to be shown.
    ///
    /// In gizer's dialect each document is also rebuilt from its rows: what the flattener gets wrong is wrong on both sides of the
    /// comparison of cells.
    pub fn new(layout: &'l Layout, named: usize, show_values: bool) -> Auditor<'l> {
        let (flattener, check) = (Flattener::new(layout), RebuildCheck::new(layout));
        Auditor { layout, flattener, check, named, show_values, tally: Tally::default() }
    }

    /// The same without rebuilding documents: for who writes what the flattener says, which no repair
    /// makes better.
    pub fn of_cells(layout: &'l Layout, named: usize) -> Auditor<'l> {
        Auditor { check: None, ..Auditor::new(layout, named, false) }
    }

    /// The flattener, for keys of documents.
    pub fn flattener(&self) -> &Flattener {
        &self.flattener
    }

    /// Compares documents with all rows of a stretch of keys, in the snapshot that the store has begun: those of all tables. The
    /// documents are those whose keys lie in the stretch; any other is compared with what is stored in the stretch, which is
    /// nothing.
    ///
    /// # Errors
    /// [`VerifyError::Tables`] if the rows cannot be read; [`VerifyError::SameKey`] if two documents have one key, and not one `_id`. A
    /// difference is no error.
    pub async fn stretch(
        &mut self,
        store: &mut RowStore<'_>,
        documents: &[DocumentBatch],
        stretch: KeyStretch<'_>,
    ) -> Result<Audited, VerifyError> {
        let none = Keys::new(self.layout);
        let mut keys = to_look_at(documents, &self.flattener, &none).into_owned();
        let stored = StoredRows::read_stretch(store, stretch, &mut keys).await?;
        self.look(documents, &keys, stored)
    }

    /// Compares documents with the rows that are stored under their keys, in the snapshot that the store has begun: those of all tables.
    ///
    /// # Errors
    /// As [`Auditor::stretch`].
    pub async fn documents(
        &mut self,
        store: &mut RowStore<'_>,
        documents: &[DocumentBatch],
    ) -> Result<Audited, VerifyError> {
        let none = Keys::new(self.layout);
        let keys = to_look_at(documents, &self.flattener, &none);
        let stored = StoredRows::read(store, &keys).await?;
        self.look(documents, &keys, stored)
    }

    /// Compares what is stored under these keys with those of the documents that have them; of other documents nothing is said.
    ///
    /// # Errors
    /// As [`Auditor::stretch`].
    pub async fn keys(
        &mut self,
        store: &mut RowStore<'_>,
        documents: &[DocumentBatch],
        keys: &Keys,
    ) -> Result<Audited, VerifyError> {
        let stored = StoredRows::read(store, keys).await?;
        self.look(documents, keys, stored)
    }

    fn look(&mut self, documents: &[DocumentBatch], keys: &Keys, stored: StoredRows) -> Result<Audited, VerifyError> {
        let stored = stored.showing_values(self.show_values);
        // One without a usable key is rejected when it is flattened.
        let is_other = |document| self.flattener.key_of(document).is_ok_and(|key| keys.number_of(&key).is_none());
        let mut wanted: Vec<RawDoc<'_>> = all(documents).filter(|document| !is_other(*document)).collect();
        let pass = match self.pass(self.named, &wanted, keys, &stored) {
            Err(VerifyError::SameKey { .. }) => {
                wanted = self.one_of_each(wanted, keys, &stored)?;
                self.pass(self.named, &wanted, keys, &stored)?
            }
            pass => pass?,
        };
        let not_rebuilt = self.rebuild(&wanted, keys, &stored, &pass);
        let ids = ids_of(&self.flattener, &wanted, keys, &pass.differing);
        let key = |number: u32| {
            let at = number as usize;
            let stand = match (pass.has_document[at], pass.lacks_root[at]) {
                (false, _) => Stand::OnlyRows,
                (true, true) => Stand::OnlyDocument,
                (true, false) => Stand::Different,
            };
            DifferingKey { key: keys.field(number).to_vec(), id: ids.get(&number).cloned(), stand }
        };
        let differing = pass.differing.iter().copied().map(key).collect();
        let tally = std::mem::take(&mut self.tally);
        let Pass { verdict, rejected, .. } = pass;
        Ok(Audited { verdict, stored: stored.counts(), differing, rejected, not_rebuilt, tally })
    }

    fn pass(
        &mut self,
        named: usize,
        documents: &[RawDoc<'_>],
        keys: &Keys,
        stored: &StoredRows,
    ) -> Result<Pass, VerifyError> {
        let documents = documents.iter().copied();
        let pass = Pass::over(self.layout, &mut self.flattener, documents, keys, stored, None, named);
        self.tally = self.flattener.take_tally();
        pass
    }

    /// The documents, each `_id` once. Shards that are read one by one may both have it, where a migration left a
    /// copy, and only a router knows whose it is. It is one that equals the stored rows, if any does.
    fn one_of_each<'d>(
        &mut self,
        documents: Vec<RawDoc<'d>>,
        keys: &Keys,
        stored: &StoredRows,
    ) -> Result<Vec<RawDoc<'d>>, VerifyError> {
        let (mut chosen, mut places) = (Vec::with_capacity(documents.len()), vec![None; keys.len()]);
        let mut copies: BTreeMap<u32, Vec<RawDoc<'d>>> = BTreeMap::new();
        for document in documents {
            let number = self.flattener.key_of(document).ok().and_then(|key| keys.number_of(&key));
            let place = number.map(|number| &mut places[number as usize]);
            match (number, place) {
                (Some(number), Some(Some(first))) if has_same_id(chosen[*first], document) => {
                    copies.entry(number).or_default().push(document);
                }
                // Two `_id`s that have one key are reported as such.
                (_, place) => {
                    place.into_iter().for_each(|place| *place = Some(chosen.len()));
                    chosen.push(document);
                }
            }
        }
        let firsts: BTreeMap<u32, RawDoc<'d>> =
            copies.keys().filter_map(|number| Some((*number, chosen[places[*number as usize]?]))).collect();
        while !copies.is_empty() {
            let place = |number: &u32| places[*number as usize].expect("it has come");
            let tried: Vec<RawDoc<'_>> = copies.keys().map(|number| chosen[place(number)]).collect();
            let pass = self.pass(0, &tried, keys, stored)?;
            copies.retain(|number, _| pass.differing.binary_search(number).is_ok());
            copies.retain(|number, others| {
                let other = others.pop();
                chosen[place(number)] = other.unwrap_or(firsts[number]);
                other.is_some()
            });
        }
        Ok(chosen)
    }

    /// Of the documents whose cells are equal those that do not come back from them.
    fn rebuild(&mut self, documents: &[RawDoc<'_>], keys: &Keys, stored: &StoredRows, pass: &Pass) -> Vec<NotRebuilt> {
        let mut not_rebuilt = Vec::new();
        let Some(check) = &mut self.check else { return not_rebuilt };
        for document in documents {
            let number = self.flattener.key_of(*document).ok().and_then(|key| keys.number_of(&key));
            let equal =
                |number: &u32| pass.has_document[*number as usize] && pass.differing.binary_search(number).is_err();
            let Some(number) = number.filter(equal) else { continue };
            if let Err(differs) = check.check(*document, number, stored) {
                let key = key_text(self.layout.key.ty, keys.field(number));
                not_rebuilt.push(NotRebuilt { key, path: differs.path });
            }
        }
        not_rebuilt
    }
}

fn has_same_id(one: RawDoc<'_>, other: RawDoc<'_>) -> bool {
    matches!((id_document(one), id_document(other)), (Ok(Some(one)), Ok(Some(other))) if one == other)
}

/// The `_id`s of the documents that have these keys.
fn ids_of(flattener: &Flattener, documents: &[RawDoc<'_>], keys: &Keys, differing: &[u32]) -> BTreeMap<u32, Bytes> {
    let mut ids = BTreeMap::new();
    if differing.is_empty() {
        return ids;
    }
    for document in documents {
        let number = flattener.key_of(*document).ok().and_then(|key| keys.number_of(&key));
        let Some(number) = number.filter(|number| differing.binary_search(number).is_ok()) else { continue };
        if let Ok(Some(id)) = id_document(*document) {
            ids.insert(number, id);
        }
    }
    ids
}
