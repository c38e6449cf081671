//! Collections of random shapes: what a seed makes of fields, nesting, arrays and types of `_id`.
//!
//! ```text
//! seed ──▶ Shape ──┬──▶ schema file (or none: gizer infers one)
//!                  ├──▶ documents to begin with
//!                  └──▶ commands
//! ```
//!
//! Documents keep to their shape for the most part. The rest is of another type, null, empty, or under a name that
//! the shape does not have. Each first shape of a seed has maps, whose names are data; others may.

mod commands;
mod growing;
mod keys;
mod values;

use std::collections::BTreeSet;

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, doc};
use serde_json::{Map, Value, json};

use crate::random::Random;
pub use growing::Growing;
use keys::key;
use values::{Scalar, stray};

/// How many documents a collection can have, on each shard.
const IDS: u64 = 40;

/// What sequences of random numbers are for.
const SHAPES: u64 = 0x7368_6170;
const BEGINNING: u64 = 0x6265_6769;

/// Names of the maps that the first shape always has: of documents, of scalars, of maps.
const MAPS: [&str; 3] = ["scores", "labels", "daily"];

/// Names that fields have. Some need care in SQL, some collide once they are columns.
const NAMES: [&str; 18] = [
    "a",
    "b",
    "c_d",
    "c",
    "Name",
    "name",
    "_x",
    "idx",
    "_extra",
    "select",
    "with space",
    "Ünï\"quote'",
    "items",
    "tags",
    "node",
    "key",
    "a_name_that_is_so_long_that_no_column_can_have_it_without_being_cut_off_somewhere",
    "d",
];

/// A field of documents, or of documents inside them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: &'static str,
    content: Content,
    /// Kept as jsonb, whatever it is.
    json: bool,
}

/// What a path holds for the most part.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Scalar(Scalar),
    Fields(Vec<Field>),
    List(Box<Content>),
    /// Names that are data, all with values of one kind.
    Map(Box<Content>),
}

impl Content {
    fn has_map(&self) -> bool {
        match self {
            Self::Scalar(_) => false,
            Self::Fields(fields) => fields.iter().any(|field| field.content.has_map()),
            Self::List(element) => element.has_map(),
            Self::Map(_) => true,
        }
    }
}

/// What the `_id`s of a collection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Int,
    Text,
    ObjectId,
    Date,
    Uuid,
    /// A document.
    Compound,
    /// Several types side by side.
    Mixed,
}

/// A collection of the seed's own making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The collection's name.
    pub name: String,
    /// Whether its schema file is to be inferred from the first documents.
    pub inferred: bool,
    key: Key,
    fields: Vec<Field>,
}

impl Shape {
    /// The shape with this number in a seed.
    pub fn of(seed: u64, number: u64) -> Self {
        let mut random = Random::of(seed, SHAPES, number);
        let keys = [Key::Int, Key::Text, Key::ObjectId, Key::ObjectId, Key::Date, Key::Uuid, Key::Compound, Key::Mixed];
        let name = random.pick(&["shape", "Shapes", "shape-s", "select"]);
        let (inferred, key) = (random.percent(40), random.pick(&keys));
        let fields = match number {
            0 => fields(&mut random, 2, 3).into_iter().chain(maps(&mut random)).collect(),
            _ => fields(&mut random, 3, 6),
        };
        // The names of maps would become columns, more than a test has time for.
        let inferred = inferred && !fields.iter().any(|field| field.content.has_map());
        Self { name: format!("{name}{number}"), inferred, key, fields }
    }

    /// The text of a schema file of gizer's dialect.
    pub fn schema_file(&self) -> String {
        let mut fields = schema_of(&self.fields);
        let key = match self.key {
            Key::Int => "BIGINT",
            Key::Text => "STRING",
            Key::ObjectId => "OBJECTID",
            Key::Date => "TIMESTAMP",
            Key::Uuid => "UUID",
            Key::Compound | Key::Mixed => "KEY",
        };
        fields.insert("_id".into(), key.into());
        json!({ "$gizer": 1, "collection": self.name, "fields": fields }).to_string()
    }

    /// Documents to begin with on a shard: half of all that there can be.
    pub fn documents(&self, seed: u64, shard: u64, shards: u64) -> Vec<Document> {
        let mut random = Random::of(seed, BEGINNING, shard);
        let numbers = (0..IDS).step_by(2).map(|number| number * shards + shard);
        numbers.map(|number| self.document(number, &mut random)).collect()
    }

    fn document(&self, number: u64, random: &mut Random) -> Document {
        let mut document = doc! { "_id": self.key.of(number) };
        document.extend(self.body(random));
        document
    }

    fn body(&self, random: &mut Random) -> Document {
        let mut body = document_of(&self.fields, random);
        if random.percent(15) {
            body.insert("note", "long ".repeat(random.between(100, 500) as usize));
        }
        body
    }
}

impl Key {
    /// The `_id` with this number. Two numbers never have one `_id`.
    fn of(self, number: u64) -> Bson {
        match self {
            Self::Int => (number as i32 - 20).into(),
            Self::Text => format!("it's \"{number}\" ü\n").into(),
            Self::ObjectId => {
                let mut bytes = [0x5E; 12];
                bytes[4..].copy_from_slice(&number.to_be_bytes());
                ObjectId::from_bytes(bytes).into()
            }
            Self::Date => DateTime::from_millis(number as i64 * 86_400_123 - 1_000_000_000).into(),
            Self::Uuid => {
                let mut bytes = vec![0x4B; 8];
                bytes.extend(number.to_be_bytes());
                Binary { subtype: BinarySubtype::Uuid, bytes }.into()
            }
            Self::Compound => doc! { "a": (number / 7) as i32, "b": { "c": format!("{}", number % 7) } }.into(),
            Self::Mixed => match number % 6 {
                0 => Self::Int.of(number),
                1 => Self::Text.of(number),
                2 => Self::ObjectId.of(number),
                3 => Self::Compound.of(number),
                4 => format!("{number}{}", "long ".repeat(300)).into(),
                _ => (number as f64 + 0.5).into(),
            },
        }
    }
}

fn fields(random: &mut Random, depth: u64, most: u64) -> Vec<Field> {
    let count = random.between(2, most) as usize;
    let mut names = BTreeSet::new();
    while names.len() < count {
        names.insert(random.pick(&NAMES));
    }
    let field = |name| Field { name, content: content(random, depth), json: random.percent(8) };
    names.into_iter().map(field).collect()
}

/// A map of documents, which have a list and whatever else, a map of scalars, and a map of maps.
fn maps(random: &mut Random) -> [Field; 3] {
    let field = |name, content| Field { name, content, json: false };
    let scalar = Content::Scalar(random.pick(&Scalar::ALL));
    let list = Content::List(Box::new(Content::Scalar(random.pick(&Scalar::ALL))));
    let any = content(random, 1);
    let score = vec![field("points", Content::Scalar(Scalar::Int)), field("tags", list), field("any", any)];
    let hours = Content::Map(Box::new(Content::Scalar(random.pick(&Scalar::ALL))));
    let daily = match random.percent(50) {
        true => hours,
        false => Content::Fields(vec![field("views", Content::Scalar(Scalar::Int)), field("by_hour", hours)]),
    };
    let [scores, labels, days] = [Content::Fields(score), scalar, daily].map(|content| Content::Map(Box::new(content)));
    [field(MAPS[0], scores), field(MAPS[1], labels), field(MAPS[2], days)]
}

fn content(random: &mut Random, depth: u64) -> Content {
    match random.below(12) {
        0..2 if depth > 0 => Content::Fields(fields(random, depth - 1, 4)),
        2..5 if depth > 0 => Content::List(Box::new(content(random, depth - 1))),
        5..7 if depth > 0 => Content::Map(Box::new(content(random, depth - 1))),
        _ => Content::Scalar(random.pick(&Scalar::ALL)),
    }
}

fn schema_of(fields: &[Field]) -> Map<String, Value> {
    let value = |field: &Field| match field.json {
        true => json!({ "$as": "json" }),
        false => schema_value(&field.content, false),
    };
    fields.iter().map(|field| (field.name.to_owned(), value(field))).collect()
}

fn schema_value(content: &Content, nested: bool) -> Value {
    match content {
        Content::Scalar(scalar) => scalar.schema().into(),
        Content::Fields(fields) => schema_of(fields).into(),
        // An array in an array or a map is json unless a table is asked for; that of a scalar is asked for.
        Content::List(element) if nested && matches!(**element, Content::Scalar(_)) => {
            json!({ "$as": "table", "$items": schema_value(element, true) })
        }
        Content::List(element) => json!([schema_value(element, true)]),
        Content::Map(value) => json!({ "$as": "map", "$values": schema_value(value, true) }),
    }
}

/// A document of these fields; some are missing.
fn document_of(fields: &[Field], random: &mut Random) -> Document {
    let mut document = Document::new();
    for field in fields {
        if random.percent(80) {
            document.insert(field.name, value_of(&field.content, random));
        }
    }
    if random.percent(5) {
        document.insert(random.pick(&["unknown", "Unknown", "un.known"]), stray(random));
    }
    document
}

/// A value of the content, or a stray.
fn value_of(content: &Content, random: &mut Random) -> Bson {
    if random.percent(4) {
        return stray(random);
    }
    match content {
        Content::Scalar(scalar) => scalar.value(random),
        Content::Fields(fields) => document_of(fields, random).into(),
        Content::List(element) => (0..random.below(4)).map(|_| value_of(element, random)).collect::<Vec<Bson>>().into(),
        Content::Map(value) => {
            (0..random.below(4)).map(|_| (key(random), value_of(value, random))).collect::<Document>().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_documents_follow_from_the_seed() {
        let all = |seed| {
            let shapes: Vec<Shape> = (0..3).map(|number| Shape::of(seed, number)).collect();
            let documents: Vec<_> = shapes.iter().map(|shape| shape.documents(seed, 0, 1)).collect();
            format!("{shapes:?} {documents:?}")
        };
        assert_eq!(all(5), all(5));
        assert_ne!(all(5), all(6));
    }

    #[test]
    fn every_number_has_an_id_of_its_own() {
        for key in [Key::Int, Key::Text, Key::ObjectId, Key::Date, Key::Uuid, Key::Compound, Key::Mixed] {
            let ids: BTreeSet<String> = (0..2 * IDS).map(|number| format!("{:?}", key.of(number))).collect();
            assert_eq!(ids.len() as u64, 2 * IDS, "{key:?}");
        }
    }

    #[test]
    fn shapes_are_of_every_kind() {
        let text: String = (0..40).map(|seed| format!("{:?}", Shape::of(seed / 2, seed % 2))).collect();
        let kinds = ["inferred: true", "json: true", "List(List", "List(Fields", "Fields([", "Mixed", "Compound"];
        let maps = ["Map(Map", "Map(Fields", "Map(List", "List(Map", "Map(Scalar"];
        for kind in kinds.into_iter().chain(maps) {
            assert!(text.contains(kind), "no shape has {kind}");
        }
    }
}
