//! What stored rows hold that the schema has no place for.

use std::collections::HashMap;
use std::sync::Arc;

use gizer_flatten::extra_part;
use gizer_pg::Session;
use gizer_pg::rows::{RowStore, WhichTables};
use gizer_pg::state::documents_with_unfit_keys;
use gizer_schema::infer::{Unplaced, threshold};
use gizer_schema::raw::RawDoc;
use gizer_schema::{ColumnType, Layout, TableId};

use super::EvolveSettings;
use crate::failure::Failure;

/// What was found.
pub(super) struct Evidence {
    pub(super) unplaced: Unplaced,
    /// In how many documents a field must be to get a place.
    pub(super) threshold: u64,
    /// Rows whose `_extra` is not what gizer writes.
    pub(super) unreadable: u64,
}

/// Reads `_extra` of all rows, as of one time.
///
/// # Errors
/// [`Failure`] if the tables cannot be read, or are not those of the layout.
pub(super) async fn gather(
    session: &Session,
    layout: &Arc<Layout>,
    settings: &EvolveSettings,
) -> Result<Evidence, Failure> {
    let mut store = RowStore::open(session, layout, WhichTables::Live).await?;
    store.begin_snapshot().await?;
    let gathered = async {
        let mut evidence = read(&mut store, layout, settings).await?;
        evidence.read_unfit_keys(session, layout).await?;
        Ok(evidence)
    };
    let gathered = gathered.await;
    store.end_snapshot().await;
    gathered
}

async fn read(store: &mut RowStore<'_>, layout: &Layout, settings: &EvolveSettings) -> Result<Evidence, Failure> {
    // More than this many documents do not change the threshold.
    let enough = settings.documents.saturating_mul(100).div_ceil(settings.percent.max(1));
    let documents = store.count_documents(enough.saturating_add(1)).await?;
    let threshold = threshold(documents, settings.documents, settings.percent as f64);
    let mut evidence = Evidence { unplaced: Unplaced::default(), threshold, unreadable: 0 };
    for table in (0..layout.tables.len()).map(TableId) {
        let mut counter = DocumentCounter::default();
        store.read_extra(table, |key, extra| evidence.row(layout, table, &mut counter, key, extra)).await?;
    }
    for (table, column) in evidence.unplaced.paths_with_strays(layout) {
        let values = store.count_values(table, column).await?;
        evidence.unplaced.held(table, column, values);
    }
    Ok(evidence)
}

const ID: &str = "_id";

/// A document of the field `_id` of this one alone.
fn only_id(document: RawDoc<'_>) -> Option<Vec<u8>> {
    let id = document.elements().find_map(|element| element.ok().filter(|element| element.name == ID.as_bytes()))?;
    let element = [&[id.kind as u8][..], ID.as_bytes(), &[0], id.bytes, &[0]].concat();
    let length = i32::try_from(element.len() + size_of::<i32>()).ok()?;
    Some([&length.to_le_bytes()[..], &element].concat())
}

/// Counts each path once a document: rows come in the order of their keys.
#[derive(Default)]
struct DocumentCounter {
    document: u64,
    key: Vec<u8>,
    last_in: HashMap<Vec<String>, u64>,
}

impl DocumentCounter {
    fn begin(&mut self, key: &[u8]) {
        if self.document == 0 || self.key != key {
            self.document += 1;
            self.key.clear();
            self.key.extend_from_slice(key);
        }
    }

    fn is_new(&mut self, path: &[String]) -> bool {
        if let Some(last) = self.last_in.get_mut(path) {
            return std::mem::replace(last, self.document) != self.document;
        }
        // Field names that are data must not fill memory; what is counted too often is a candidate at most.
        if self.last_in.len() < MAX_PATHS {
            self.last_in.insert(path.to_vec(), self.document);
        }
        true
    }
}

/// Paths of one table whose documents are distinguished.
const MAX_PATHS: usize = 100_000;

/// Rejected documents that are read at once.
const REJECTS_AT_ONCE: u32 = 100;

impl Evidence {
    /// Documents that are rejected for an `_id` that does not fit: it is what they have no place
    /// for.
    async fn read_unfit_keys(&mut self, session: &Session, layout: &Layout) -> Result<(), Failure> {
        if layout.key.ty == ColumnType::Key {
            return Ok(());
        }
        let path = [ID.to_owned()];
        let mut after = None;
        loop {
            let some = documents_with_unfit_keys(session, &layout.collection, after.take(), REJECTS_AT_ONCE).await?;
            for (_, document) in &some {
                let id = RawDoc::new(document).ok().and_then(only_id);
                if let Some(id) = id.as_deref().and_then(|id| RawDoc::new(id).ok())
                    && self.unplaced.observe(id).is_ok()
                {
                    self.unplaced.count_document(&path);
                }
            }
            match some.last() {
                Some((last, _)) => after = Some(last.clone()),
                None => return Ok(()),
            }
        }
    }

    fn row(&mut self, layout: &Layout, table: TableId, counter: &mut DocumentCounter, key: &[u8], extra: &[u8]) {
        counter.begin(key);
        // The version of jsonb's binary form, and the text.
        let part = extra.strip_prefix(&[1]).and_then(|text| serde_json::from_slice(text).ok());
        let part = part.and_then(|json| extra_part(layout, table, &json).ok());
        let observed = part.as_ref().and_then(|part| self.unplaced.observe(RawDoc::new(&part.document).ok()?).ok());
        let (Some(part), Some(())) = (part, observed) else {
            self.unreadable += 1;
            return;
        };
        for path in part.paths.iter().filter(|path| counter.is_new(path)) {
            self.unplaced.count_document(path);
        }
    }
}
