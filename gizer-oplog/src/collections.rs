//! The collections of the database, as the catalog has them.

use std::collections::BTreeMap;
use std::fmt;

use bson::{Bson, Document, doc};
use futures::future::try_join_all;
use futures::{StreamExt, TryStreamExt, stream};
use mongodb::options::ReadConcern;

use crate::connect::{Cluster, Deployment};
use crate::error::MongoError;
use crate::near_names::near_names;
use crate::waiting::ReplyLimit;

/// How many collections are measured at once. A database may have thousands.
const SIZES_AT_ONCE: usize = 8;

/// A collection in the catalog, over all deployments.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Collection {
    /// Its name, without the database.
    pub name: String,
    /// Why gizer cannot copy it; `None` if it can.
    pub skip: Option<SkipReason>,
    /// Whether it is capped.
    pub capped: bool,
    /// Its default collation, if any (MongoDB manual, "Collation"), which applies to `_id` too.
    pub collation: Option<Document>,
    /// The collection in each deployment, in the order of [`Cluster::deployments`]; `None` where it
    /// does not exist, as on a shard that has never had a document of it.
    pub sources: Vec<Option<SourceCollection>>,
}

/// A collection in one deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceCollection {
    /// The UUID, by which a collection is followed; it outlives renames. A view has none.
    pub uuid: Option<[u8; 16]>,
    /// Its size; `None` if the user may not see it.
    pub size: Option<CollectionSize>,
}

/// Size of a collection from its metadata: an estimate, wrong after an unclean shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CollectionSize {
    /// Documents.
    pub documents: u64,
    /// Bytes of BSON, uncompressed.
    pub bytes: u64,
}

impl CollectionSize {
    /// Average bytes of BSON of a document; 0 without documents.
    pub fn average(&self) -> u64 {
        self.bytes.checked_div(self.documents).unwrap_or(0)
    }
}

/// Why gizer cannot copy a collection of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// `system.*`: the server's own bookkeeping.
    System,
    /// A view: a query, with no documents of its own.
    View,
    /// A time-series collection: a view over buckets, and its oplog entries are about buckets.
    TimeSeries,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SkipReason::System => "a system collection",
            SkipReason::View => "a view",
            SkipReason::TimeSeries => "a time-series collection",
        })
    }
}

impl Collection {
    /// Its size over all deployments; `None` unless known of each.
    pub fn size(&self) -> Option<CollectionSize> {
        self.sources.iter().flatten().try_fold(CollectionSize::default(), |sum, source| {
            let size = source.size?;
            Some(CollectionSize { documents: sum.documents + size.documents, bytes: sum.bytes + size.bytes })
        })
    }
}

impl Cluster {
    /// All collections of the database by name, also those to skip, with sizes where visible.
    ///
    /// # Errors
    /// [`MongoError::NoSuchDatabase`] if there are none; [`MongoError::NoRights`] if the user may
    /// not list them; connection errors.
    pub async fn collections(&self) -> Result<Vec<Collection>, MongoError> {
        let mut collections = self.listed().await?;
        self.measure(&mut collections).await?;
        Ok(collections)
    }

    /// As [`Cluster::collections`], without sizes: one request for all of them.
    ///
    /// # Errors
    /// Those of [`Cluster::collections`].
    pub async fn listed(&self) -> Result<Vec<Collection>, MongoError> {
        let collections = self.catalog(doc! {}).await?;
        if collections.is_empty() { Err(self.no_such_database().await) } else { Ok(collections) }
    }

    /// One collection, also one to skip, with its size if visible.
    ///
    /// # Errors
    /// [`MongoError::NoSuchDatabase`], [`MongoError::NoSuchCollection`] with names like it, and those of
    /// [`Cluster::collections`].
    pub async fn collection(&self, name: &str) -> Result<Collection, MongoError> {
        let mut found = self.catalog(doc! { "name": name }).await?;
        self.measure(&mut found).await?;
        match found.pop() {
            Some(collection) => Ok(collection),
            None => Err(self.no_such_collection(name).await),
        }
    }

    /// A collection of this name that exists in no deployment.
    pub fn absent_collection(&self, name: &str) -> Collection {
        let sources = vec![None; self.deployments().len()];
        Collection { name: name.to_owned(), skip: None, capped: false, collation: None, sources }
    }

    /// The collections of all deployments, joined by name.
    async fn catalog(&self, filter: Document) -> Result<Vec<Collection>, MongoError> {
        let lists = self.deployments().iter().map(|each| each.list_collections(self.database(), filter.clone()));
        let lists = try_join_all(lists).await?;
        let nowhere = vec![None; lists.len()];
        let mut by_name = BTreeMap::<String, Collection>::new();
        for (at, list) in lists.into_iter().enumerate() {
            for entry in list {
                let collection = by_name.entry(entry.name.clone()).or_insert_with(|| Collection {
                    name: entry.name,
                    skip: None,
                    capped: entry.capped,
                    collation: entry.collation,
                    sources: nowhere.clone(),
                });
                // A view on one shard cannot be followed on the others either.
                collection.skip = collection.skip.or(entry.skip);
                collection.sources[at] = Some(SourceCollection { uuid: entry.uuid, size: None });
            }
        }
        Ok(by_name.into_values().collect())
    }

    /// Fills in the sizes of collections that can be followed.
    async fn measure(&self, collections: &mut [Collection]) -> Result<(), MongoError> {
        let wanted = collections.iter_mut().filter(|collection| collection.skip.is_none()).flat_map(|collection| {
            let Collection { name, sources, .. } = collection;
            let name = name.as_str();
            let existing = self.deployments().iter().zip(sources.iter_mut());
            existing.filter_map(move |(deployment, source)| Some((deployment, name, source.as_mut()?)))
        });
        let asked = wanted.map(async |(deployment, name, source)| {
            source.size = deployment.size_of(self.database(), name).await?;
            Ok(())
        });
        stream::iter(asked).buffer_unordered(SIZES_AT_ONCE).try_collect().await
    }

    async fn no_such_database(&self) -> MongoError {
        let lists = self.deployments().iter().map(Deployment::list_databases);
        // Without the right to list databases the error has no suggestions.
        let known: Vec<String> = try_join_all(lists).await.unwrap_or_default().concat();
        let database = self.database().to_owned();
        let near = near_names(&database, known.iter().map(String::as_str).filter(|known| *known != database));
        MongoError::NoSuchDatabase { hosts: self.hosts(), database, near }
    }

    async fn no_such_collection(&self, name: &str) -> MongoError {
        match self.catalog(doc! {}).await {
            Ok(known) if known.is_empty() => self.no_such_database().await,
            Ok(known) => MongoError::NoSuchCollection {
                hosts: self.hosts(),
                database: self.database().to_owned(),
                collection: name.to_owned(),
                near: near_names(name, known.iter().map(|collection| collection.name.as_str())),
            },
            Err(error) => error,
        }
    }
}

impl Deployment {
    /// The current UUID of a collection; `None` if it does not exist.
    pub(crate) async fn uuid_of(&self, database: &str, name: &str) -> Result<Option<[u8; 16]>, MongoError> {
        Ok(self.uuid_and_capped(database, name).await?.and_then(|(uuid, _)| uuid))
    }

    /// The same, with whether the collection is capped.
    pub(crate) async fn uuid_and_capped(
        &self,
        database: &str,
        name: &str,
    ) -> Result<Option<(Option<[u8; 16]>, bool)>, MongoError> {
        let found = self.list_collections(database, doc! { "name": name }).await?;
        Ok(found.into_iter().next().map(|entry| (entry.uuid, entry.capped)))
    }

    async fn list_collections(&self, database: &str, filter: Document) -> Result<Vec<CatalogEntry>, MongoError> {
        let command = doc! { "listCollections": 1, "filter": filter };
        let list = async { self.database(database).run_cursor_command(command).await?.try_collect().await };
        let entries: Vec<Document> = self.answered("listCollections", database, ReplyLimit::Short, list).await?;
        Ok(entries.iter().filter_map(CatalogEntry::read).collect())
    }

    async fn list_databases(&self) -> Result<Vec<String>, MongoError> {
        self.answered("listDatabases", "admin", ReplyLimit::Short, self.client().list_database_names()).await
    }

    /// The size by `$collStats`, which the role `read` allows; a router gives one document a shard.
    async fn size_of(&self, database: &str, name: &str) -> Result<Option<CollectionSize>, MongoError> {
        let namespace = format!("{database}.{name}");
        let collection = self.database(database).collection::<Document>(name);
        let stages = [
            doc! { "$collStats": { "storageStats": {} } },
            doc! { "$project": { "count": "$storageStats.count", "size": "$storageStats.size" } },
        ];
        // `$collStats` accepts no other read concern, whatever the connection string says.
        let ask = async {
            let cursor = collection.aggregate(stages).read_concern(ReadConcern::local()).await?;
            cursor.try_collect::<Vec<Document>>().await
        };
        match self.answered("$collStats", &namespace, ReplyLimit::Short, ask).await {
            Ok(shards) => Ok(Some(sum(&shards))),
            // No right to see it, or dropped meanwhile: an estimate is not worth failing for.
            Err(MongoError::NoRights { .. } | MongoError::Server { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn sum(shards: &[Document]) -> CollectionSize {
    let of = |field| shards.iter().map(|shard| whole_number(shard.get(field))).sum();
    CollectionSize { documents: of("count"), bytes: of("size") }
}

/// A number, which the server writes as the smallest type that holds it.
fn whole_number(value: Option<&Bson>) -> u64 {
    match value {
        Some(Bson::Int32(number)) => u64::try_from(*number).unwrap_or(0),
        Some(Bson::Int64(number)) => u64::try_from(*number).unwrap_or(0),
        // The cast saturates, and no collection is that large.
        Some(Bson::Double(number)) => *number as u64,
        _ => 0,
    }
}

/// One document of `listCollections`' answer.
#[derive(Debug, Clone, PartialEq)]
struct CatalogEntry {
    name: String,
    skip: Option<SkipReason>,
    uuid: Option<[u8; 16]>,
    capped: bool,
    collation: Option<Document>,
}

impl CatalogEntry {
    /// `None` without a name, which the server never sends.
    fn read(entry: &Document) -> Option<CatalogEntry> {
        let name = entry.get_str("name").ok()?;
        let options = entry.get_document("options").ok();
        let info = entry.get_document("info").ok();
        Some(CatalogEntry {
            name: name.to_owned(),
            skip: skip_reason(name, entry.get_str("type").unwrap_or("collection")),
            uuid: uuid(info.and_then(|info| info.get("uuid"))),
            capped: options.is_some_and(|options| options.get_bool("capped").unwrap_or(false)),
            collation: options.and_then(|options| options.get_document("collation").ok()).cloned(),
        })
    }
}

fn uuid(value: Option<&Bson>) -> Option<[u8; 16]> {
    match value {
        Some(Bson::Binary(binary)) => binary.bytes.as_slice().try_into().ok(),
        _ => None,
    }
}

fn skip_reason(name: &str, kind: &str) -> Option<SkipReason> {
    if name.starts_with("system.") {
        return Some(SkipReason::System);
    }
    match kind {
        "view" => Some(SkipReason::View),
        "timeseries" => Some(SkipReason::TimeSeries),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::spec::BinarySubtype;

    #[test]
    fn what_is_no_collection_of_its_own_is_skipped_with_the_reason() {
        assert_eq!(skip_reason("orders", "collection"), None);
        assert_eq!(skip_reason("systems", "collection"), None);
        assert_eq!(skip_reason("system.buckets.weather", "collection"), Some(SkipReason::System));
        assert_eq!(skip_reason("system.views", "collection"), Some(SkipReason::System));
        assert_eq!(skip_reason("big_orders", "view"), Some(SkipReason::View));
        assert_eq!(skip_reason("weather", "timeseries"), Some(SkipReason::TimeSeries));
    }

    #[test]
    fn an_entry_of_the_catalog_is_read() {
        let uuid = bson::Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 16] };
        let entry = doc! {
            "name": "orders", "type": "collection",
            "options": { "capped": true, "size": 4096, "collation": { "locale": "de" } },
            "info": { "readOnly": false, "uuid": uuid },
        };
        let expected = CatalogEntry {
            name: "orders".into(),
            skip: None,
            uuid: Some([7; 16]),
            capped: true,
            collation: Some(doc! { "locale": "de" }),
        };
        assert_eq!(CatalogEntry::read(&entry), Some(expected));
        assert_eq!(CatalogEntry::read(&doc! { "type": "view" }), None);
    }

    #[test]
    fn a_size_is_known_only_if_it_is_known_of_each_source() {
        let source = |size| Some(SourceCollection { uuid: None, size });
        let collection =
            |sources| Collection { name: "orders".into(), skip: None, capped: false, collation: None, sources };
        let size = |documents, bytes| Some(CollectionSize { documents, bytes });
        let both = collection(vec![source(size(2, 300)), None, source(size(1, 30))]);
        assert_eq!(both.size(), size(3, 330));
        assert_eq!(both.size().unwrap().average(), 110);
        assert_eq!(collection(vec![source(size(2, 300)), source(None)]).size(), None);
        assert_eq!(CollectionSize::default().average(), 0);
    }

    #[test]
    fn sizes_of_shards_are_summed_whatever_their_number_type() {
        let shards = [doc! { "count": 3, "size": 5.0e9 }, doc! { "count": 4_i64, "size": 100 }];
        assert_eq!(sum(&shards), CollectionSize { documents: 7, bytes: 5_000_000_100 });
    }
}
