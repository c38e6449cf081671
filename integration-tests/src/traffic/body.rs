//! What documents of the traffic hold: the schema of all of them, and values that fit it or do not.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use serde_json::{Value, json};

use super::ids::Ids;
use crate::random::Random;

/// What a path holds as long as nothing else has been put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Int,
    BigInt,
    Double,
    Decimal,
    Bool,
    Date,
    ObjectId,
    Address,
    Geo,
    Tags,
    Scores,
    Items,
    Item,
    Options,
    Parts,
    Part,
}

/// Fields with one value, in the document itself and in documents inside it.
pub(super) const SCALARS: [(&str, Kind); 13] = [
    ("name", Kind::Text),
    ("state", Kind::Text),
    ("note", Kind::Text),
    ("count", Kind::Int),
    ("total", Kind::BigInt),
    ("rate", Kind::Double),
    ("price", Kind::Decimal),
    ("open", Kind::Bool),
    ("at", Kind::Date),
    ("ref", Kind::ObjectId),
    ("address.city", Kind::Text),
    ("address.zip", Kind::Int),
    ("address.geo.lat", Kind::Double),
];

/// Numbers that operators calculate with.
pub(super) const NUMBERS: [&str; 6] = ["count", "total", "rate", "price", "address.zip", "address.geo.lat"];

/// Values inside of arrays, by the position of an element. Some positions are past the end.
pub(super) const ELEMENTS: [(&str, Kind); 15] = [
    ("tags.0", Kind::Text),
    ("tags.1", Kind::Text),
    ("tags.4", Kind::Text),
    ("scores.0", Kind::Int),
    ("scores.2", Kind::Int),
    ("items.0", Kind::Item),
    ("items.1", Kind::Item),
    ("items.4", Kind::Item),
    ("items.0.quantity", Kind::Int),
    ("items.1.sku", Kind::Text),
    ("items.2.price", Kind::Double),
    ("items.0.options.color", Kind::Text),
    ("items.1.options.sizes.0", Kind::Int),
    ("items.0.parts.1", Kind::Part),
    ("items.1.parts.0.marks.1", Kind::Int),
];

/// Arrays, and what their elements are.
pub(super) const ARRAYS: [(&str, Kind, Kind); 6] = [
    ("tags", Kind::Tags, Kind::Text),
    ("scores", Kind::Scores, Kind::Int),
    ("items", Kind::Items, Kind::Item),
    ("items.0.parts", Kind::Parts, Kind::Part),
    ("items.1.options.sizes", Kind::Scores, Kind::Int),
    ("items.0.parts.0.marks", Kind::Scores, Kind::Int),
];

/// What changes its type now and then, and back.
pub(super) const CHANGEABLE: [(&str, Kind); 16] = [
    ("name", Kind::Text),
    ("count", Kind::Int),
    ("total", Kind::BigInt),
    ("rate", Kind::Double),
    ("open", Kind::Bool),
    ("at", Kind::Date),
    ("ref", Kind::ObjectId),
    ("address", Kind::Address),
    ("address.geo", Kind::Geo),
    ("tags", Kind::Tags),
    ("scores", Kind::Scores),
    ("items", Kind::Items),
    ("items.0", Kind::Item),
    ("items.0.parts", Kind::Parts),
    ("items.1.options", Kind::Options),
    ("items.0.parts.0.marks", Kind::Scores),
];

const WORDS: [&str; 9] = ["a", "b", "open", "closed", "O'Brien", "\\N", "", "tab\tline\n", "ü 😀"];

/// The states that several documents share, so that one update meets many of them.
pub(super) const STATES: [&str; 4] = ["new", "open", "paid", "closed"];

/// The text of the schema file of a collection. With `_id`s of several types it is of gizer's dialect, else of the classic one.
pub(super) fn schema_file(collection: &str, ids: Ids) -> String {
    let classic = ids != Ids::Mixed;
    let (decimal, oid) = match classic {
        true => (json!("DOUBLE"), json!({ "oid": "STRING", "bsontype": "INT" })),
        false => (json!("DECIMAL"), json!("OBJECTID")),
    };
    let key = match ids {
        Ids::Text => "STRING",
        Ids::Number => "BIGINT",
        Ids::Mixed => "KEY",
    };
    let fields = json!({
        "_id": key,
        "name": "STRING", "state": "STRING", "note": "STRING", "count": "INT", "total": "BIGINT", "rate": "DOUBLE",
        "price": decimal, "open": "BOOLEAN", "at": "TIMESTAMP", "ref": oid,
        "address": { "city": "STRING", "zip": "INT", "geo": { "lat": "DOUBLE", "lon": "DOUBLE" } },
        "tags": ["STRING"],
        "scores": ["INT"],
        "items": [{
            "sku": "STRING", "quantity": "INT", "price": decimal,
            "options": { "color": "STRING", "sizes": ["INT"] },
            "parts": [{ "code": "STRING", "weight": "DOUBLE", "marks": ["INT"] }],
        }],
    });
    match classic {
        true => fields.to_string(),
        false => Value::to_string(&json!({ "$gizer": 1, "collection": collection, "fields": fields })),
    }
}

/// A document without its `_id`. Some fields are missing.
pub(super) fn document(random: &mut Random) -> Document {
    let mut document = doc! { "state": random.pick(&STATES) };
    for (name, kind) in SCALARS.into_iter().filter(|(name, _)| !name.contains('.') && *name != "state") {
        if random.percent(75) {
            document.insert(name, value(kind, random));
        }
    }
    for (name, kind) in
        [("address", Kind::Address), ("tags", Kind::Tags), ("scores", Kind::Scores), ("items", Kind::Items)]
    {
        if random.percent(85) {
            document.insert(name, value(kind, random));
        }
    }
    // In a large document an update is written as what differs, in a small one as the whole.
    if random.percent(20) {
        document.insert("note", "long ".repeat(random.between(100, 600) as usize));
    }
    document
}

/// A value that fits its path, or at least is of a type that the path knows.
pub(super) fn value(kind: Kind, random: &mut Random) -> Bson {
    match kind {
        Kind::Text => random.pick(&WORDS).into(),
        Kind::Int => int(random),
        Kind::BigInt => match random.below(4) {
            0 => (random.next() as i64).into(),
            1 => (random.below(1_000) as i32).into(),
            _ => ((random.below(1 << 40) as i64) - (1 << 39)).into(),
        },
        Kind::Double => match random.below(6) {
            0 => random.pick(&[-0.0, f64::INFINITY, f64::NAN, 0.1]).into(),
            1 => (random.below(100) as i32).into(),
            _ => (random.below(4_000) as f64 / 8.0 - 100.0).into(),
        },
        Kind::Decimal => match random.below(3) {
            0 => (random.below(1_000) as i32).into(),
            _ => decimal(&format!("{}.{}0", random.below(1_000), random.below(10))),
        },
        Kind::Bool => random.percent(50).into(),
        Kind::Date => DateTime::from_millis((random.below(1 << 42) as i64) - (1 << 40)).into(),
        Kind::ObjectId => object_id(random).into(),
        Kind::Geo => doc! { "lat": value(Kind::Double, random), "lon": value(Kind::Double, random) }.into(),
        Kind::Address => {
            let mut address = doc! { "city": value(Kind::Text, random), "zip": value(Kind::Int, random) };
            if random.percent(60) {
                address.insert("geo", value(Kind::Geo, random));
            }
            address.into()
        }
        Kind::Tags => list(Kind::Text, 4, random),
        Kind::Scores => list(Kind::Int, 4, random),
        Kind::Items => list(Kind::Item, 4, random),
        Kind::Parts => list(Kind::Part, 3, random),
        Kind::Item => {
            let mut item = doc! { "sku": value(Kind::Text, random), "quantity": value(Kind::Int, random) };
            for (name, kind) in [("price", Kind::Decimal), ("options", Kind::Options), ("parts", Kind::Parts)] {
                if random.percent(70) {
                    item.insert(name, value(kind, random));
                }
            }
            item.into()
        }
        Kind::Options => doc! { "color": value(Kind::Text, random), "sizes": value(Kind::Scores, random) }.into(),
        Kind::Part => {
            let mut part = doc! { "code": value(Kind::Text, random), "weight": value(Kind::Double, random) };
            if random.percent(60) {
                part.insert("marks", value(Kind::Scores, random));
            }
            part.into()
        }
    }
}

/// A value of a type that the path of this kind does not have.
pub(super) fn other_value(kind: Kind, random: &mut Random) -> Bson {
    let values: [Bson; 10] = [
        Bson::Null,
        "flipped".into(),
        7.into(),
        2.5.into(),
        true.into(),
        doc! {}.into(),
        doc! { "odd": { "city": "x" }, "city": [1] }.into(),
        Bson::Array(Vec::new()),
        vec![
            Bson::from(1),
            "two".into(),
            Bson::Null,
            doc! { "sku": "three", "odd": 3 }.into(),
            vec![Bson::from(4)].into(),
        ]
        .into(),
        object_id(random).into(),
    ];
    let fits = |value: &Bson| match kind {
        Kind::Text => value.as_str().is_some(),
        Kind::Bool => value.as_bool().is_some(),
        Kind::ObjectId => value.as_object_id().is_some(),
        _ => false,
    };
    let at = random.below(values.len() as u64) as usize;
    if fits(&values[at]) { Bson::Null } else { values[at].clone() }
}

pub(super) fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().expect("written as decimal128 is"))
}

fn object_id(random: &mut Random) -> ObjectId {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&random.next().to_be_bytes());
    ObjectId::from_bytes(bytes)
}

/// Mostly an int32, now and then an equal double or an int64 that is too large for the column.
fn int(random: &mut Random) -> Bson {
    match random.below(10) {
        0 => (random.below(1_000) as f64).into(),
        1 => (random.below(1 << 34) as i64).into(),
        _ => (random.below(2_000) as i32 - 1_000).into(),
    }
}

fn list(element: Kind, longest: u64, random: &mut Random) -> Bson {
    let length = random.below(longest + 1);
    (0..length).map(|_| value(element, random)).collect::<Vec<Bson>>().into()
}
