//! Copies under a prefix, beside the tables of the collection.

use bson::{Document, doc};
use gizer_pg::load::{LoadSource, survey};
use gizer_pg::state::{CollectionState, read_status};
use gizer_pg::{NameOwner, PgError};

use crate::scene::{Scene, layout};

const POSTS: &str = r#"{"_id": "INT", "g": "INT", "l": [{"g": "INT"}]}"#;

fn generation(g: i32) -> [Document; 1] {
    [doc! {"_id": g, "g": g, "l": [{"g": g}]}]
}

fn copy() -> LoadSource {
    LoadSource::Copy { reason: "loaded under a prefix".to_owned() }
}

/// Everything that tells whether the tables of the collection itself have changed.
const LIVE: &str = "\
    SELECT concat_ws(' ', oid, relname, obj_description(oid)) FROM pg_class WHERE relname LIKE 'post%' \
    UNION ALL SELECT to_jsonb(c)::text FROM gizer_collection c WHERE collection = 'posts' \
    UNION ALL SELECT g::text FROM posts ORDER BY 1";

#[tokio::test]
async fn a_copy_under_a_prefix_leaves_the_tables_of_the_collection_alone() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    let prefixed = posts.prefixed("New ").unwrap();
    scene.load(&posts, &generation(1)).await.unwrap();
    scene.sql("CREATE VIEW mine AS SELECT g FROM posts").await;
    let before = scene.texts(LIVE).await;
    scene.load_from(&prefixed, &generation(2), copy()).await.unwrap();
    let joined = r#"SELECT l.g FROM "New posts" p JOIN "New post_l" l ON l.posts_id = p.id"#;
    assert_eq!(scene.texts(joined).await, ["2"]);
    let marks = r#"SELECT obj_description(oid) FROM pg_class WHERE relname LIKE 'New %' AND relkind = 'r' ORDER BY 1"#;
    assert_eq!(scene.texts(marks).await, ["gizer: New $posts", "gizer: New $posts.l[]"]);
    assert_eq!(scene.texts(LIVE).await, before);

    // Once more: what people have made of the copy is carried over like anything else.
    scene.sql(r#"CREATE INDEX "New i" ON "New posts" (g); CREATE VIEW yours AS SELECT g FROM "New post_l""#).await;
    let swapped = scene.load_from(&prefixed, &generation(3), copy()).await.unwrap();
    assert_eq!(swapped.views, [r#""public"."yours""#]);
    assert_eq!(scene.texts(joined).await, ["3"]);
    assert_eq!(scene.texts("SELECT g FROM yours UNION ALL SELECT g FROM mine").await, ["3", "1"]);
    let indexes = r#"SELECT indexname FROM pg_indexes WHERE tablename = 'New posts' ORDER BY 1"#;
    assert_eq!(scene.texts(indexes).await, ["New i", "New posts_pkey"]);
    assert_eq!(scene.texts(LIVE).await, before);
    let status = read_status(&scene.session().await, 1).await.unwrap().unwrap();
    let states: Vec<_> = status.collections.iter().map(|each| (each.collection.as_str(), each.state)).collect();
    assert_eq!(states, [("New $posts", CollectionState::Copy), ("posts", CollectionState::Following)]);

    // And a load of the collection leaves the copy alone.
    scene.load(&posts, &generation(4)).await.unwrap();
    assert_eq!(scene.texts(joined).await, ["3"]);
    assert_eq!(scene.texts("SELECT g FROM mine").await, ["4"]);
}

#[tokio::test]
async fn a_copy_never_takes_the_tables_of_another_collection() {
    let scene = Scene::prepared().await;
    scene.load(&layout("new_posts", POSTS), &generation(1)).await.unwrap();
    let prefixed = layout("posts", POSTS).prefixed("new_").unwrap();
    let error = survey(&scene.session().await, &prefixed).await.map(drop).unwrap_err();
    let PgError::NameTaken { owner: NameOwner::Table { collection }, .. } = &error else { panic!("{error:?}") };
    assert_eq!(collection, "new_posts");
    scene.load_from(&prefixed, &generation(2), copy()).await.unwrap_err();
    assert_eq!(scene.texts("SELECT g FROM new_posts").await, ["1"]);
}
