//! The tables of maps, and their schema files.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use bson::{Bson, Document, doc};
use gizer_schema::diff::SchemaDiff;
use gizer_schema::edit::merge;
use gizer_schema::infer::{Inference, InferenceRules, MapSeen};
use gizer_schema::raw::RawDoc;
use gizer_schema::{Layout, LayoutError, Node, Schema, file, json_schema, pin_names};
use proptest::prelude::*;

fn schema(collection: &str, fields: &str) -> Schema {
    file::parse(collection, &format!("{{\"$gizer\": 1, \"fields\": {fields}}}")).unwrap()
}

fn tables(collection: &str, fields: &str) -> Vec<String> {
    let layout = Layout::new(&schema(collection, fields)).unwrap();
    let columns = |table: &gizer_schema::Table| {
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        format!("{}: {}", table.name, names.join(" "))
    };
    layout.tables.iter().map(columns).collect()
}

#[test]
fn ids_languages_and_days() {
    let tiers = r#"{"_id": "INT", "tiers": {"$as": "map", "$values":
        {"tier": "STRING", "active": "BOOLEAN", "benefits": ["STRING"]}}}"#;
    assert_eq!(
        tables("accounts", tiers),
        [
            "accounts: id _extra",
            "account_tiers: accounts_id active tier key _extra",
            "account_tier_benefits: accounts_id benefits accounts_tiers_key idx _extra",
        ]
    );
    let places = r#"{"_id": "STRING", "languages": {"$as": "map", "$values": "STRING"},
        "native": {"$as": "map", "$values": {"common": "STRING"}}}"#;
    assert_eq!(
        tables("places", places),
        [
            "places: id _extra",
            "place_languages: places_id value key _extra",
            "place_native: common places_id key _extra",
        ]
    );
    let stats = r#"{"_id": "INT", "daily": {"$as": "map", "$values":
        {"views": "INT", "by_hour": {"$as": "map", "$values": "INT"}}}}"#;
    assert_eq!(
        tables("stats", stats),
        [
            "stats: id _extra",
            "stat_daily: stats_id views key _extra",
            "stat_daily_by_hour: stats_id value stats_daily_key key _extra",
        ]
    );
}

#[test]
fn what_is_directly_in_a_map_goes_by_value() {
    let fields = r#"{"_id": "INT", "m": {"$as": "map", "$values": {"$as": "map", "$values": "INT"}},
        "a": {"$as": "map", "$values": {"$as": "table", "$items": "INT"}}, "j": {"$as": "map", "$values": ["INT"]},
        "l": [{"$as": "map", "$values": {"x": "INT"}}], "t": {"$as": "map", "$values": {"$as": "array", "$type": "INT"}}}"#;
    assert_eq!(
        tables("posts", fields),
        [
            "posts: id _extra",
            "post_a: posts_id key _extra",
            "post_a_value: posts_id value posts_a_key idx _extra",
            "post_j: posts_id value key _extra",
            "post_l: posts_id idx _extra",
            "post_l_item: posts_id x posts_l_idx key _extra",
            "post_m: posts_id key _extra",
            "post_m_value: posts_id value posts_m_key key _extra",
            "post_t: posts_id value key _extra",
        ]
    );
}

/// Elsewhere a column may be called so.
#[test]
fn the_names_of_keys_are_taken_in_tables_of_maps_only() {
    let fields = r#"{"_id": "INT", "key": "INT", "m": {"$as": "map", "$values": {"key": "INT", "idx": "INT"}},
        "l": [{"key": "INT"}]}"#;
    let tables = tables("c", fields);
    assert_eq!(tables[0], "c: id key _extra");
    assert_eq!(tables[1], "c_l: c_id key idx _extra");
    assert!(tables[2].starts_with("c_m: c_id idx key_") && tables[2].ends_with(" key _extra"), "{}", tables[2]);
}

#[test]
fn a_file_of_maps_is_read_and_written() {
    let fields = r#"{"_id": "INT", "m": {"$as": "map", "$name": "chosen", "$values": {"$as": "map", "$values": "INT"}},
        "n": {"$as": "map", "$values": {"a": ["INT"], "b": {"c": "INT"}}}, "$$as": "INT"}"#;
    let parsed = schema("posts", fields);
    let written = file::write(&parsed);
    assert_eq!(file::parse("posts", &written).unwrap(), parsed, "{written}");
    assert!(tables("posts", fields).contains(&"chosen: posts_id key _extra".to_owned()));
    for wrong in [
        r#"{"$as": "map"}"#,
        r#"{"$values": "INT"}"#,
        r#"{"$as": "map", "$values": "INT", "x": "INT"}"#,
        r#"{"$as": "map", "$values": "INT", "$items": "INT"}"#,
        r#"{"$as": "table", "$values": "INT"}"#,
    ] {
        let text = format!("{{\"$gizer\": 1, \"fields\": {{\"_id\": \"INT\", \"m\": {wrong}}}}}");
        assert!(file::parse("posts", &text).is_err(), "{wrong}");
        assert!(!jsonschema::is_valid(&json_schema(), &serde_json::from_str(&text).unwrap()), "{wrong}");
    }
    assert!(jsonschema::is_valid(&json_schema(), &serde_json::from_str(&written).unwrap()), "{written}");
}

#[test]
fn a_map_is_no_key() {
    let layout = Layout::new(&schema("c", r#"{"_id": {"$as": "map", "$values": "INT"}}"#));
    assert!(matches!(layout, Err(LayoutError::UnusableKey { .. })), "{layout:?}");
}

#[test]
fn names_stay_and_types_are_merged() {
    let mut first = schema("c", r#"{"_id": "INT", "a_b": {"$as": "map", "$values": "TINYINT"}}"#);
    let before = Layout::new(&first).unwrap();
    let mut later = schema(
        "c",
        r#"{"_id": "INT", "a": {"b": {"$as": "map", "$values": "INT"}}, "a_b": {"$as": "map", "$values": "INT"}}"#,
    );
    pin_names(&mut later, Some(&before)).unwrap();
    let names: Vec<String> = Layout::new(&later).unwrap().tables.into_iter().map(|table| table.name).collect();
    assert_eq!(names[2], "c_a_b");
    assert!(names[1].starts_with("c_a_b_"), "{names:?}");
    let changes = merge(&mut first, &later);
    assert_eq!(changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a_b: TINYINT → INT"]);
}

#[test]
fn a_document_that_becomes_a_map_is_a_difference() {
    let old = schema("c", r#"{"_id": "INT", "m": {"x": {"n": "INT"}}}"#);
    let new = schema("c", r#"{"_id": "INT", "m": {"$as": "map", "$values": {"n": "INT", "l": ["INT"]}}}"#);
    let diff = SchemaDiff::between(&old, &new).unwrap();
    assert_eq!(diff.paths.len(), 1);
    assert!(diff.load_due());
    let inside = schema("c", r#"{"_id": "INT", "m": {"$as": "map", "$values": {"n": "STRING", "l": ["INT"]}}}"#);
    let diff = SchemaDiff::between(&new, &inside).unwrap();
    assert_eq!(diff.paths.iter().map(|change| change.path.to_string()).collect::<Vec<_>>(), ["m{}.n"]);
}

fn inferred(documents: impl IntoIterator<Item = Document>) -> Inference {
    let mut inference = Inference::default();
    for document in documents {
        inference.observe(RawDoc::new(&document.to_vec().unwrap()).unwrap()).unwrap();
    }
    inference
}

/// The fields as a schema file has them, and what is said of maps.
fn maps_of(inference: &Inference) -> (serde_json::Value, Vec<(String, MapSeen)>) {
    let (schema, findings) = inference.schema("c");
    let file: serde_json::Value = serde_json::from_str(&file::write(&schema)).unwrap();
    let maps = findings.into_iter().filter_map(|finding| Some((finding.path, finding.map?)));
    (file["fields"].clone(), maps.collect())
}

/// A number that looks as if by chance.
fn chance(seed: u64) -> u64 {
    let mixed = (seed ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed ^ (mixed >> 29)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 16
}

/// `../shared/cases/maps.json`, accounts: hexadecimal ids, one or two of some hundreds in a document, none in every second.
#[test]
fn objects_keyed_by_ids_are_maps() {
    let tier = |n: u64| doc! {"tier": "Gold", "active": n.is_multiple_of(2), "benefits": if n.is_multiple_of(3) { vec![] } else { vec!["concierge"] }};
    let document = |i: u64| {
        let ids =
            (0..(i % 2) * (1 + i % 3)).map(|k| format!("{:016x}{:016x}", chance(i * 7 + k), chance(i + k * 1_000)));
        doc! {"_id": i as i64, "tiers": ids.map(|id| (id, Bson::from(tier(i)))).collect::<Document>()}
    };
    let (fields, maps) = maps_of(&inferred((0..500).map(document)));
    let values = serde_json::json!({"active": "BOOLEAN", "benefits": ["STRING"], "tier": "STRING"});
    assert_eq!(fields["tiers"], serde_json::json!({"$as": "map", "$values": values}));
    assert_eq!(maps.len(), 1);
    assert_eq!((maps[0].0.as_str(), maps[0].1.objects), ("tiers", 250));
    assert_eq!(maps[0].1.names, maps[0].1.entries, "no id comes twice");
}

/// The same, places: one to four of 150 languages.
#[test]
fn objects_keyed_by_sparse_words_are_maps() {
    let code = |n: u64| {
        let letter = |n: u64| char::from(b'a' + (n % 26) as u8);
        format!("{}{}x", letter(n % 150 / 26), letter(n % 150))
    };
    let document = |i: u64| {
        let codes: Vec<String> = (0..1 + i % 4).map(|k| code(chance(i * 31 + k))).collect();
        let languages: Document = codes.iter().map(|code| (code.clone(), Bson::from("Name"))).collect();
        let native: Document = codes.iter().map(|code| (code.clone(), Bson::from(doc! {"common": "Name"}))).collect();
        doc! {"_id": format!("{i}"), "languages": languages, "native": native}
    };
    let (fields, _) = maps_of(&inferred((0..250).map(document)));
    assert_eq!(fields["languages"], serde_json::json!({"$as": "map", "$values": "STRING"}));
    assert_eq!(fields["native"], serde_json::json!({"$as": "map", "$values": {"common": "STRING"}}));
}

/// The same, stats: counters by day, and by hour inside of that.
#[test]
fn maps_in_maps_are_maps() {
    let document = |i: u64| {
        let days = (0..1 + chance(i) % 60).map(|day| {
            let hours = (0..1 + chance(i + day) % 5).map(|k| ((chance(k + day) % 24).to_string(), Bson::from(1)));
            let stats = doc! {"views": 3, "by_hour": hours.collect::<Document>()};
            (format!("2026-{:02}-{:02}", 1 + day / 28, 1 + day % 28), Bson::from(stats))
        });
        doc! {"_id": i as i64, "daily": days.collect::<Document>()}
    };
    let (fields, maps) = maps_of(&inferred((0..100).map(document)));
    let by_hour = serde_json::json!({"$as": "map", "$values": "INT"});
    let values = serde_json::json!({"by_hour": by_hour, "views": "INT"});
    assert_eq!(fields["daily"], serde_json::json!({"$as": "map", "$values": values}));
    assert_eq!(maps.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["daily", "daily.by_hour"]);
}

/// The same, addresses: ten names of different meaning, most of them in most documents; and 30 settings.
#[test]
fn words_that_come_often_are_fields() {
    let names = ["street", "city", "zip", "country", "floor", "door", "region", "state", "line2", "note"];
    let document = |i: u64| {
        let present = |(k, _): &(u64, &str)| chance(i * 16 + k) % 100 < 60 + k * 4;
        let address: Document =
            (0..).zip(names).filter(present).map(|(_, name)| (name.to_owned(), Bson::from("x"))).collect();
        let settings: Document = (0..30).map(|k| (format!("setting_{k}"), Bson::from(1))).collect();
        // Sparse, and of many kinds.
        let kinds =
            [Bson::from(1), Bson::from("x"), Bson::from(true), Bson::from(1.5), Bson::DateTime(bson::DateTime::now())];
        let mixed: Document =
            [(format!("k{}", chance(i) % 200), kinds[chance(i + 9) as usize % 5].clone())].into_iter().collect();
        doc! {"_id": i as i64, "address": address, "settings": settings, "mixed": mixed}
    };
    let (_, maps) = maps_of(&inferred((0..500).map(document)));
    assert_eq!(maps, []);
}

/// More names than are known one by one: the same whatever came first, and however the documents are split.
#[test]
fn names_without_end_are_folded() {
    let document = |i: u64| {
        let votes: Document =
            (0..3).map(|k| (format!("{:024x}", chance(i * 3 + k)), Bson::from(doc! {"v": 1}))).collect();
        doc! {"_id": i as i64, "votes": votes, "words": {format!("w{i}"): "x"}}
    };
    let all = inferred((0..12_000).map(document));
    let (fields, maps) = maps_of(&all);
    assert_eq!(fields["votes"], serde_json::json!({"$as": "map", "$values": {"v": "INT"}}));
    assert_eq!(fields["words"], serde_json::json!({"$as": "map", "$values": "STRING"}));
    assert_eq!(maps[0].1.entries, 36_000);
    assert!((30_000..42_000).contains(&maps[0].1.names), "{maps:?}");
    assert_eq!(maps_of(&inferred((0..12_000).rev().map(document))), (fields.clone(), maps.clone()));
    let mut parts = inferred((0..9_000).map(document));
    parts.merge(inferred((9_000..12_000).map(document)));
    assert_eq!(maps_of(&parts), (fields.clone(), maps.clone()));
    let mut parts = inferred((9_000..12_000).map(document));
    parts.merge(inferred((0..9_000).map(document)));
    assert_eq!(maps_of(&parts), (fields, maps));
}

#[test]
fn what_was_made_of_ids_before_there_were_maps_is_recognized() {
    let rules = InferenceRules { maps: None, ..InferenceRules::default() };
    let id = |i: i32| format!("{:024x}", chance(i as u64));
    let likely = |value: &dyn Fn(i32) -> Bson| {
        let documents = (0..60).map(|i| doc! {"_id": i, "outer": {"ids": {id(i): value(i)}, "n": 1}, "x": 1});
        let layout = Layout::new(&inferred(documents).schema_by("c", &rules).0).unwrap();
        let found = layout.likely_maps();
        found.iter().map(|map| (layout.path(map.path).dotted(), map.names, map.tables, map.columns)).collect::<Vec<_>>()
    };
    let ids = "outer.ids".to_owned();
    assert_eq!(likely(&|_| doc! {"a": 1, "b": true}.into()), [(ids.clone(), 60, 0, 120)]);
    assert_eq!(likely(&|_| doc! {"a": [1], "b": [{"c": [2]}]}.into()), [(ids, 60, 180, 0)]);
    // Few of them, many of different kinds, or words: as documents may be.
    let words = (0..60).map(|i| doc! {"_id": i, "ids": {format!("word{i}"): {"a": 1, "b": true}}});
    assert_eq!(Layout::new(&inferred(words).schema_by("c", &rules).0).unwrap().likely_maps(), []);
    assert_eq!(likely(&|_| doc! {"a": 1}.into()), []);
    assert_eq!(likely(&|i| if i % 3 == 0 { 1.into() } else { doc! {"a": 1, "b": 1, "c": 1}.into() }), []);
}

#[test]
fn without_rules_nothing_is_a_map() {
    let documents = (0..100).map(|i| doc! {"_id": i, "m": {format!("{i:024x}"): 1}});
    let (schema, findings) =
        inferred(documents).schema_by("c", &InferenceRules { maps: None, ..InferenceRules::default() });
    assert!(matches!(schema.fields["m"].node, Node::Document(_)));
    assert_eq!(findings, []);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Whatever is inferred does not depend on the order of the documents, nor on how they were split.
    #[test]
    fn maps_follow_from_counts_alone(
        documents in prop::collection::vec((prop::collection::vec((0..40_u8, 0..4_u8), 0..6), 0..2_u8), 1..40),
        split in 0..40_usize,
    ) {
        let value = |kind: u8| match kind {
            0 => Bson::from(1),
            1 => Bson::from(doc! {"a": 1, "b": {"0": 1}}),
            2 => Bson::Null,
            _ => Bson::from(2.5),
        };
        let name = |n: u8, form: u8| if form == 0 { format!("{n:024x}") } else { format!("name{n}") };
        let documents: Vec<Document> = documents
            .into_iter()
            .enumerate()
            .map(|(i, (entries, form))| {
                let entries = entries.into_iter().map(|(n, kind)| (name(n, form), value(kind)));
                doc! {"_id": i as i64, "m": entries.collect::<Document>(), "l": [{"m": {name(i as u8, 0): 1}}]}
            })
            .collect();
        let all = maps_of(&inferred(documents.clone()));
        prop_assert_eq!(&maps_of(&inferred(documents.iter().rev().cloned())), &all);
        let (first, second) = documents.split_at(split.min(documents.len()));
        let mut merged = inferred(second.to_vec());
        merged.merge(inferred(first.to_vec()));
        prop_assert_eq!(&maps_of(&merged), &all);
    }
}

/// The same, products: 60 sparse attributes of different types; and labels: 60 of text, which are a map by the counts.
#[test]
fn sparse_attributes_of_many_types_are_fields_and_of_one_type_a_map() {
    let attribute = |k: u64| match k % 4 {
        0 => Bson::from(k as i32),
        1 => Bson::from("red"),
        2 => Bson::from(true),
        _ => Bson::from(doc! {format!("w{k}"): 1, "h": 2}),
    };
    let document = |i: u64| {
        let chosen: Vec<u64> = (0..3 + i % 4).map(|k| chance(i * 11 + k) % 60).collect();
        let attributes: Document = chosen.iter().map(|k| (format!("attribute_{k}"), attribute(*k))).collect();
        let labels: Document = chosen.iter().map(|k| (format!("label_{k}"), Bson::from("gold"))).collect();
        doc! {"_id": i as i64, "attributes": attributes, "labels": labels}
    };
    let (fields, maps) = maps_of(&inferred((0..1_000).map(document)));
    assert_eq!(fields["labels"], serde_json::json!({"$as": "map", "$values": "STRING"}));
    assert_eq!(fields["attributes"].as_object().unwrap().len(), 60);
    assert_eq!(maps.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["labels"]);
    assert!(maps[0].1.objects == 1_000 && maps[0].1.names == 60, "{maps:?}");
}

/// Names in names multiply: neither their order nor how they are split shows, and their number not in the memory.
#[test]
fn names_without_end_in_names_without_end_are_folded() {
    // Most in two levels of names that are few enough by themselves, some next to them.
    let document = |i: u64| {
        let (user, post) = (format!("{:024x}", i % 300), format!("{:024x}", i / 300));
        doc! {"_id": i as i64, "u": {"n": 1, "by": {user: {"posts": {post: {"likes": 1}}, "n": 1}}}}
    };
    let count = 300 * 120;
    let all = inferred((0..count).map(document));
    let found = maps_of(&all);
    assert_eq!(found.1.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["u.by", "u.by.posts"]);
    assert!(format!("{all:?}").len() < 6_000_000, "{}", format!("{all:?}").len());
    assert_eq!(maps_of(&inferred((0..count).rev().map(document))), found);
    for split in [1, 100, 20_000, count - 1] {
        let mut parts = inferred((split..count).map(document));
        parts.merge(inferred((0..split).map(document)));
        assert_eq!(maps_of(&parts), found, "{split}");
    }
}

/// Whatever the names are, and however deep: their number does not show in the memory.
#[test]
fn five_million_names_take_no_more_memory_than_some_thousand() {
    let document = |i: u64| {
        let names: Document = (0..1_000).map(|k| (format!("{:012x}{:012x}", chance(i), k), Bson::from(1))).collect();
        doc! {"_id": i as i64, "m": &names, "l": [{"deep": {format!("id{i}"): {"names": names}}}]}.to_vec().unwrap()
    };
    let mut inference = Inference::default();
    let mut observe = |documents: std::ops::Range<u64>| {
        for i in documents {
            inference.observe(RawDoc::new(&document(i)).unwrap()).unwrap();
        }
        format!("{inference:?}").len()
    };
    let (few, all) = (observe(0..5), observe(5..2_500));
    assert!(all < few * 2, "{few} {all}");
    assert_eq!(inference.schema("c").1.iter().filter(|finding| finding.map.is_some()).count(), 3);
}
