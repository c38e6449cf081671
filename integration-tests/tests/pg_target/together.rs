//! Several loads in one swap: all of them, or none.

use std::sync::Arc;

use bson::{Document, doc};
use gizer_pg::load::{KeySettings, Load, RangeSink, SwapPart, SwapSettings, Swapped, swap_together};
use gizer_pg::state::{CollectionState, Ledger, read_status};
use gizer_pg::{PgError, Session};
use gizer_schema::Layout;

use crate::readers::Readers;
use crate::scene::{Scene, encode, followable, layout, quick, request};

const SCHEMA: &str = r#"{"_id": "INT", "g": "INT", "l": [{"g": "INT"}]}"#;
const DOCUMENTS: i32 = 30;

fn generation(g: i32) -> Vec<Document> {
    (0..DOCUMENTS).map(|id| doc! {"_id": id, "g": g, "l": [{"g": g}, {"g": g}]}).collect()
}

/// Loads that are ready to be swapped in, all on one session.
async fn ready<'a>(scene: &Scene, session: &'a Session, layouts: &'a [Arc<Layout>], g: i32) -> Vec<Load<'a>> {
    let mut loads = Vec::new();
    for layout in layouts {
        let load = Load::begin(session, request(layout, followable(1))).await.unwrap();
        let mut sink = load.sink(scene.session().await).unwrap();
        sink.write(encode(layout, &generation(g))).await.unwrap();
        load.build_keys(&[], KeySettings::default()).await.unwrap();
        loads.push(load);
    }
    loads
}

async fn swap(loads: &[Load<'_>], settings: &SwapSettings) -> Result<Swapped, PgError> {
    let ledger = Ledger::default();
    let parts: Vec<SwapPart<'_>> =
        loads.iter().map(|load| SwapPart { load, ledger: &ledger, standing: None }).collect();
    swap_together(&parts, settings).await
}

/// Posts and authors of generation 1, and a view that joins them.
async fn scene() -> (Scene, [Arc<Layout>; 2]) {
    let scene = Scene::prepared().await;
    let layouts = [layout("posts", SCHEMA), layout("authors", SCHEMA)];
    for layout in &layouts {
        scene.load(layout, &generation(1)).await.unwrap();
    }
    scene
        .sql(
            "CREATE VIEW both_of_them AS \
                 SELECT p.g AS p, pl.g AS pl, a.g AS a, al.g AS al FROM posts p JOIN authors a USING (id) \
                 JOIN post_l pl ON pl.posts_id = p.id JOIN author_l al ON al.authors_id = a.id AND al.idx = pl.idx; \
             CREATE VIEW of_authors AS SELECT a FROM both_of_them",
        )
        .await;
    (scene, layouts)
}

const READS: [&str; 2] = [
    "SELECT count(*), min(p.g), max(p.g), min(a.g), max(a.g), min(l.g), max(l.g) \
     FROM public.posts p JOIN public.authors a USING (id) JOIN public.author_l l ON l.authors_id = a.id",
    "SELECT count(*), min(p), max(p), min(pl), max(pl), min(a), max(a), min(al), max(al) FROM public.both_of_them",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_all_collections_of_one_generation() {
    let (scene, layouts) = scene().await;
    let session = scene.session().await;
    let readers = Readers::start(&scene, &READS, i64::from(DOCUMENTS) * 2).await;
    for g in 2..8 {
        let loads = ready(&scene, &session, &layouts, g).await;
        let swapped = swap(&loads, &quick()).await.unwrap();
        assert_eq!(swapped.views, [r#""public"."both_of_them""#, r#""public"."of_authors""#]);
        readers.have_seen(g).await;
    }
    assert!(readers.stop().await >= 400, "they read all the while");
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND \
                 database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(scene.text(locks).await, "0", "the locks of both loads are given back");
    let status = read_status(&session, 1).await.unwrap().unwrap();
    assert!(status.collections.iter().all(|collection| collection.state == CollectionState::Following));
}

/// Both collections are of the first generation, and their loads still there.
async fn nothing_is_swapped(scene: &Scene) {
    let generations = "SELECT p || ' ' || a FROM both_of_them GROUP BY 1";
    assert_eq!(scene.texts(generations).await, ["1 1"]);
    let staging = "SELECT g FROM gizer_new_posts UNION ALL SELECT g FROM gizer_new_authors GROUP BY 1";
    assert!(scene.texts(staging).await.iter().all(|g| g == "2"));
    let epochs = "SELECT count(*) FROM gizer_collection WHERE live_epoch = 1 AND load_started IS NOT NULL";
    assert_eq!(scene.text(epochs).await, "2", "the state too is as it was");
}

#[tokio::test]
async fn one_that_is_fenced_off_keeps_all_from_being_swapped_in() {
    let (scene, layouts) = scene().await;
    let session = scene.session().await;
    let loads = ready(&scene, &session, &layouts, 2).await;
    for lost in ["authors", "posts"] {
        scene.sql(&format!("UPDATE gizer_collection SET load_epoch = 77 WHERE collection = '{lost}'")).await;
        let error = swap(&loads, &quick()).await.unwrap_err();
        assert!(matches!(&error, PgError::Fenced { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("the load of {lost}")), "{error}");
        nothing_is_swapped(&scene).await;
        scene.sql(&format!("UPDATE gizer_collection SET load_epoch = 2 WHERE collection = '{lost}'")).await;
    }
    swap(&loads, &quick()).await.unwrap();
    assert_eq!(scene.texts("SELECT p || ' ' || a FROM both_of_them GROUP BY 1").await, ["2 2"]);
}

#[tokio::test]
async fn what_hangs_on_one_or_reads_one_keeps_all_from_being_swapped_in() {
    let (scene, layouts) = scene().await;
    let session = scene.session().await;
    let loads = ready(&scene, &session, &layouts, 2).await;
    scene.sql("CREATE MATERIALIZED VIEW mine AS SELECT g FROM author_l").await;
    let error = swap(&loads, &quick()).await.unwrap_err();
    assert!(matches!(&error, PgError::Dependents { table, .. } if table == "author_l"), "{error:?}");
    nothing_is_swapped(&scene).await;
    scene.sql("DROP MATERIALIZED VIEW mine").await;

    let reader = scene.client().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM public.post_l").await.unwrap();
    let short = SwapSettings { limit: std::time::Duration::from_millis(700), ..quick() };
    let error = swap(&loads, &short).await.unwrap_err();
    let PgError::TablesBusy { collection, blockers, .. } = &error else { panic!("{error:?}") };
    assert_eq!((collection.as_str(), blockers.len()), ("authors, posts", 1), "{error}");
    nothing_is_swapped(&scene).await;
    reader.batch_execute("COMMIT").await.unwrap();
    swap(&loads, &quick()).await.unwrap();
}

#[tokio::test]
async fn loads_of_no_live_tables_and_no_loads_at_all() {
    let scene = Scene::prepared().await;
    assert_eq!(swap(&[], &quick()).await.unwrap(), Swapped::default());
    let (session, layouts) = (scene.session().await, [layout("posts", SCHEMA), layout("authors", SCHEMA)]);
    let loads = ready(&scene, &session, &layouts, 1).await;
    swap(&loads, &quick()).await.unwrap();
    assert_eq!(scene.text("SELECT count(*) FROM posts JOIN authors USING (id)").await, DOCUMENTS.to_string());
}

#[tokio::test]
async fn a_view_on_two_collections_outlives_the_load_of_either() {
    let (scene, layouts) = scene().await;
    let generations = "SELECT p || ' ' || a FROM both_of_them GROUP BY 1";
    scene.load(&layouts[0], &generation(2)).await.unwrap();
    assert_eq!(scene.texts(generations).await, ["2 1"]);
    scene.load(&layouts[1], &generation(3)).await.unwrap();
    assert_eq!(scene.texts(generations).await, ["2 3"]);
    // Two swaps at once that want one view give way to each other.
    let documents = generation(4);
    let both = tokio::join!(scene.load(&layouts[0], &documents), scene.load(&layouts[1], &documents));
    for swapped in [both.0, both.1] {
        swapped.unwrap();
    }
    assert_eq!(scene.texts(generations).await, ["4 4"]);
}
