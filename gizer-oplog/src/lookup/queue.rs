//! Which ids are still to be asked for, and where.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use gizer_flatten::DocumentBatch;
use gizer_flatten::change::id_document;

use super::WantedId;

/// Most ids in one command: each is a step down the index, and the server checks for interruption between replies only.
const MOST_IDS: usize = 20_000;

/// Most bytes of ids in one command, which may have 16 MiB (MongoDB manual, "MongoDB Limits and Thresholds").
const MOST_BYTES: usize = 4 << 20;

/// The ids of a look-up, by the shard that each is to be asked for next.
///
/// With one source, each `_id` is asked for once. With several, in rounds: first where the document should be, and who was not
/// found there on the next shard. An `_id` that is found under another form of the same number (1 and 1.0) is asked for once
/// more on the other shards, and not found there.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The names of the sources; one without a name is all there is.
    sources: Vec<Option<Arc<str>>>,
    /// Ids that were not found yet; where only one source is, this is not kept.
    missing: HashMap<Bytes, WantedId>,
    round: usize,
    /// What is left of this round: for each source.
    waiting: Vec<Vec<Bytes>>,
}

impl Queue {
    pub(super) fn new(sources: Vec<Option<Arc<str>>>, ids: Vec<WantedId>) -> Queue {
        let mut queue = Queue { waiting: vec![Vec::new(); sources.len()], sources, ..Queue::default() };
        if queue.sources.len() == 1 {
            queue.waiting[0] = ids.into_iter().map(|wanted| wanted.id).collect();
        } else {
            queue.missing = ids.into_iter().map(|wanted| (wanted.id.clone(), wanted)).collect();
            queue.deal();
        }
        queue
    }

    /// The next ids to ask for and the source to ask, until there are none left.
    pub(super) fn next(&mut self) -> Option<(usize, Vec<Bytes>)> {
        loop {
            if let Some(source) = self.waiting.iter().position(|ids| !ids.is_empty()) {
                return Some((source, take_some(&mut self.waiting[source])));
            }
            self.round += 1;
            if self.missing.is_empty() || self.round >= self.sources.len() {
                return None;
            }
            self.deal();
        }
    }

    /// These documents were found: nobody else is asked for them.
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

    fn deal(&mut self) {
        for (id, wanted) in &self.missing {
            let source = nth_source(&self.sources, wanted, self.round);
            self.waiting[source].push(id.clone());
        }
    }
}

/// Where to look in this round: first on the shard that wrote it last, last on one that a migration has touched it on.
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
        bytes > MOST_BYTES
    };
    let count = ids.iter().take(MOST_IDS).position(enough).unwrap_or(ids.len().min(MOST_IDS)).max(1);
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
