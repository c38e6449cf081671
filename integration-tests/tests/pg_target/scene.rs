//! A database of one's own, and loads of a few documents into it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bson::Document;
use gizer_flatten::change::{ClusterTime, Positions, SourcePosition};
use gizer_flatten::{DocumentBatch, Flattener};
use gizer_pg::copy::{CopyEncoder, EncodedUnit};
use gizer_pg::load::{KeySettings, Load, LoadRequest, LoadSource, RangeSink, SwapSettings, Swapped};
use gizer_pg::state::{self, Ledger};
use gizer_pg::{PgError, Session, Target, connect};
use gizer_schema::{Layout, file};
use integration_tests::rig::{Postgres, shared_postgres};
use tokio_postgres::Client;

/// A limit for everything that should take moments.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct Scene {
    pub(crate) server: &'static Postgres,
    pub(crate) database: String,
    pub(crate) schema: String,
}

impl Scene {
    /// An empty database; gizer's schema is `public`.
    pub(crate) async fn new() -> Scene {
        let server = shared_postgres().await.unwrap();
        Scene { server, database: server.create_database().await.unwrap(), schema: "public".to_owned() }
    }

    /// An empty database with the state tables in it.
    pub(crate) async fn prepared() -> Scene {
        let scene = Scene::new().await;
        state::prepare(&scene.session().await).await.unwrap();
        scene
    }

    pub(crate) fn target(&self) -> Target {
        Target::parse(&self.server.uri(&self.database), &self.schema).unwrap()
    }

    /// A connection as gizer makes it.
    pub(crate) async fn session(&self) -> Session {
        connect(&self.target()).await.unwrap()
    }

    /// A connection as anybody makes it.
    pub(crate) async fn client(&self) -> Client {
        self.server.client(&self.database).await.unwrap()
    }

    /// Runs statements as the superuser.
    pub(crate) async fn sql(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    /// The first column of all rows as text.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        let rows = self.client().await.simple_query(sql).await.unwrap();
        let text = |message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
            _ => None,
        };
        rows.into_iter().filter_map(text).collect()
    }

    /// The first column of the only row as text.
    pub(crate) async fn text(&self, sql: &str) -> String {
        let texts = self.texts(sql).await;
        assert_eq!(texts.len(), 1, "{sql}: {texts:?}");
        texts.into_iter().next().unwrap()
    }

    /// Creates a role that may log in, and gives a target with it. Roles belong to the server: take a unique name.
    pub(crate) async fn role(&self, name: &str) -> Target {
        self.sql(&format!("CREATE ROLE {name} LOGIN PASSWORD 'pw'")).await;
        Target::parse(&self.server.uri_as(name, "pw", &self.database), &self.schema).unwrap()
    }

    /// A whole load, first to last.
    pub(crate) async fn load(&self, layout: &Layout, documents: &[Document]) -> Result<Swapped, PgError> {
        self.load_from(layout, documents, followable(1)).await
    }

    pub(crate) async fn load_from(
        &self,
        layout: &Layout,
        documents: &[Document],
        source: LoadSource,
    ) -> Result<Swapped, PgError> {
        let session = self.session().await;
        state::prepare(&session).await?;
        let load = Load::begin(&session, request(layout, source)).await?;
        let mut sink = load.sink(self.session().await)?;
        sink.write(encode(layout, documents)).await?;
        let written = sink.finish().await?;
        load.build_keys(&[], KeySettings::default()).await?;
        let ledger = Ledger { read: written.documents, loaded: written.documents, ..Ledger::default() };
        load.swap(&quick(), &ledger, None).await
    }
}

/// Gives up before the test would.
pub(crate) fn quick() -> SwapSettings {
    SwapSettings { limit: Duration::from_secs(20), ..SwapSettings::default() }
}

pub(crate) fn request(layout: &Layout, source: LoadSource) -> LoadRequest<'_> {
    LoadRequest { layout, namespace: None, uuids: BTreeMap::new(), source, resumable_as: None }
}

pub(crate) fn followable(seconds: u32) -> LoadSource {
    LoadSource::Followable { captured: positions(&[("rs0", seconds, 1)]) }
}

/// Shard, seconds, increment; always the same place.
pub(crate) fn positions(shards: &[(&str, u32, u32)]) -> Positions {
    let at = |seconds, increment| SourcePosition::new(ClusterTime { seconds, increment }, &[7]);
    shards.iter().map(|&(shard, seconds, increment)| (shard.to_owned(), at(seconds, increment))).collect()
}

pub(crate) fn layout(collection: &str, schema: &str) -> Arc<Layout> {
    Arc::new(Layout::new(&file::parse(collection, schema).unwrap()).unwrap())
}

/// The rows of some documents; all must fit.
pub(crate) fn encode(layout: &Layout, documents: &[Document]) -> EncodedUnit {
    let bytes: Vec<u8> = documents.iter().flat_map(|document| document.to_vec().unwrap()).collect();
    let batch = DocumentBatch::from_sequence(bytes.into()).unwrap();
    let mut encoder = CopyEncoder::new(layout);
    Flattener::new(layout).flatten(batch.documents(), &mut encoder, |_, rejection| panic!("{rejection:?}"));
    encoder.take()
}
