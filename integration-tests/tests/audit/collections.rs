//! Collections of every kind that tables can be of: each type of key, each policy, both dialects.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, doc};
use integration_tests::random::Random;
use integration_tests::traffic::{COLLECTIONS, Traffic};
use serde_json::{Value, json};

use super::faults::NewKey;
use super::judge::{judge_by_oracle, judge_rebuilt};
use super::world::World;

/// What random numbers of documents are for.
const DOCUMENTS: u64 = 0x6b69_6e64;

/// Who judges the tables, beside a fresh load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judge {
    /// The classic dialect.
    Oracle,
    /// What has an `_extra` for everything.
    Rebuilt,
    /// Arrays in a column are not rebuilt by the tests.
    FreshLoad,
}

/// A collection with its documents.
pub(crate) struct Collection {
    pub(crate) name: &'static str,
    pub(crate) schema_file: String,
    pub(crate) documents: Vec<Document>,
    pub(crate) collation: bool,
    pub(crate) judge: Judge,
    pub(crate) new_key: NewKey,
}

/// A kind of `_id`: a name for the collection, the type in the schema file, ids by number, keys that no document has.
type Ids = (&'static str, &'static str, fn(u64) -> Bson, NewKey);

fn bytes<const LEN: usize>(number: u64) -> [u8; LEN] {
    let mut random = Random::of(number, LEN as u64, 0);
    std::array::from_fn(|_| random.next() as u8)
}

fn hex(random: &mut Random, digits: usize) -> String {
    (0..digits).map(|_| random.pick(&b"0123456789abcdef".map(char::from))).collect()
}

fn new_text(random: &mut Random) -> Option<String> {
    Some(match random.below(4) {
        0 => String::new(),
        1 => format!("\u{10FFFF}{}", random.below(1_000)),
        _ => format!("nobody '{}'", random.below(1_000)),
    })
}

/// One that an ObjectId could be, or one that none is.
fn new_object_id(random: &mut Random) -> Option<String> {
    Some(match random.below(4) {
        0 => format!("not an id {}", random.below(1_000)),
        1 => hex(random, 24).to_uppercase(),
        _ => hex(random, 24),
    })
}

fn new_int(random: &mut Random) -> Option<String> {
    Some((i64::from(random.next() as i32) * 2 + 1).clamp(i32::MIN.into(), i32::MAX.into()).to_string())
}

fn new_long(random: &mut Random) -> Option<String> {
    let far = [i64::MIN, i64::MAX - 1, (1 << 53) + 2];
    Some(if random.percent(20) { random.pick(&far) } else { random.next() as i64 }.to_string())
}

/// A date that MongoDB could have, or one with a microsecond.
fn new_date(random: &mut Random) -> Option<String> {
    let fraction = if random.percent(50) { "000" } else { "001" };
    Some(format!("{}-01-01 00:00:00.500{fraction}+00", 1_500 + random.below(3_000)))
}

fn new_double(random: &mut Random) -> Option<String> {
    Some((random.next() as f64 / 3.0).to_string())
}

/// A form that an `_id` could have, or that none has.
fn new_tagged(random: &mut Random) -> Option<String> {
    Some(match random.below(7) {
        0 => format!("snobody {}", random.below(1_000)),
        1 => format!("n{}", 1_000_003 + random.below(1 << 40)),
        2 => format!("o{}", hex(random, 24)),
        3 => format!("#{}", hex(random, 64)),
        4 => format!("n1{}.500", random.below(1_000)),
        5 => format!("!{}", random.below(1_000)),
        _ => format!("{{s\"nobody\":n{}}}", 1 + random.below(9)),
    })
}

/// Several types side by side, and one whose form is too long for a key.
fn mixed_id(number: u64) -> Bson {
    let small = number as i32;
    match number % 12 {
        0 => format!("text {number}").into(),
        1 => ObjectId::from_bytes(bytes(number)).into(),
        2 => doc! { "a": small, "b": "x" }.into(),
        3 => DateTime::from_millis(number as i64 * 1_001).into(),
        4 => Binary { subtype: BinarySubtype::Generic, bytes: bytes::<7>(number).to_vec() }.into(),
        5 => small.into(),
        6 => (number as f64 + 0.25).into(),
        7 => Bson::Decimal128(format!("{number}.125").parse().unwrap()),
        8 => format!("{number}{}", "long ".repeat(300)).into(),
        9 => match number / 12 {
            0 => Bson::Null,
            1 => true.into(),
            2 => f64::NAN.into(),
            3 => f64::NEG_INFINITY.into(),
            4 => Bson::MinKey,
            5 => Bson::MaxKey,
            _ => bson::Timestamp { time: small as u32, increment: 1 }.into(),
        },
        10 => doc! { "long": "x".repeat(1_200), "n": small }.into(),
        _ => format!("a\0b{number}").into(),
    }
}

fn double_id(number: u64) -> Bson {
    match number {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => -0.0,
        _ => (number as f64 - 40.5) * 1.1,
    }
    .into()
}

const IDS: [Ids; 11] = [
    ("oids", "OBJECTID", |n| ObjectId::from_bytes(bytes(n)).into(), new_object_id),
    ("ints", "INT", |n| ((n as i32 - 30) * 7).into(), |random| new_int(random).filter(|key| key.len() > 5)),
    (
        "longs",
        "BIGINT",
        |n| match n % 3 {
            0 => (n as i32).into(),
            1 => ((n as i64) << 40).into(),
            _ => (n as f64).into(),
        },
        new_long,
    ),
    ("dates", "TIMESTAMP", |n| DateTime::from_millis((n as i64 - 20) * 86_400_123_457).into(), new_date),
    (
        "uuids",
        "UUID",
        |n| Binary { subtype: BinarySubtype::Uuid, bytes: bytes::<16>(n).to_vec() }.into(),
        |random| {
            let mut part = |digits| hex(random, digits);
            Some(format!("{}-{}-{}-{}-{}", part(8), part(4), part(4), part(4), part(12)))
        },
    ),
    ("flags", "BOOLEAN", |n| (n == 0).into(), |_| None),
    ("doubles", "DOUBLE", double_id, new_double),
    (
        "binaries",
        "BINARY",
        |n| {
            let mut bytes = bytes::<9>(n)[..(n % 9) as usize + 1].to_vec();
            bytes[0] = n as u8;
            Binary { subtype: BinarySubtype::Generic, bytes }.into()
        },
        |random| Some(format!("\\x{}", hex(random, 24))),
    ),
    (
        "collated",
        "STRING",
        |n| format!("Ähre {}", (b'A' + (n % 26) as u8) as char).repeat(n as usize / 26 + 1).into(),
        new_text,
    ),
    ("compound", "KEY", |n| doc! { "a": n as i32 / 5, "b": { "c": format!("{}", n % 5) } }.into(), new_tagged),
    ("mixed", "KEY", mixed_id, new_tagged),
];

/// What documents of gizer's dialect look like.
fn fields(key: &str) -> Value {
    json!({
        "_id": key, "name": "STRING", "count": "INT", "total": "BIGINT", "rate": "DOUBLE", "price": "DECIMAL",
        "open": "BOOLEAN", "at": "TIMESTAMP", "ref": "OBJECTID", "blob": "BINARY", "token": "UUID", "never": "TINYINT",
        "raw": { "$as": "json" }, "gone": { "$as": "ignore" },
        "address": { "city": "STRING", "geo": { "lat": "DOUBLE", "lon": "DOUBLE" } },
        "tags": ["STRING"], "plain": [["INT"]],
        "matrix": [{ "$as": "table", "$items": [{ "$as": "table", "$items": "INT" }] }],
        "items": [{ "sku": "STRING", "price": "DECIMAL", "raw": { "$as": "json" },
                    "parts": [{ "code": "STRING", "weight": "DOUBLE", "marks": ["INT"] }] }],
    })
}

/// Types of values, by what they are called in a schema file.
const TYPES: [&str; 11] =
    ["STRING", "INT", "BIGINT", "DOUBLE", "DECIMAL", "BOOLEAN", "TIMESTAMP", "OBJECTID", "BINARY", "UUID", "JSON"];

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse().unwrap())
}

/// A value of a type, odd ones among them.
fn value(ty: &str, random: &mut Random) -> Bson {
    match ty {
        "STRING" => random.pick(&["a", "b ", "", "Straße", "ü 😀", "x\\y\t\n", "same", "Same"]).into(),
        "INT" => (random.below(2_000) as i32 - 1_000).into(),
        "BIGINT" => (random.next() as i64 >> random.below(40)).into(),
        "DOUBLE" => match random.below(6) {
            0 => random.pick(&[0.0, -0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX]).into(),
            _ => (random.below(1 << 50) as f64 / 3.0 - 1e14).into(),
        },
        "DECIMAL" => match random.below(6) {
            0 => decimal(random.pick(&["0", "0.00", "NaN", "1E+30", "-7.50", "1E-40"])),
            _ => decimal(&format!("{}.{}0", random.below(1_000), random.below(100))),
        },
        "BOOLEAN" => random.percent(50).into(),
        "TIMESTAMP" => DateTime::from_millis((random.below(1 << 42) as i64) - (1 << 40)).into(),
        "OBJECTID" => ObjectId::from_bytes(bytes(random.next())).into(),
        "BINARY" => {
            let length = random.below(12) as usize;
            Binary { subtype: BinarySubtype::Generic, bytes: bytes::<12>(random.next())[..length].to_vec() }.into()
        }
        "UUID" => Binary { subtype: BinarySubtype::Uuid, bytes: bytes::<16>(random.next()).to_vec() }.into(),
        _ => match random.below(3) {
            0 => doc! { "a": [1, { "b": value("DOUBLE", random) }], "c": Bson::Null }.into(),
            1 => value("STRING", random),
            _ => vec![value("INT", random), value("DECIMAL", random), doc! {}.into()].into(),
        },
    }
}

/// A value of the type, or now and then none, null, or one of another type.
fn put(document: &mut Document, name: &str, ty: &str, random: &mut Random) {
    match random.below(20) {
        0..3 => {}
        3 => drop(document.insert(name, Bson::Null)),
        4 => {
            let ty = random.pick(&TYPES);
            document.insert(name, value(ty, random));
        }
        _ => drop(document.insert(name, value(ty, random))),
    }
}

fn list(random: &mut Random, longest: u64, mut element: impl FnMut(&mut Random) -> Bson) -> Bson {
    (0..random.below(longest + 1)).map(|_| element(random)).collect::<Vec<Bson>>().into()
}

fn item(random: &mut Random) -> Bson {
    let mut item = doc! {};
    put(&mut item, "sku", "STRING", random);
    put(&mut item, "price", "DECIMAL", random);
    put(&mut item, "raw", "JSON", random);
    let parts = list(random, 2, |random| {
        let mut part = doc! { "code": value("STRING", random), "weight": value("DOUBLE", random) };
        part.insert("marks", list(random, 3, |random| value("INT", random)));
        part.into()
    });
    item.insert("parts", parts);
    item.into()
}

fn document(id: Bson, random: &mut Random) -> Document {
    let mut document = doc! { "_id": id };
    let scalars = [
        ("name", "STRING"),
        ("count", "INT"),
        ("total", "BIGINT"),
        ("rate", "DOUBLE"),
        ("price", "DECIMAL"),
        ("open", "BOOLEAN"),
        ("at", "TIMESTAMP"),
        ("ref", "OBJECTID"),
        ("blob", "BINARY"),
        ("token", "UUID"),
        ("raw", "JSON"),
        ("gone", "STRING"),
    ];
    for (name, ty) in scalars {
        put(&mut document, name, ty, random);
    }
    let mut geo = doc! {};
    put(&mut geo, "lat", "DOUBLE", random);
    document.insert("address", doc! { "city": value("STRING", random), "geo": geo });
    if random.percent(15) {
        document.insert("unknown", value("JSON", random));
    }
    document.insert("tags", list(random, 4, |random| value("STRING", random)));
    document.insert("plain", list(random, 2, |random| list(random, 2, |random| value("INT", random))));
    let row = |random: &mut Random| list(random, 3, |random| value("INT", random));
    document.insert("matrix", list(random, 2, |random| list(random, 2, row)));
    document.insert("items", list(random, 3, item));
    document
}

fn of_gizer(name: &str, fields: &Value, exact_types: bool) -> String {
    json!({ "$gizer": 1, "collection": name, "exact_types": exact_types, "fields": fields }).to_string()
}

fn with_ids(seed: u64, number: u64, count: u64, (name, key, id, new_key): Ids) -> Collection {
    let mut random = Random::of(seed, DOCUMENTS, number);
    let count = if key == "BOOLEAN" { 2 } else { count };
    // Where documents are judged by what is rebuilt, `gone` would be missed.
    let documents = (0..count).map(|n| {
        let mut document = document(id(n), &mut random);
        document.remove("gone");
        document
    });
    Collection {
        name,
        schema_file: of_gizer(name, &fields(key), number.is_multiple_of(2)),
        documents: documents.collect(),
        collation: name == "collated",
        judge: Judge::Rebuilt,
        new_key,
    }
}

/// Arrays in one column, of every type, and what is left out.
fn lists(seed: u64, count: u64) -> Collection {
    let mut random = Random::of(seed, DOCUMENTS, 100);
    let types: Vec<&str> = TYPES.into_iter().filter(|ty| *ty != "JSON").collect();
    let mut fields = json!({ "_id": "INT", "gone": { "$as": "ignore" }, "rows": [{}] });
    fields["rows"][0]["n"] = json!("INT");
    for ty in &types {
        fields[ty.to_lowercase()] = json!({ "$as": "array", "$type": ty });
        fields["rows"][0][ty.to_lowercase()] = json!({ "$as": "array", "$type": ty });
    }
    let put_lists = |document: &mut Document, random: &mut Random| {
        for ty in &types {
            if random.percent(85) {
                let element = |random: &mut Random| if random.percent(10) { Bson::Null } else { value(ty, random) };
                document.insert(ty.to_lowercase(), list(random, 4, element));
            }
        }
    };
    let documents = (0..count).map(|n| {
        let mut document = doc! { "_id": n as i32 * 2, "gone": n as i32 };
        put_lists(&mut document, &mut random);
        let rows = (0..random.below(3)).map(|n| {
            let mut row = doc! { "n": n as i32 };
            put_lists(&mut row, &mut random);
            row
        });
        let rows: Vec<Document> = rows.collect();
        document.insert("rows", rows);
        document
    });
    let documents = documents.collect();
    Collection {
        name: "lists",
        schema_file: of_gizer("lists", &fields, false),
        documents,
        collation: false,
        judge: Judge::FreshLoad,
        new_key: |random| Some((2 * random.below(1 << 20) as i32 - 999_999).to_string()),
    }
}

/// Few documents with hundreds of elements each.
fn long_arrays(seed: u64) -> Collection {
    let mut random = Random::of(seed, DOCUMENTS, 101);
    let documents = (0..5).map(|n| {
        let mut document = doc! { "_id": format!("document {n}") };
        document.insert("tags", (0..700).map(|_| value("STRING", &mut random)).collect::<Vec<Bson>>());
        document.insert("items", (0..300).map(|_| item(&mut random)).collect::<Vec<Bson>>());
        document
    });
    Collection {
        name: "long_arrays",
        schema_file: of_gizer("long_arrays", &fields("STRING"), false),
        documents: documents.collect(),
        collation: false,
        judge: Judge::Rebuilt,
        new_key: new_text,
    }
}

fn empty() -> Collection {
    Collection {
        name: "empties",
        schema_file: of_gizer("empties", &fields("OBJECTID"), false),
        documents: Vec::new(),
        collation: false,
        judge: Judge::Rebuilt,
        new_key: new_object_id,
    }
}

/// The collections of the traffic, two of them in the classic dialect, with more documents; and one more whose `_id` has two
/// columns.
fn of_traffic(seed: u64, shards: u64) -> Vec<Collection> {
    let mut collections: Vec<Collection> = Vec::new();
    let new_keys: [NewKey; 3] = [new_text, new_long, new_tagged];
    for (collection, new_key) in COLLECTIONS.into_iter().zip(new_keys) {
        let documents = (0..shards).flat_map(|shard| Traffic::of_shard(seed, shard, shards).documents(collection));
        collections.push(Collection {
            name: collection.name,
            schema_file: collection.schema_file(),
            documents: documents.collect(),
            collation: false,
            judge: if collection.name == "others" { Judge::Rebuilt } else { Judge::Oracle },
            new_key,
        });
    }
    let things = &collections[0];
    let schema_file = things.schema_file.replace(r#""_id":"STRING""#, r#""_id":{"oid":"STRING","bsontype":"INT"}"#);
    assert_ne!(schema_file, things.schema_file);
    let with_oid = |(n, document): (u64, &Document)| {
        let mut document = document.clone();
        document.insert("_id", ObjectId::from_bytes(bytes(n)));
        document
    };
    let pairs = Collection {
        name: "pairs",
        schema_file,
        documents: (0..).zip(&things.documents).map(with_oid).collect(),
        collation: false,
        judge: Judge::Oracle,
        new_key: new_object_id,
    };
    collections.push(pairs);
    collections
}

/// All collections, with about so many documents each.
pub(crate) fn collections(seed: u64, count: u64) -> Vec<Collection> {
    let mut collections = of_traffic(seed, count.div_ceil(20));
    collections.extend((0..).zip(IDS).map(|(number, ids)| with_ids(seed, number, count, ids)));
    // Each type has few columns in it.
    collections.extend([lists(seed, count * 6), long_arrays(seed), empty()]);
    collections
}

/// Writes the schema files and the documents.
pub(crate) async fn fill(world: &World<'_>, collections: &[Collection]) {
    for collection in collections {
        world.schema_file(collection.name, &collection.schema_file);
        let mut create = doc! { "create": collection.name };
        if collection.collation {
            create.insert("collation", doc! { "locale": "en", "strength": 2 });
        }
        world.mongo().run_command(create).await.unwrap();
        if !collection.documents.is_empty() {
            world.mongo().collection::<Document>(collection.name).insert_many(&collection.documents).await.unwrap();
        }
    }
}

/// Whether the tables are what the documents say.
pub(crate) async fn judge(world: &World<'_>, collections: &[Collection]) -> Result<(), String> {
    for collection in collections {
        match collection.judge {
            Judge::Oracle => judge_by_oracle(world, collection.name).await?,
            Judge::Rebuilt => judge_rebuilt(world, collection.name).await?,
            Judge::FreshLoad => {}
        }
    }
    super::judge::judge_against_fresh_load(world).await
}
