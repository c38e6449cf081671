//! Everything gizer reads from MongoDB: snapshot scans and the oplog.
//!
//! ```text
//!   Settings ──Cluster::connect──▶ Cluster ──collections──▶ Collection ──CollectionScan──▶ DocumentBatch, …
//!                                     │
//!                                     └──oplogs──▶ Oplog ──newest_positions──▶ Positions
//!                                                    └──OplogTail──▶ OplogBatch, … ──Spool──▶ file
//! ```
//!
//! * [`Cluster`] is the source as a whole: one or several [`Deployment`]s, asked at once who and how old they are.
//! * [`Collection`] is what the catalog says of a collection: whether it can be followed, its UUID, its size.
//! * [`CollectionScan`] reads a collection once, in the order of `_id`, as whole replies of the server; [`RangeScan`] reads
//!   it by several cursors, over segments from [`plan_segments`], and says of each batch where it lies.
//! * [`Dump`] is what mongodump has written: [`DumpScan`] reads a file of it, and needs no server.
//! * [`Oplog`] is the log of one shard, and knows its newest and oldest position.
//! * [`OplogTail`] follows it from a saved position on, entry by entry as they are stored.
//! * [`OplogChanges`] reads the logs of all shards as changes, merged by time, each transaction once it is committed; what
//!   was kept aside is read first ([`KeptLog`]).
//! * [`decode`] knows what an entry says.
//! * [`ClusterLookUp`] reads single documents by `_id`, [`ClusterChunks`] a collection stretch by stretch, both as of a time.
//!
//! The stages that the rest of gizer builds on are traits, written as contracts: [`DocumentSource`], [`RangeSource`],
//! [`ChangeSource`], [`LookUp`] and [`ClusterChunks`]. This crate only reads and decodes. What a document or a change means for tables
//! is decided in gizer-flatten.
//!
//! Every failure is a [`MongoError`], which says where it happened and, if something can be done, what. None shows a
//! password, a connection string or the contents of a document.

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
    CollectionScan, DocumentSource, Portion, RangeScan, RangeSource, ScanOptions, Unplaced, can_be_read,
    draw_boundaries, draw_ids, plan_segments,
};
pub use settings::{OplogSettings, Settings};
pub use sources::{ReadAt, WatchedCollection};
pub use tail::{OplogBatch, OplogTail, RawEntry, TailOptions};
pub use tls::TlsFault;
pub use uri::{Hosts, SecretUri};
pub use version::{ReleaseLine, ServerVersion};
pub use window::{LogFill, LogWindow};
