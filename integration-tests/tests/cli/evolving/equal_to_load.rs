//! What has grown equals what a load by its schema gives, for random collections.
//!
//! `GIZER_EVOLVE_SEEDS=100` runs so many seeds, `GIZER_EVOLVE_SEED=17` runs one alone.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, doc};
use integration_tests::random::Random;
use integration_tests::rig::Version;

use super::{is_equal, is_equal_to_a_load};
use crate::place::Place;

/// Documents of one seed.
const DOCUMENTS: i32 = 160;

/// What a field holds: the same in most of the documents that have it.
#[derive(Debug, Clone)]
enum Shape {
    Scalar(u64),
    Document(Vec<Field>),
    Array(Box<Shape>),
    /// Names that are data.
    Map(Box<Shape>),
}

#[derive(Debug, Clone)]
struct Field {
    name: String,
    shape: Shape,
    /// In how many documents of a hundred.
    percent: u64,
    /// Whether documents that are loaded have it.
    is_old: bool,
}

fn shape(random: &mut Random, depth: u64) -> Shape {
    match random.below(10) {
        0 | 1 if depth < 3 => Shape::Document(fields(random, depth + 1, 4)),
        2 | 3 if depth < 3 => Shape::Array(Box::new(shape(random, depth + 1))),
        4 if depth < 2 => Shape::Map(Box::new(shape(random, depth + 1))),
        _ => Shape::Scalar(random.below(9)),
    }
}

fn fields(random: &mut Random, depth: u64, most: u64) -> Vec<Field> {
    let names =
        ["a", "b", "B", "a_b", "c", "idx", "key", "value", "id", "_extra", "x y", "a~b", "ü", "order", "n1", "$x", ""];
    let count = random.between(1, most);
    let mut fields: Vec<Field> = Vec::new();
    for _ in 0..count {
        let name = random.pick(&names).to_owned();
        if fields.iter().all(|field| field.name != name) {
            let (percent, is_old) = (random.pick(&[4, 30, 90, 100]), random.percent(40));
            fields.push(Field { name, shape: shape(random, depth), percent, is_old });
        }
    }
    fields
}

fn scalar(random: &mut Random, kind: u64) -> Bson {
    match kind {
        0 => random.pick(&["", "a", "O'Brien", "\\N", "ü 😀", "nul\0"]).into(),
        1 => (random.below(2_000) as i32 - 1_000).into(),
        2 => ((random.next() >> 8) as i64).into(),
        3 => (random.below(1 << 20) as f64 / 8.0 + 0.0625).into(),
        4 => random.percent(50).into(),
        5 => DateTime::from_millis(random.below(1 << 42) as i64).into(),
        6 => Bson::Decimal128(format!("{}.{}0", random.below(99), random.below(10)).parse().unwrap()),
        7 => Binary { subtype: BinarySubtype::Uuid, bytes: (0..16).map(|_| random.next() as u8).collect() }.into(),
        _ => bson::oid::ObjectId::from_bytes(std::array::from_fn(|_| random.next() as u8)).into(),
    }
}

fn value(random: &mut Random, shape: &Shape, old: bool) -> Bson {
    if random.percent(3) {
        return match random.below(5) {
            0 => Bson::Null,
            1 => doc! {}.into(),
            2 => Bson::Array(Vec::new()),
            3 => doc! { "odd": [1, { "a": 2 }] }.into(),
            _ => {
                let kind = random.below(9);
                scalar(random, kind)
            }
        };
    }
    match shape {
        Shape::Scalar(kind) => scalar(random, *kind),
        Shape::Document(fields) => document(random, fields, old).into(),
        Shape::Array(inner) => (0..random.below(4)).map(|_| value(random, inner, old)).collect::<Vec<_>>().into(),
        Shape::Map(inner) => {
            let keys = random.between(1, 6);
            (0..keys)
                .map(|_| (format!("{:08x}", random.next() >> 32), value(random, inner, old)))
                .collect::<Document>()
                .into()
        }
    }
}

/// Old documents have old fields alone.
fn document(random: &mut Random, fields: &[Field], old: bool) -> Document {
    let mut document = Document::new();
    for field in fields.iter().filter(|field| field.is_old || !old) {
        if random.percent(field.percent) {
            document.insert(field.name.clone(), value(random, &field.shape, old));
        }
    }
    document
}

fn whole(random: &mut Random, fields: &[Field], id: i32, old: bool) -> Document {
    let document = document(random, fields, old);
    // MongoDB takes no name that begins with a dollar sign in a replacement.
    let mut whole = doc! { "_id": id };
    whole.extend(document.into_iter().filter(|(name, _)| !name.starts_with('$')));
    whole
}

#[allow(clippy::print_stdout, reason = "a seed that fails has to be known")]
async fn one(seed: u64) {
    println!("seed {seed}");
    let mut random = Random::of(seed, 15, 0);
    let fields = fields(&mut random, 0, 9);
    let place = Place::shared(Version::V6_0).await;
    let old = (0..DOCUMENTS / 3).map(|id| whole(&mut random, &fields, id, true)).collect::<Vec<_>>();
    place.insert("things", old).await;
    place.gizer(&["schema", "infer"]).await.expect_code(0);
    place.gizer(&["load"]).await.expect_code(0);
    let things = place.mongo.collection::<Document>("things");
    for round in 0..2 {
        let first = DOCUMENTS / 3 * (round + 1);
        let new = (first..first + DOCUMENTS / 3).map(|id| whole(&mut random, &fields, id, false)).collect::<Vec<_>>();
        place.insert("things", new).await;
        for _ in 0..10 {
            let id = random.below(first as u64) as i32;
            let now = whole(&mut random, &fields, id, false);
            things.replace_one(doc! { "_id": id }, now).await.unwrap();
            things.delete_one(doc! { "_id": random.below(first as u64) as i32 }).await.unwrap();
        }
        place.gizer(&["sync"]).await.expect_code(0);
        place.gizer(&["schema", "evolve"]).await.expect_code(0);
        is_equal(&place).await;
    }
    is_equal_to_a_load(&place, "things").await;
}

fn seeds(part: u64) -> Vec<u64> {
    let number =
        |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number of seeds, or a seed"));
    match number("GIZER_EVOLVE_SEED") {
        Some(seed) if part == 0 => vec![seed],
        Some(_) => Vec::new(),
        None => (0..number("GIZER_EVOLVE_SEEDS").unwrap_or(10)).filter(|seed| seed % 2 == part).collect(),
    }
}

#[tokio::test]
async fn what_has_grown_equals_a_load_even_seeds() {
    for seed in seeds(0) {
        one(seed).await;
    }
}

#[tokio::test]
async fn what_has_grown_equals_a_load_odd_seeds() {
    for seed in seeds(1) {
        one(seed).await;
    }
}
