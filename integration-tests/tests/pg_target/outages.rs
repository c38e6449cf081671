//! A server that goes away in the middle of a load.

use bson::doc;
use gizer_pg::load::{KeySettings, Load, RangeSink};
use gizer_pg::state::{CollectionState, Ledger, read_status};
use gizer_pg::{PgError, Session, Target, connect, state};
use gizer_schema::Layout;
use integration_tests::rig::Postgres;

use crate::scene::{encode, followable, layout, quick, request};

async fn session(server: &Postgres) -> Session {
    connect(&Target::parse(&server.uri("postgres"), "public").unwrap()).await.unwrap()
}

async fn ids(server: &Postgres) -> Vec<i32> {
    let rows = server.client("postgres").await.unwrap().query("SELECT id FROM public.posts ORDER BY 1", &[]).await;
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn load(server: &Postgres, posts: &Layout, id: i32) -> Result<(), PgError> {
    let control = session(server).await;
    state::prepare(&control).await?;
    let load = Load::begin(&control, request(posts, followable(1))).await?;
    let mut sink = load.sink(session(server).await)?;
    sink.write(encode(posts, &[doc! {"_id": id}])).await?;
    load.build_keys(&[], KeySettings::default()).await?;
    load.swap(&quick(), &Ledger::default(), None).await.map(drop)
}

#[tokio::test]
async fn a_load_over_which_the_server_dies_leaves_the_live_tables_and_can_be_done_again() {
    let server = Postgres::start().await.unwrap();
    let posts = layout("posts", r#"{"_id": "INT"}"#);
    load(&server, &posts, 1).await.unwrap();

    let control = session(&server).await;
    let dying = Load::begin(&control, request(&posts, followable(1))).await.unwrap();
    let mut sink = dying.sink(session(&server).await).unwrap();
    sink.write(encode(&posts, &[doc! {"_id": 2}])).await.unwrap();
    server.kill().unwrap();
    let error = sink.write(encode(&posts, &[doc! {"_id": 3}])).await.unwrap_err();
    assert!(error.is_connection_lost(), "{error:?}");
    assert!(error.to_string().contains(&format!("127.0.0.1:{}/postgres", server.port())), "{error}");
    let error = dying.swap(&quick(), &Ledger::default(), None).await.unwrap_err();
    assert!(error.is_connection_lost(), "{error:?}");

    server.restart().await.unwrap();
    assert_eq!(ids(&server).await, [1], "the live tables are as they were");
    let status = read_status(&session(&server).await, 1).await.unwrap().unwrap();
    assert_eq!(status.collections[0].state, CollectionState::Following);
    assert!(status.collections[0].load_started.is_some() && !status.collections[0].loading_now, "{status:?}");
    load(&server, &posts, 4).await.unwrap();
    assert_eq!(ids(&server).await, [4]);
}

#[tokio::test]
async fn a_load_that_is_swapped_in_outlives_the_death_of_the_server() {
    // The log is written when a commit waits for it, and otherwise not soon.
    let server = Postgres::builder().setting("wal_writer_delay", "10s").start().await.unwrap();
    let posts = layout("posts", r#"{"_id": "INT"}"#);
    // A first load: dropping live tables would make PostgreSQL write the log in any case.
    load(&server, &posts, 1).await.unwrap();
    server.kill().unwrap();
    server.restart().await.unwrap();
    assert_eq!(ids(&server).await, [1]);
}
