//! What is refused before anything is written.

use gizer_pg::rows::{RowStore, WhichTables};
use gizer_pg::{PgError, connect};
use integration_tests::rig::unique_name;

use super::{POSTS, ids, post, reconciled};
use crate::scene::{Scene, layout};

#[tokio::test]
async fn a_role_without_temporary_tables_is_told_what_to_grant() {
    let scene = Scene::new().await;
    let posts = layout("posts", POSTS);
    let role = unique_name("poor");
    let target = scene.role(&role).await;
    let session = connect(&target).await.unwrap();
    RowStore::open(&session, &posts, WhichTables::Live).await.unwrap();
    scene.sql(&format!("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC", scene.database)).await;
    let error = RowStore::open(&session, &posts, WhichTables::Live).await.unwrap_err();
    assert!(matches!(error, PgError::NoRights { .. }), "{error:?}");
    let grant = format!("GRANT TEMPORARY ON DATABASE \"{}\" TO \"{role}\"", scene.database);
    assert_eq!(error.remedy().unwrap(), format!("run as the owner: {grant};"));
    scene.sql(&grant).await;
    RowStore::open(&session, &posts, WhichTables::Live).await.unwrap();
}

#[tokio::test]
async fn a_schema_without_an_id_is_refused() {
    let scene = Scene::new().await;
    let session = scene.session().await;
    let copies = layout("copies", r#"{"id": "INT"}"#);
    let error = RowStore::open(&session, &copies, WhichTables::Live).await.unwrap_err();
    assert!(matches!(&error, PgError::NotFollowable { collection } if collection == "copies"), "{error:?}");
}

#[tokio::test]
async fn a_column_of_another_type_is_named() {
    let scene = Scene::prepared().await;
    let posts = layout("posts", POSTS);
    let documents = [post(1, "a", 1)];
    scene.load(&posts, &documents).await.unwrap();
    scene.sql("ALTER TABLE posts ALTER COLUMN views TYPE numeric").await;
    let error = reconciled(&scene, &posts, &documents, &ids(&documents)).await.unwrap_err();
    assert_eq!(error.to_string(), "public.posts.views is of type numeric: expected BIGINT");
}
