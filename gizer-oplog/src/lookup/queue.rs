//! The queue of ids to look up, by source.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::id_document;

use super::WantedId;

/// Ids per command: the server checks for interruption between replies only.
const MAX_IDS_PER_COMMAND: usize = 20_000;

/// Bytes of ids per command of 16 MiB (MongoDB manual, "MongoDB Limits and Thresholds").
const MAX_ID_BYTES_PER_COMMAND: usize = 4 << 20;

/// The ids of a look-up, by the next shard to ask.
///
/// With several sources ids go in rounds: first to the shard that should have the document, and
/// those not found to the next. An `_id` found as another form of the same number (1 and 1.0) is
/// asked for again elsewhere, without effect.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Names of the sources; a source without a name is the only one.
    sources: Vec<Option<Arc<str>>>,
    /// Ids not found yet; empty with a single source.
    missing: HashMap<Bytes, WantedId>,
    round: usize,
    /// Ids left in this round, by source.
    waiting: Vec<Vec<Bytes>>,
}

impl Queue {
    pub(super) fn new(sources: Vec<Option<Arc<str>>>, ids: Vec<WantedId>) -> Queue {
        let mut queue = Queue { waiting: vec![Vec::new(); sources.len()], sources, ..Queue::default() };
        if queue.sources.len() == 1 {
            queue.waiting[0] = ids.into_iter().map(|wanted| wanted.id).collect();
        } else {
            queue.missing = ids.into_iter().map(|wanted| (wanted.id.clone(), wanted)).collect();
            queue.start_round();
        }
        queue
    }

    /// The next ids and the source to ask; `None` at the end.
    pub(super) fn next(&mut self) -> Option<(usize, Vec<Bytes>)> {
        loop {
            if let Some(source) = self.waiting.iter().position(|ids| !ids.is_empty()) {
                return Some((source, take_some(&mut self.waiting[source])));
            }
            self.round += 1;
            if self.missing.is_empty() || self.round >= self.sources.len() {
                return None;
            }
            self.start_round();
        }
    }

    pub(super) fn found(&mut self, documents: &DocumentBatch) {
        if self.missing.is_empty() {
            return;
        }
        for document in documents.documents() {
            if let Ok(Some(id)) = id_document(document) {
                self.missing.remove(&id);
            }
        }
    }

    fn start_round(&mut self) {
        for (id, wanted) in &self.missing {
            let source = nth_source(&self.sources, wanted, self.round);
            self.waiting[source].push(id.clone());
        }
    }
}

/// The source of a round: first the last writer, last the one a migration touched it on.
fn nth_source(sources: &[Option<Arc<str>>], wanted: &WantedId, round: usize) -> usize {
    let rank = |name: &Option<Arc<str>>| match name {
        Some(name) if wanted.first.as_ref() == Some(name) => 0,
        Some(name) if wanted.last.as_ref() == Some(name) => 2,
        _ => 1,
    };
    let mut order: Vec<usize> = (0..sources.len()).collect();
    order.sort_by_key(|&source| (rank(&sources[source]), source));
    order[round]
}

fn take_some(ids: &mut Vec<Bytes>) -> Vec<Bytes> {
    let mut bytes = 0;
    let enough = |id: &Bytes| {
        bytes += id.len();
        bytes > MAX_ID_BYTES_PER_COMMAND
    };
    let count =
        ids.iter().take(MAX_IDS_PER_COMMAND).position(enough).unwrap_or(ids.len().min(MAX_IDS_PER_COMMAND)).max(1);
    ids.split_off(ids.len() - count)
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn wanted(id: i32, first: Option<&str>, last: Option<&str>) -> WantedId {
        let id = Bytes::from(doc! { "_id": id }.to_vec().unwrap());
        WantedId { id, first: first.map(Arc::from), last: last.map(Arc::from) }
    }

    fn documents(ids: &[i32]) -> DocumentBatch {
        let bytes = ids.iter().flat_map(|id| doc! { "x": 1, "_id": *id }.to_vec().unwrap()).collect::<Vec<u8>>();
        DocumentBatch::from_sequence(Bytes::from(bytes)).unwrap()
    }

    #[test]
    fn a_document_is_looked_for_first_where_it_was_written_and_last_where_it_was_migrated() {
        let sources = vec![Some(Arc::from("a")), Some(Arc::from("b")), Some(Arc::from("c"))];
        let ids = vec![wanted(1, Some("b"), None), wanted(2, None, Some("a")), wanted(3, Some("c"), Some("a"))];
        let mut queue = Queue::new(sources, ids);
        let mut asked = Vec::new();
        while let Some((source, ids)) = queue.next() {
            for id in ids {
                let id = bson::Document::try_from(bson::RawDocument::from_bytes(&id).unwrap()).unwrap();
                let id = id.get_i32("_id").unwrap();
                asked.push((id, source));
                if (id, source) == (2, 2) {
                    queue.found(&documents(&[2]));
                }
            }
        }
        let of = |id| asked.iter().filter(|(asked, _)| *asked == id).map(|(_, source)| *source).collect::<Vec<_>>();
        assert_eq!((of(1), of(2), of(3)), (vec![1, 0, 2], vec![1, 2], vec![2, 1, 0]));
    }

    #[test]
    fn no_command_has_too_many_ids() {
        let ids = (0..45_000).map(|id| wanted(id, None, None)).collect();
        let mut queue = Queue::new(vec![None], ids);
        let mut sizes = Vec::new();
        while let Some((_, ids)) = queue.next() {
            sizes.push(ids.len());
        }
        assert_eq!(sizes, [20_000, 20_000, 5_000]);
    }
}
