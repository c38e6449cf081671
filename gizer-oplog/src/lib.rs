//! Everything gizer reads from MongoDB: snapshot scans and the oplog.
//!
//! ```text
//!   MongoSettings ──Cluster::connect──▶ Cluster ──collections──▶ Collection ──CollectionScan──▶ DocumentBatch, …
//!                                          │
//!                                          └──oplogs──▶ Oplog ──newest_positions──▶ Positions
//!                                                         ├──OplogTail──▶ OplogBatch, …
//!                                                         └──OplogChanges──▶ ChangeEvent, …
//! ```
//!
//! * [`Cluster`] is the whole source: one or several [`Deployment`]s.
//! * [`Collection`] is a collection of the catalog: whether it can be followed, its UUID, its size.
//! * [`CollectionScan`] reads a collection once, by `_id`; [`RangeScan`] reads it by several
//!   cursors, over segments from [`plan_segments`], and gives each batch with its range of `_id`s.
//! * [`Dump`] is a folder of mongodump; [`DumpScan`] reads a file of it without a server.
//! * [`Oplog`] is the log of one shard.
//! * [`OplogTail`] follows it from a saved position, entry by entry.
//! * [`OplogChanges`] reads the logs of all shards as changes, merged by time; transactions are
//!   given once committed.
//! * [`decode`] decodes entries.
//! * [`ClusterLookUp`] reads documents by `_id`, [`ClusterChunks`] by chunks, both as of a time.
//!
//! The contracts are on the traits [`DocumentSource`], [`RangeSource`], [`ChangeSource`] and
//! [`LookUp`], and on [`ClusterChunks`]. This crate only reads and decodes; gizer-flatten decides
//! what a document or change means for tables.
//!
//! Every failure is a [`MongoError`] with its place and, where possible, a remedy. None shows a
//! password, a connection string or document contents.

mod changes;
mod chunks;
mod collections;
mod connect;
pub mod decode;
mod driver_errors;
mod dump;
mod error;
mod follow;
mod lookup;
mod majority;
mod near_names;
mod pairing;
mod position;
mod reachability;
mod reply;
mod scan;
mod settings;
mod sources;
mod tail;
mod tls;
mod uri;
mod uri_options;
mod user_name;
mod version;
mod waiting;
mod window;

pub use changes::{ChangeEvent, ChangeSource};
pub use chunks::{Chunk, ClusterChunks, Stretch};
pub use collections::{Collection, CollectionSize, SkipReason, SourceCollection};
pub use connect::{Cluster, Deployment, Topology};
pub use dump::{Dump, DumpFile, DumpScan};
pub use error::{ErrorClass, MalformedReply, MongoError};
pub use follow::{FollowOptions, Interest, OplogChanges};
pub use lookup::{ClusterLookUp, LookUp, WantedId};
pub use position::{Oplog, OplogPosition, latest_time, newest_positions, position_json};
pub use scan::{
    CollectionScan, DocumentSource, Portion, RangeScan, RangeSource, ScanOptions, UnplacedSource, can_be_read,
    draw_boundaries, draw_ids, plan_segments,
};
pub use settings::{MongoSettings, OplogSettings};
pub use sources::{ReadAt, WatchedCollection};
pub use tail::{OplogBatch, OplogTail, RawEntry, TailOptions};
pub use tls::TlsFault;
pub use uri::{Hosts, SecretUri};
pub use version::{ReleaseLine, ServerVersion};
pub use window::{LogFill, LogWindow};
