//! What happens to the orders after they were loaded, and what they look like then.

use std::collections::BTreeMap;

use bson::{DateTime, Document, RawDocumentBuf};
use integration_tests::bench::{Result, SEED};
use integration_tests::random::Random;
use integration_tests::shop::Shop;

use crate::options::{Case, Ids};
use crate::zipf::{self, Zipf};

/// Operations of a chunk: inserts, then updates, then deletes, each kind in one command.
const CHUNK: u64 = 500;

/// Every so many updates one changes an item of an order; the others change the order itself.
const ITEM_EVERY: usize = 5;

/// What the first update sets `updated_at` to; each later one comes a millisecond after it. No order of the shop is so
/// late, so that every update changes something.
const FIRST_UPDATE: i64 = 2_000_000_000_000;

/// What the first update of an item sets `quantity` to; each later one is one more.
const FIRST_QUANTITY: i32 = 1_000;

/// Documents by their number in the shop.
#[derive(Debug)]
pub(crate) struct Orders(Vec<Option<RawDocumentBuf>>);

/// One operation; documents by their numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Insert(usize),
    /// Sets `updated_at`, milliseconds since 1970.
    Set(usize, i64),
    /// Sets `quantity` of an item, by its index.
    SetItem(usize, usize, i32),
    Delete(usize),
}

impl Operation {
    /// The document.
    pub(crate) fn document(self) -> usize {
        match self {
            Operation::Insert(number)
            | Operation::Set(number, _)
            | Operation::SetItem(number, ..)
            | Operation::Delete(number) => number,
        }
    }
}

/// All operations, chunk by chunk.
#[derive(Debug)]
pub(crate) struct Backlog {
    pub(crate) chunks: Vec<Vec<Operation>>,
}

impl Orders {
    /// The first orders of the shop.
    pub(crate) fn loaded(count: u64) -> Orders {
        Orders(Shop::new(SEED).orders(0..count).map(Some).collect())
    }

    /// The document with this number, if there is one.
    pub(crate) fn get(&self, number: usize) -> Option<&RawDocumentBuf> {
        self.0.get(number)?.as_ref()
    }

    /// Does what MongoDB does.
    ///
    /// # Errors
    /// None in practice: the shop makes whole documents.
    pub(crate) fn apply(&mut self, operation: Operation) -> Result<()> {
        let number = operation.document();
        if self.0.len() <= number {
            self.0.resize(number + 1, None);
        }
        let at = &mut self.0[number];
        match operation {
            Operation::Insert(number) => *at = new_order(number),
            Operation::Delete(_) => *at = None,
            Operation::Set(_, millis) => {
                let mut document = Document::try_from(at.take().ok_or("expected the order to be there")?)?;
                document.insert("updated_at", DateTime::from_millis(millis));
                *at = Some(RawDocumentBuf::try_from(&document)?);
            }
            Operation::SetItem(_, item, quantity) => {
                let mut document = Document::try_from(at.take().ok_or("expected the order to be there")?)?;
                let items = document.get_array_mut("items")?;
                items[item].as_document_mut().ok_or("expected a document as item")?.insert("quantity", quantity);
                *at = Some(RawDocumentBuf::try_from(&document)?);
            }
        }
        Ok(())
    }
}

impl Backlog {
    /// So many operations on the loaded orders.
    ///
    /// # Errors
    /// If there are too few orders for documents that are not touched twice.
    pub(crate) fn new(case: Case, orders: &Orders, operations: u64) -> Result<Backlog> {
        let loaded = orders.0.len();
        let (inserts, deletes) = case.mix.inserts_and_deletes(operations);
        let needed = operations - inserts;
        if (loaded as u64) < needed {
            return Err(format!("expected at least {needed} orders for {operations} operations, got {loaded}").into());
        }
        let mut chosen = Chosen::new(case.ids, loaded);
        let (mut chunks, mut updates, mut inserted) = (Vec::new(), 0, loaded);
        for first in (0..operations).step_by(CHUNK as usize) {
            let after = operations.min(first + CHUNK);
            let share = |all: u64| after * all / operations - first * all / operations;
            let (inserts, deletes) = (share(inserts), share(deletes));
            let mut chunk = Vec::new();
            for _ in 0..inserts {
                chunk.push(Operation::Insert(inserted));
                inserted += 1;
            }
            for _ in 0..after - first - inserts - deletes {
                let number = chosen.next_to_update();
                chunk.push(match updates % ITEM_EVERY {
                    0 => {
                        let items = orders.get(number).ok_or("expected an order")?.get_array("items")?;
                        let item = chosen.random.below(items.into_iter().count() as u64) as usize;
                        Operation::SetItem(number, item, FIRST_QUANTITY + updates as i32)
                    }
                    _ => Operation::Set(number, FIRST_UPDATE + updates as i64),
                });
                updates += 1;
            }
            chunk.extend((0..deletes).map(|_| Operation::Delete(chosen.next_to_delete())));
            chunks.push(chunk);
        }
        Ok(Backlog { chunks })
    }

    /// All operations in their order.
    pub(crate) fn operations(&self) -> impl Iterator<Item = Operation> {
        self.chunks.iter().flatten().copied()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }
}

/// The order with this number, as it is inserted.
pub(crate) fn new_order(number: usize) -> Option<RawDocumentBuf> {
    Shop::new(SEED).orders(number as u64..number as u64 + 1).next()
}

/// Which documents are touched next.
struct Chosen {
    random: Random,
    /// All in random order, the most popular first.
    order: Vec<usize>,
    zipf: Option<Zipf>,
    /// How many of the order are left: those after them have been deleted, or, where none is touched twice, touched.
    left: usize,
}

impl Chosen {
    fn new(ids: Ids, loaded: usize) -> Chosen {
        let mut random = zipf::random(SEED, 0);
        let order = zipf::order(&mut random, loaded);
        Chosen { random, order, zipf: (ids == Ids::Zipf).then(|| Zipf::new(loaded)), left: loaded }
    }

    fn next_to_update(&mut self) -> usize {
        let Some(zipf) = &self.zipf else { return self.take_last() };
        loop {
            let place = zipf.pick(&mut self.random);
            if place < self.left {
                return self.order[place];
            }
        }
    }

    fn next_to_delete(&mut self) -> usize {
        self.take_last()
    }

    fn take_last(&mut self) -> usize {
        self.left -= 1;
        self.order[self.left]
    }
}

/// What a transaction has touched: each document as it was before.
pub(crate) type Touched = BTreeMap<usize, Option<RawDocumentBuf>>;
