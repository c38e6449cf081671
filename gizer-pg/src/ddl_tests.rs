use super::*;
use gizer_schema::file;

fn layout(collection: &str, schema: &str) -> Layout {
    Layout::new(&file::parse(collection, schema).unwrap()).unwrap()
}

const POSTS: &str = r#"{"_id": {"oid": "STRING", "bsontype": "INT"}, "title": "STRING",
    "comments": [{"body": "STRING", "author": {"name": "STRING"}, "items": [{"data": {"tags": ["INT"]}}]}],
    "grid": [["INT"]]}"#;

#[test]
fn a_collection_renders_as_readable_sql() {
    let sql = render(&layout("posts", POSTS), "public").unwrap();
    let root = r#"CREATE TABLE "public"."posts" (
    "id_bsontype" INTEGER,
    "id_oid" TEXT COLLATE "C" NOT NULL,
    "title" TEXT
);
ALTER TABLE "public"."posts" ADD CONSTRAINT "posts_pkey" PRIMARY KEY ("id_oid");
COMMENT ON TABLE "public"."posts" IS 'gizer: posts';
COMMENT ON COLUMN "public"."posts"."id_bsontype" IS '_id.bsontype';
COMMENT ON COLUMN "public"."posts"."id_oid" IS '_id.oid';
COMMENT ON COLUMN "public"."posts"."title" IS 'title';
"#;
    assert!(sql.starts_with(root), "{sql}");
    let expected = [
        r#""posts_id_oid" TEXT COLLATE "C" NOT NULL"#,
        r#""posts_comments_idx" BIGINT NOT NULL"#,
        r#"PRIMARY KEY ("posts_id_oid", "posts_comments_idx", "idx")"#,
        r#"COMMENT ON TABLE "public"."post_comment_item_data_tags" IS 'gizer: posts.comments[].items[].data.tags[]'"#,
        r#"COMMENT ON COLUMN "public"."post_comment_item_data_tags"."posts_comments_items_idx" IS 'position in comments[].items[]'"#,
        r#"COMMENT ON COLUMN "public"."post_comment_item_data_tags"."idx" IS 'position in comments[].items[].data.tags[]'"#,
        r#"COMMENT ON COLUMN "public"."post_comment_item_data_tags"."tags" IS 'comments[].items[].data.tags[]'"#,
        r#"COMMENT ON COLUMN "public"."post_comments"."author_name" IS 'comments[].author.name'"#,
        r#"COMMENT ON COLUMN "public"."post_comments"."posts_id_oid" IS '_id.oid'"#,
        r#"COMMENT ON COLUMN "public"."post_grid"."grid" IS 'grid[]'"#,
    ];
    for part in expected {
        assert!(sql.contains(part), "expected {part} in\n{sql}");
    }
}

#[test]
fn a_key_that_is_not_unique_gets_an_index() {
    let sql = render(&layout("posts", r#"{"id": "STRING", "l": ["INT"]}"#), "s").unwrap();
    assert!(!sql.contains("PRIMARY KEY"), "{sql}");
    assert!(sql.contains(r#""id" TEXT COLLATE "C""#) && !sql.contains(r#""id" TEXT COLLATE "C" NOT NULL"#), "{sql}");
    assert!(sql.contains(r#"CREATE INDEX "post_l_idx" ON "s"."post_l" ("posts_id", "idx")"#), "{sql}");
}

#[test]
fn names_fit_are_unique_and_stay() {
    // The root's key would have the name of the child table.
    let layout = layout("posts", r#"{"_id": "INT", "l": ["INT"]}"#);
    let mut clashing = layout.clone();
    clashing.tables[1].name = "posts_pkey".to_owned();
    let names = key_names(&clashing);
    assert_eq!(key_names(&layout), ["posts_pkey", "post_l_pkey"]);
    assert!(names[0].starts_with("posts_pkey_") && names[1] == "posts_pkey_pkey", "{names:?}");
    clashing.tables[0].name = "x".repeat(63);
    clashing.tables[1].name = format!("{}y", "x".repeat(62));
    let names = key_names(&clashing);
    assert!(names.iter().all(|name| name.len() <= 63) && names[0] != names[1], "{names:?}");
    assert_eq!(names, key_names(&clashing));
    assert_eq!(staging_name("posts"), "gizer_new_posts");
    let long = [staging_name(&clashing.tables[0].name), staging_name(&clashing.tables[1].name)];
    assert!(long.iter().all(|name| name.len() <= 63) && long[0] != long[1], "{long:?}");
}

#[test]
fn marks_tell_collections_apart() {
    let posts = layout("posts", POSTS);
    for id in 0..posts.tables.len() {
        assert!(is_marked_for(Some(&mark(&posts, TableId(id))), "posts"));
    }
    for other in ["gizer: post", "gizer: posts2", "gizer: posts.archive", "posts", "gizer posts", ""] {
        assert!(!is_marked_for(Some(other), "posts"), "{other}");
    }
    assert!(!is_marked_for(None, "posts") && !is_marked(None) && is_marked(Some("gizer: x")));
}

#[test]
fn the_hash_changes_with_the_tables_only() {
    let hash = |schema: &str| layout_hash(&layout("posts", schema)).unwrap();
    assert_eq!(hash(POSTS), hash(&POSTS.replace("STRING", "string")));
    assert_ne!(hash(POSTS), hash(&POSTS.replace("title", "titel")));
    assert_ne!(hash(r#"{"_id": "INT", "a": "INT"}"#), hash(r#"{"_id": "INT", "a": "BIGINT"}"#));
}

#[test]
fn hostile_names_stay_inside_their_quotes() {
    let nasty = r#"{"_id": "INT", "a\"; DROP TABLE x; --": "INT", "it's \\ $$": ["INT"], "n\u0000ul": "INT"}"#;
    let sql = render(&layout("x\"; DROP SCHEMA public; --", nasty), "pub\"lic").unwrap();
    assert!(sql.contains(r#""pub""lic"."x""; DROP SCHEMA public; --""#), "{sql}");
    assert!(sql.contains(r#""a""; DROP TABLE x; --""#), "{sql}");
    assert!(sql.contains(r"IS E'it''s \\ $$[]'"), "{sql}");
    assert!(!sql.contains('\0'));
}

const ALL_TYPES: &str = r#"{ "$gizer": 1, "collection": "things", "fields": {
    "_id": "OBJECTID", "b": "BINARY", "d": "DECIMAL", "j": "JSON", "u": "UUID", "t": "STRING",
    "item": [{ "item": { "$as": "array", "$type": "DECIMAL" }, "oids": { "$as": "array", "$type": "OBJECTID" } }],
    "cube": [{ "$as": "table", "$items": { "$as": "table", "$items": { "x": { "y": "INT" } } } }],
    "m": [{ "$as": "table", "$items": "TIMESTAMP" }] } }"#;

#[test]
fn every_type_and_source_of_gizers_dialect_renders() {
    let layout = layout("things", ALL_TYPES);
    let sql = render(&layout, "s").unwrap();
    let root = r#"CREATE TABLE "s"."things" (
    "b" BYTEA,
    "d" NUMERIC,
    "id" TEXT COLLATE "C" NOT NULL,
    "j" JSONB,
    "t" TEXT,
    "u" UUID,
    "_extra" JSONB
);"#;
    assert!(sql.starts_with(root), "{sql}");
    let expected = [
        r#"COMMENT ON COLUMN "s"."things"."_extra" IS 'what has no column, or does not fit it'"#,
        r#""item" NUMERIC[]"#,
        r#""oids" TEXT[]"#,
        r#""things_id" TEXT COLLATE "C" NOT NULL"#,
        r#"COMMENT ON COLUMN "s"."thing_item"."item" IS 'item[].item'"#,
        r#"COMMENT ON COLUMN "s"."thing_item"."_extra" IS 'what of item[] has no column, or does not fit it'"#,
        " IS 'gizer: things.item[]'",
        " IS 'gizer: things.m[]'",
        " IS 'gizer: things.m[][]'",
        " IS 'position in m[]'",
        " IS 'position in m[][]'",
        " IS 'm[][]'",
        " IS 'gizer: things.cube[][][]'",
        " IS 'position in cube[][]'",
        " IS 'position in cube[][][]'",
        " IS 'cube[][][].x.y'",
        " IS 'what of cube[][][] has no column, or does not fit it'",
    ];
    for part in expected {
        assert!(sql.contains(part), "expected {part} in\n{sql}");
    }
    for id in 0..layout.tables.len() {
        assert!(is_marked_for(Some(&mark(&layout, TableId(id))), "things"));
    }
    for table in &layout.tables {
        assert_eq!(table.columns.last().map(|column| column.name.as_str()), Some("_extra"));
    }
}

#[test]
fn a_key_of_any_type_is_compared_by_its_bytes() {
    for ty in ["STRING", "OBJECTID", "KEY"] {
        let schema = format!(r#"{{ "$gizer": 1, "collection": "c", "fields": {{ "_id": "{ty}" }} }}"#);
        let sql = render(&layout("c", &schema), "s").unwrap();
        assert!(sql.contains(r#""id" TEXT COLLATE "C" NOT NULL"#), "{sql}");
    }
    let uuid = r#"{ "$gizer": 1, "collection": "c", "fields": { "_id": "UUID" } }"#;
    assert!(render(&layout("c", uuid), "s").unwrap().contains(r#""id" UUID NOT NULL"#));
}

#[test]
fn the_hash_tells_values_of_one_type_apart() {
    let hash = |fields: &str, more: &str| {
        let schema = format!(r#"{{ "$gizer": 1, {more} "collection": "c", "fields": {fields} }}"#);
        layout_hash(&layout("c", &schema)).unwrap()
    };
    let hashes = [
        hash(r#"{ "_id": "STRING" }"#, ""),
        hash(r#"{ "_id": "OBJECTID" }"#, ""),
        hash(r#"{ "_id": "KEY" }"#, ""),
        hash(r#"{ "_id": "KEY" }"#, r#""exact_types": true,"#),
        hash(r#"{ "_id": "KEY", "l": { "$as": "array", "$type": "STRING" } }"#, ""),
        hash(r#"{ "_id": "KEY", "l": { "$as": "array", "$type": "OBJECTID" } }"#, ""),
        layout_hash(&layout("c", r#"{ "_id": "STRING" }"#)).unwrap(),
    ];
    let distinct: std::collections::BTreeSet<&String> = hashes.iter().collect();
    assert_eq!(distinct.len(), hashes.len());
    assert_eq!(hashes[2], hash(r#"{"_id":"KEY"}"#, ""));
}
