use super::*;
use gizer_schema::classic;

fn layout(collection: &str, schema: &str) -> Layout {
    Layout::new(&classic::parse(collection, schema).unwrap()).unwrap()
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
