//! A small shop, made up: as many orders, blog posts and products as a test, a demo or a bench wants, quickly.
//!
//! What a shop holds follows from its seed alone: the same seed gives the same bytes, on every machine, whole
//! or in parts.
//!
//! ```
//! use integration_tests::shop::Shop;
//!
//! let shop = Shop::new(1);
//! let mut bytes = 0;
//! for order in shop.orders(0..1_000) {
//!     bytes += order.as_bytes().len();
//! }
//! assert!(bytes > 600_000);
//! ```
//!
//! | collection | documents | rows a document | tables |
//! |---|---|---|---|
//! | `orders` | 727 bytes of BSON on average | 8.5: 1 order, 2.5 items, 5 tags | `orders`, `order_items`, `order_item_tags` |
//! | `posts` | 1.5 kB on average | 10 | `posts`, `post_tags`, `post_comments`, `post_comment_replies` |
//! | `products` | 1.2 kB on average | 36: 1 product, 35 days | `products`, `product_daily` (a map) |
//!
//! The first two have what real collections have: fields that are missing or null, arrays that are missing or empty,
//! numbers of several types in one field, dates before 1970, text with quotes, line ends, tabs, backslashes and emoji.

mod bytes;
mod fill;
mod orders;
mod outline;
mod posts;
mod products;
mod words;

use std::iter::FusedIterator;
use std::ops::Range;

use bson::RawDocumentBuf;
use bson::oid::ObjectId;

pub use fill::{Filled, fill};
pub use outline::outline;

use crate::random::Random;

/// A shop. See the [module's page](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shop {
    seed: u64,
}

impl Shop {
    /// The shop with this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The orders with these numbers, from 0, in order of `_id` and of time. `0..10` and `10..20` are together what
    /// `0..20` is.
    pub fn orders(&self, numbers: Range<u64>) -> Documents {
        Documents { seed: self.seed, numbers, write: orders::write }
    }

    /// The posts with these numbers, from 0, in order of `_id` and of time. `0..10` and `10..20` are together what
    /// `0..20` is.
    pub fn posts(&self, numbers: Range<u64>) -> Documents {
        Documents { seed: self.seed, numbers, write: posts::write }
    }

    /// The products with these numbers, from 0, in order of `_id`. `0..10` and `10..20` are together what `0..20` is.
    pub fn products(&self, numbers: Range<u64>) -> Documents {
        Documents { seed: self.seed, numbers, write: products::write }
    }
}

/// Documents of a shop, made one by one as they are asked for.
#[derive(Debug, Clone)]
pub struct Documents {
    seed: u64,
    numbers: Range<u64>,
    write: fn(seed: u64, number: u64, bytes: &mut Vec<u8>),
}

impl Documents {
    /// Appends the next document to `bytes`, as mongodump lays out a `.bson` file; `false` if there is none left.
    /// Cheaper than [`Iterator::next`] for whoever reuses the buffer.
    pub fn append_next(&mut self, bytes: &mut Vec<u8>) -> bool {
        let next = self.numbers.next();
        if let Some(number) = next {
            (self.write)(self.seed, number, bytes);
        }
        next.is_some()
    }
}

impl Iterator for Documents {
    type Item = RawDocumentBuf;

    fn next(&mut self) -> Option<RawDocumentBuf> {
        let mut bytes = Vec::with_capacity(1024);
        let written = self.append_next(&mut bytes);
        written.then(|| RawDocumentBuf::from_bytes(bytes).expect("what is written has its length and its end"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.numbers.size_hint()
    }
}

impl ExactSizeIterator for Documents {}

impl FusedIterator for Documents {}

/// What a sequence of random numbers is for.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Order = 1,
    Customer,
    Post,
    Author,
    Machine,
    Product,
}

/// As a driver makes them: seconds, five bytes of the machine's own, a counter.
fn object_id(seed: u64, millis: i64, number: u64) -> ObjectId {
    let machine = Random::of(seed, Kind::Machine as u64, 0).next().to_be_bytes();
    let mut id = [0; 12];
    id[..4].copy_from_slice(&((millis / 1_000) as u32).to_be_bytes());
    id[4..9].copy_from_slice(&machine[..5]);
    id[9..].copy_from_slice(&(number as u32).to_be_bytes()[1..]);
    ObjectId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use bson::Document;

    use super::*;

    fn all_bytes(documents: Documents) -> Vec<u8> {
        documents.flat_map(RawDocumentBuf::into_bytes).collect()
    }

    fn array_len(document: &Document, name: &str) -> usize {
        document.get_array(name).map_or(0, Vec::len)
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        for make in [Shop::orders, Shop::posts, Shop::products] {
            let bytes = all_bytes(make(&Shop::new(7), 0..200));
            assert!(bytes == all_bytes(make(&Shop::new(7), 0..200)));
            assert!(bytes != all_bytes(make(&Shop::new(8), 0..200)));
            let parts = [0..50, 50..51, 51..200].map(|part| all_bytes(make(&Shop::new(7), part)));
            assert!(bytes == parts.concat());
            let mut appended = Vec::new();
            let mut documents = make(&Shop::new(7), 0..200);
            while documents.append_next(&mut appended) {}
            assert!(bytes == appended);
        }
    }

    #[test]
    fn a_shop_never_changes_between_versions_by_accident() {
        // FNV-1a. Figures of a bench and expectations of tests rest on these very bytes.
        let hash = |bytes: Vec<u8>| {
            bytes
                .iter()
                .fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3))
        };
        let shop = Shop::new(1);
        let hashes = [hash(all_bytes(shop.orders(0..1_000))), hash(all_bytes(shop.posts(0..1_000)))];
        assert_eq!(hashes.map(|hash| format!("{hash:016x}")), ["63f883ae464ea29b", "21162255c3138273"]);
    }

    #[test]
    fn ids_grow() {
        for documents in [Shop::new(3).orders(0..5_000), Shop::new(3).posts(0..5_000)] {
            let ids: Vec<ObjectId> = documents.map(|document| document.get_object_id("_id").unwrap()).collect();
            assert!(ids.is_sorted_by(|a, b| a < b));
        }
    }

    #[test]
    fn orders_have_the_size_and_the_rows_that_benches_count_on() {
        let (mut bytes, mut rows) = (0, 0);
        for order in Shop::new(1).orders(0..20_000) {
            bytes += order.as_bytes().len();
            let order = Document::try_from(order).unwrap();
            let items = order.get_array("items").unwrap();
            rows += 1 + items.len();
            rows += items.iter().map(|item| array_len(item.as_document().unwrap(), "tags")).sum::<usize>();
        }
        let (bytes, rows) = (bytes as f64 / 20_000.0, rows as f64 / 20_000.0);
        assert!((720.0..734.0).contains(&bytes), "{bytes} bytes an order");
        assert!((8.4..8.6).contains(&rows), "{rows} rows an order");
    }

    #[test]
    fn posts_have_the_size_and_the_rows_of_the_page() {
        let (mut bytes, mut rows) = (0, 0);
        for post in Shop::new(1).posts(0..20_000) {
            bytes += post.as_bytes().len();
            let post = Document::try_from(post).unwrap();
            rows += 1 + array_len(&post, "tags");
            if let Ok(comments) = post.get_array("comments") {
                rows += comments.len();
                rows +=
                    comments.iter().map(|comment| array_len(comment.as_document().unwrap(), "replies")).sum::<usize>();
            }
        }
        let (bytes, rows) = (bytes as f64 / 20_000.0, rows as f64 / 20_000.0);
        assert!((1_500.0..1_600.0).contains(&bytes), "{bytes} bytes a post");
        assert!((9.5..10.5).contains(&rows), "{rows} rows a post");
    }

    #[test]
    fn products_have_numbers_of_many_days() {
        let products = Shop::new(1).products(0..40).map(|product| Document::try_from(product).unwrap());
        let days: Vec<String> = products
            .flat_map(|product| product.get_document("daily").unwrap().keys().cloned().collect::<Vec<_>>())
            .collect();
        let (first, last) = (days.iter().min().unwrap(), days.iter().max().unwrap());
        assert_eq!((first.as_str(), last.as_str()), ("2020-01-01", "2020-02-29"));
        assert!((1_300..1_500).contains(&days.len()), "{} days", days.len());
    }
}
