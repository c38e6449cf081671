//! Random traffic: every kind of write that MongoDB knows, against collections with a fixed and rich schema.
//!
//! What is written follows from the seed alone. Which documents it meets does too, as long as nobody else writes and no
//! write is lost; so a seed that finds a fault finds it again.
//!
//! ```
//! use integration_tests::traffic::Traffic;
//!
//! let steps = |seed| format!("{:?}", Traffic::new(seed).take(100).collect::<Vec<_>>());
//! assert_eq!(steps(7), steps(7));
//! ```
//!
//! | collection | `_id` | schema file |
//! |---|---|---|
//! | `things` | text with quotes, dollars, emoji | classic |
//! | `counts` | one number written as int32, int64, double or decimal128 | classic |
//! | `others` | several types, documents among them | gizer's, with `_extra` |
//!
//! Next to these there are collections whose [`Shape`] is of the seed's own making, and one whose
//! shape changes over time ([`Growing`]).
//!
//! A write that meets a value of another type is refused by the server and changes nothing. That is part of the traffic:
//! values change their types all the time.

mod body;
mod ids;
mod shape;
mod step;
mod updates;

use bson::{Bson, Document, doc};

use crate::random::Random;
pub use ids::Ids;
pub use shape::{Growing, Shape};
pub use step::{Outcome, Step};

/// How many documents a collection can have, on each shard.
const IDS: u64 = 40;

/// What sequences of random numbers are for.
const STEPS: u64 = 0x7261_6666;
const DOCUMENTS: u64 = 0x646f_6373;

/// A collection of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficCollection {
    /// Its name.
    pub name: &'static str,
    /// What its `_id`s are.
    pub ids: Ids,
}

/// The collections that the traffic writes to.
pub const COLLECTIONS: [TrafficCollection; 3] = [
    TrafficCollection { name: "things", ids: Ids::Text },
    TrafficCollection { name: "counts", ids: Ids::Number },
    TrafficCollection { name: "others", ids: Ids::Mixed },
];

impl TrafficCollection {
    /// The text of its schema file: the classic dialect, unless its `_id`s are of several types.
    pub fn schema_file(&self) -> String {
        body::schema_file(self.name, self.ids)
    }
}

/// An endless sequence of steps. See the [module's page](self).
#[derive(Debug, Clone)]
pub struct Traffic {
    seed: u64,
    random: Random,
    shard: u64,
    shards: u64,
}

impl Traffic {
    /// The traffic with this seed, of a single replica set.
    pub fn new(seed: u64) -> Self {
        Self::of_shard(seed, 0, 1)
    }

    /// The traffic of one of several shards. No two shards have an `_id` in common.
    pub fn of_shard(seed: u64, shard: u64, shards: u64) -> Self {
        Self { seed, random: Random::of(seed, STEPS, shard), shard, shards }
    }

    /// Documents to begin with: half of all that there can be.
    pub fn documents(&self, collection: TrafficCollection) -> Vec<Document> {
        let mut random = Random::of(self.seed, DOCUMENTS, self.shard);
        let numbers = (0..IDS).step_by(2).map(|number| number * self.shards + self.shard);
        numbers
            .map(|number| {
                let mut document = doc! { "_id": collection.ids.of(number, &mut random) };
                document.extend(body::document(&mut random));
                document
            })
            .collect()
    }

    fn step(&mut self) -> Step {
        let collection = self.random.pick(&COLLECTIONS);
        if self.random.percent(8) {
            return self.transaction();
        }
        Step::Command(self.command(collection))
    }

    fn command(&mut self, collection: TrafficCollection) -> Document {
        match self.random.below(100) {
            0..12 => self.insert(collection),
            12..24 => self.replacement(collection),
            24..66 => {
                let upsert = self.random.percent(10);
                let update = self.update_of_one(collection, upsert);
                step::update(collection.name, vec![update])
            }
            66..72 => self.update_of_many(collection),
            72..82 => {
                let updates = (0..self.random.between(2, 6)).map(|_| self.update_of_one(collection, false)).collect();
                step::update(collection.name, updates)
            }
            82..91 => self.deletion(collection),
            _ => self.find_and_modify(collection),
        }
    }

    fn id(&mut self, collection: TrafficCollection) -> Bson {
        let number = self.random.skewed_below(IDS) * self.shards + self.shard;
        collection.ids.of(number, &mut self.random)
    }

    fn insert(&mut self, collection: TrafficCollection) -> Document {
        let documents = (0..self.random.between(1, 4)).map(|_| {
            let mut document = doc! { "_id": self.id(collection) };
            document.extend(body::document(&mut self.random));
            document
        });
        step::insert(collection.name, documents.collect())
    }

    fn replacement(&mut self, collection: TrafficCollection) -> Document {
        let replacement = doc! {
            "q": { "_id": self.id(collection) },
            "u": body::document(&mut self.random),
            "upsert": self.random.percent(60),
        };
        step::update(collection.name, vec![replacement])
    }

    fn update_of_one(&mut self, collection: TrafficCollection, upsert: bool) -> Document {
        let update = updates::update(&mut self.random);
        let mut filter = doc! { "_id": self.id(collection) };
        filter.extend(update.also);
        let mut statement = doc! { "q": filter, "u": update.change, "upsert": upsert };
        if !update.array_filters.is_empty() {
            statement.insert("arrayFilters", update.array_filters);
        }
        statement
    }

    fn update_of_many(&mut self, collection: TrafficCollection) -> Document {
        let mut update = self.update_of_one(collection, false);
        let mut filter = update.get_document("q").cloned().unwrap_or_default();
        filter.remove("_id");
        if self.random.percent(70) {
            filter.insert("state", self.random.pick(&body::STATES));
        }
        update.insert("q", filter);
        update.insert("multi", true);
        step::update(collection.name, vec![update])
    }

    fn deletion(&mut self, collection: TrafficCollection) -> Document {
        if self.random.percent(10) {
            let state = self.random.pick(&body::STATES);
            return step::delete(collection.name, vec![doc! { "state": state, "open": true }]);
        }
        let filters = (0..self.random.between(1, 3)).map(|_| doc! { "_id": self.id(collection) });
        step::delete(collection.name, filters.collect())
    }

    fn find_and_modify(&mut self, collection: TrafficCollection) -> Document {
        let mut command = doc! { "findAndModify": collection.name };
        let kind = self.random.below(4);
        let update = match kind {
            0 => updates::Update {
                also: Document::new(),
                change: body::document(&mut self.random).into(),
                array_filters: Vec::new(),
            },
            _ => updates::update(&mut self.random),
        };
        let mut filter = doc! { "_id": self.id(collection) };
        filter.extend(update.also);
        command.insert("query", filter);
        if kind == 1 {
            command.insert("remove", true);
            return command;
        }
        command.insert("update", update.change);
        command.insert("upsert", kind == 0);
        command.insert("new", self.random.percent(50));
        if !update.array_filters.is_empty() {
            command.insert("arrayFilters", update.array_filters);
        }
        command
    }

    /// Several commands over two collections, most of them of a kind that is hardly ever refused.
    fn transaction(&mut self) -> Step {
        let first = self.random.below(COLLECTIONS.len() as u64) as usize;
        let collections = [COLLECTIONS[first], COLLECTIONS[(first + 1) % COLLECTIONS.len()]];
        let mut commands = Vec::new();
        for at in 0..self.random.between(2, 5) as usize {
            let collection = collections[at % 2];
            commands.push(match self.random.below(5) {
                0 => self.deletion(collection),
                1 => self.command(collection),
                2 => {
                    let change = updates::pipeline(&mut self.random);
                    let update = doc! { "q": { "_id": self.id(collection) }, "u": change };
                    step::update(collection.name, vec![update])
                }
                _ => self.replacement(collection),
            });
        }
        Step::Transaction { commands, commit: self.random.percent(75) }
    }
}

impl Iterator for Traffic {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        Some(self.step())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_is_all_that_traffic_depends_on() {
        let steps = |seed| Traffic::new(seed).take(300).collect::<Vec<_>>();
        assert_eq!(format!("{:?}", steps(3)), format!("{:?}", steps(3)));
        assert_ne!(format!("{:?}", steps(3)), format!("{:?}", steps(4)));
    }

    #[test]
    fn every_kind_of_write_is_among_the_steps() {
        let text: Vec<String> = Traffic::new(1).take(2_000).map(|step| format!("{step:?}")).collect();
        let operators = [
            "$set",
            "$unset",
            "$push",
            "$addToSet",
            "$pull\"",
            "$pullAll",
            "$pop",
            "$rename",
            "$inc",
            "$mul",
            "$min",
            "$slice",
            "$position",
            "$sort",
            "$replaceWith",
            "arrayFilters",
            "multi",
            "upsert",
            "findAndModify",
            "remove",
            "insert",
            "delete",
            "commit: true",
            "commit: false",
            "items.$.sku",
            "scores.$[]",
        ];
        for operator in operators {
            assert!(text.iter().any(|step| step.contains(operator)), "no step has {operator}");
        }
    }

    #[test]
    fn shards_have_no_id_in_common() {
        let ids = |shard| {
            let traffic = Traffic::of_shard(1, shard, 2);
            traffic.documents(COLLECTIONS[0]).iter().map(|document| document["_id"].to_string()).collect()
        };
        let (one, other): (BTreeSet<String>, BTreeSet<String>) = (ids(0), ids(1));
        assert_eq!((one.len(), other.len()), (20, 20));
        assert!(one.is_disjoint(&other));
    }
}
