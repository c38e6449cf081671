//! What can go wrong while MongoDB is read, and what an operator can do about it.

mod class;
mod malformed_reply;
mod remedies;
mod wording;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use gizer_flatten::change::{ClusterTime, SourcePosition};
use gizer_schema::names::shortened;

pub use self::class::ErrorClass;
pub use self::malformed_reply::MalformedReply;

use self::wording::{asked_for, did_you_mean, each, of_content, user};

use crate::collections::SkipReason;
use crate::decode::DecodeError;
use crate::position::OplogPosition;
use crate::tls::TlsFault;
use crate::uri::Hosts;
use crate::version::ServerVersion;

/// Why something could not be read from MongoDB.
///
/// Messages say what was expected, what came, and from which hosts. They never hold a password, a connection string
/// or the contents of a document; `message` fields hold what the server itself said of a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MongoError {
    /// A connection string that the driver does not take.
    #[error("malformed MongoDB URI: {reason}")]
    MalformedUri {
        /// What is wrong with it, without any part that may be secret.
        reason: String,
        /// Whether it is one of the options, and not user, password or host.
        in_options: bool,
    },

    /// There is nothing to read from.
    #[error("expected at least one MongoDB URI, got none")]
    NoUri,

    /// A name that no database can have (MongoDB manual, "Naming Restrictions").
    #[error("expected the name of a database: 1 to 63 bytes without any of /\\. \"$*<>:|?, got {:?}", shortened(name))]
    MalformedDatabaseName {
        /// The name.
        name: String,
    },

    /// Two oplogs of one name: their positions could not be told apart.
    #[error("expected a name of its own for each oplog, got {name:?} twice")]
    DuplicateOplogName {
        /// The name.
        name: String,
    },

    /// Two connection strings lead to the same replica set, or to two sets of one name where the name has to tell
    /// them apart.
    #[error("expected replica sets of different names, got {name:?} both at {first} and at {second}")]
    SameReplicaSet {
        /// Name of the set.
        name: String,
        /// The first one's hosts.
        first: Hosts,
        /// The second one's hosts.
        second: Hosts,
    },

    /// Two connection strings lead to the same server: its documents or changes would be read twice.
    #[error("expected each URI to lead to another server, got the same one at {first} and at {second}")]
    SameServer {
        /// The first one's hosts.
        first: Hosts,
        /// The second one's hosts.
        second: Hosts,
    },

    /// A `mongos`, which reads all shards, stands in a list of single shards: documents would be read twice.
    #[error("expected a replica set for each URI of a list, found a mongos router at {hosts}, which reads all shards")]
    RouterAmongShards {
        /// The router's hosts.
        hosts: Hosts,
    },

    /// An oplog was wanted from a `mongos`, which has none.
    #[error("expected a replica set with an oplog at {hosts}, found a mongos router, which has none")]
    RouterWithoutOplog {
        /// The router's hosts.
        hosts: Hosts,
    },

    /// The oplogs are not those of the replica sets that documents are read from: changes of one would be lost.
    #[error(
        "expected one [[oplog]] for each replica set that documents are read from{}{}",
        each("none leads to ", without_oplog, ""),
        each("oplog ", foreign, ", leads to none of them")
    )]
    OplogsDiffer {
        /// Replica sets that no oplog leads to, with their hosts.
        without_oplog: Vec<String>,
        /// Oplogs that lead elsewhere: name, replica set and hosts.
        foreign: Vec<String>,
    },

    /// An oplog was wanted from a server that is in no replica set.
    #[error("expected a replica set at {hosts}, found a standalone server, which has no oplog")]
    Standalone {
        /// The server's hosts.
        hosts: Hosts,
    },

    /// The server was started for a replica set that has never been initiated, or it was removed from its set.
    #[error("expected an initiated replica set at {hosts}, found a server that waits for its configuration")]
    NotInitiated {
        /// The server's hosts.
        hosts: Hosts,
    },

    /// No server answered in time, or none that can be read from.
    #[error("could not reach MongoDB at {hosts} within {waited:?}: {seen}{}", asked_for(read_preference.as_deref()))]
    Unreachable {
        /// The hosts of the connection string.
        hosts: Hosts,
        /// The longest time that was waited for them.
        waited: Duration,
        /// What was heard of each server.
        seen: String,
        /// The `readPreference` of the connection string, if it asks for others than the primary.
        read_preference: Option<String>,
    },

    /// A file that the URI names for TLS cannot be used.
    #[error("cannot connect to MongoDB at {hosts} with TLS: {option} {}: {problem}", path.display())]
    UnusableTlsFile {
        /// The hosts of the connection string.
        hosts: Hosts,
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// Servers are there, and do not agree with gizer on TLS.
    #[error("no TLS with MongoDB at {hosts}: {seen}")]
    TlsRefused {
        /// The hosts of the connection string.
        hosts: Hosts,
        /// What is wrong with one of them.
        fault: TlsFault,
        /// What was heard of each server.
        seen: String,
    },

    /// The name of a `mongodb+srv` URI does not lead to any hosts.
    #[error("could not look up the hosts of {hosts}: {message}")]
    HostsNotFound {
        /// The name.
        hosts: Hosts,
        /// The resolver's reason.
        message: String,
    },

    /// The server did not accept the credentials.
    #[error("MongoDB at {hosts} refused the user or the password of the URI: {message}")]
    AuthenticationRefused {
        /// The server's hosts.
        hosts: Hosts,
        /// The server's or the driver's reason.
        message: String,
    },

    /// The user may not do what was asked (server error 13, `Unauthorized`).
    #[error("MongoDB at {hosts} does not let {} run {command} on {namespace}", user(*.authenticated))]
    NoRights {
        /// The server's hosts.
        hosts: Hosts,
        /// The command that was refused.
        command: &'static str,
        /// What it was to be run on.
        namespace: String,
        /// The built-in role that allows it, and the database it is needed on.
        role: String,
        /// Whether the connection string has a user.
        authenticated: bool,
    },

    /// A server older than gizer reads.
    #[error("expected MongoDB {} or later at {hosts}, found {version}", ServerVersion::OLDEST)]
    TooOld {
        /// The server's hosts.
        hosts: Hosts,
        /// Its version, as it says or as its wire protocol tells.
        version: String,
    },

    /// There is no such database, or nothing in it that this user may see.
    #[error("expected a database {database:?} at {hosts}, found none{}", did_you_mean(near))]
    NoSuchDatabase {
        /// The server's hosts.
        hosts: Hosts,
        /// The database that was asked for.
        database: String,
        /// Databases with names like it.
        near: Vec<String>,
    },

    /// There is no such collection.
    #[error(
        "expected a collection {:?} in database {database:?} at {hosts}, found none{}",
        shortened(collection),
        did_you_mean(near)
    )]
    NoSuchCollection {
        /// The server's hosts.
        hosts: Hosts,
        /// The database.
        database: String,
        /// The collection that was asked for.
        collection: String,
        /// Collections with names like it.
        near: Vec<String>,
    },

    /// Something that is in the database, but is no collection that gizer keeps a copy of.
    #[error("expected a collection that can be followed, got {namespace}, which is {reason}")]
    NotFollowable {
        /// Its full name.
        namespace: String,
        /// What it is instead.
        reason: SkipReason,
    },

    /// The members of the set that are up are too few, or too far behind, to confirm the newest writes.
    #[error("expected a majority of the replica set at {hosts} to confirm writes up to {time} within {waited:?}")]
    MajorityLags {
        /// The set's hosts.
        hosts: Hosts,
        /// How long it was waited.
        waited: Duration,
        /// The newest write that the member that was asked has itself.
        time: ClusterTime,
    },

    /// The connection went away while something was being read.
    #[error("lost the connection to MongoDB at {hosts} during {command} on {namespace}: {message}")]
    ConnectionLost {
        /// The server's hosts.
        hosts: Hosts,
        /// What was being done.
        command: &'static str,
        /// What it was done on.
        namespace: String,
        /// The driver's or the server's reason.
        message: String,
    },

    /// The server ended a scan before its last document (errors 43, 175 and 237).
    #[error("MongoDB at {hosts} ended the scan of {namespace} before its end: {message}")]
    CursorLost {
        /// The server's hosts.
        hosts: Hosts,
        /// The collection.
        namespace: String,
        /// The server's reason.
        message: String,
    },

    /// A collection was dropped, renamed or replaced by another of its name while it was being read.
    #[error("collection {namespace} at {hosts} was dropped, renamed or replaced while it was being read")]
    CollectionChanged {
        /// The server's hosts.
        hosts: Hosts,
        /// The collection.
        namespace: String,
    },

    /// A source was asked for more after it had failed.
    #[error("the scan of {namespace} has failed before, and cannot go on")]
    FailedBefore {
        /// The collection.
        namespace: String,
    },

    /// A reply that is not what MongoDB's documentation promises, or not BSON at all.
    #[error("expected {expected} in the answer to {command} from MongoDB at {hosts}: {found}")]
    MalformedReply {
        /// The server's hosts.
        hosts: Hosts,
        /// The command that was answered.
        command: &'static str,
        /// What should have been there.
        expected: &'static str,
        /// What was there.
        found: MalformedReply,
    },

    /// The oplog no longer holds the saved position: entries that were never read are gone.
    #[error("oplog of {shard} has rolled over: it was read up to {}, its oldest entry is now {oldest}", saved.time)]
    RolledOver {
        /// The oplog's name.
        shard: String,
        /// Where reading was to go on.
        saved: OplogPosition,
        /// The oldest entry that is left.
        oldest: ClusterTime,
    },

    /// The saved position lies in the oplog's range, and its entry is not there or of another term: what was read
    /// has been rolled back, or this is another cluster.
    #[error("oplog of {shard} has another history: expected the entry {} of term {}, which is not there", saved.time, saved.term)]
    Diverged {
        /// The oplog's name.
        shard: String,
        /// Where reading was to go on.
        saved: OplogPosition,
    },

    /// The member that was asked has not got as far as the saved position.
    #[error("oplog of {shard} was read up to {}, and this member has only got to {newest}", saved.time)]
    MemberLags {
        /// The oplog's name.
        shard: String,
        /// Where reading was to go on.
        saved: OplogPosition,
        /// The member's newest entry.
        newest: ClusterTime,
    },

    /// An oplog without a saved position, where others have one: a shard that was added.
    ///
    /// Nothing tells where to begin: from its joining on, writes to it belong to what is followed, and those up to the
    /// saved position of the other shards were not read, and perhaps are no longer in its log.
    #[error(
        "expected a saved position for the oplog of {shard}, found none: the shard was added after the others were saved"
    )]
    ShardAdded {
        /// The oplog's name.
        shard: String,
    },

    /// A saved position without an oplog.
    #[error("expected an oplog {shard:?}, which was read up to {}, found none of that name", saved.time())]
    ShardGone {
        /// The oplog's name.
        shard: String,
        /// How far it was read.
        saved: SourcePosition,
    },

    /// A saved position that no oplog has made.
    #[error("expected a position in the oplog of {shard}, found {saved}, which another kind of source has made")]
    OtherSource {
        /// The oplog's name.
        shard: String,
        /// What was saved.
        saved: SourcePosition,
    },

    /// An entry that is not what the oplog's form says, or of a kind that is not known.
    #[error("entry {} of the oplog of {shard} cannot be decoded: {found}", position.time)]
    MalformedEntry {
        /// The oplog's name.
        shard: String,
        /// Where the entry is.
        position: OplogPosition,
        /// What is wrong with it.
        found: DecodeError,
    },

    /// An entry leads back to another one that is no part of the same transaction.
    #[error("expected a part of a transaction at {} in the oplog of {shard}, found another entry", position.time)]
    NotOfTransaction {
        /// The oplog's name.
        shard: String,
        /// Where it should have been.
        position: OplogPosition,
    },

    /// Operations of transactions that are not decided yet did not fit in memory, and cannot be kept on disk.
    #[error("cannot {doing} a file in {}, which keeps large transactions until they are committed: {reason}", folder.display())]
    HeldBack {
        /// The folder.
        folder: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        reason: io::Error,
    },

    /// What was spooled of the changes cannot be read.
    #[error("cannot read the spool: {reason}")]
    Spool {
        /// What is wrong with it.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Documents can no longer be read as of that time (server errors 239 and 246).
    #[error("{namespace} can no longer be read as of {at}: {message}")]
    TimeOutOfReach {
        /// The collection.
        namespace: String,
        /// The time that was asked for.
        at: ClusterTime,
        /// The server's reason.
        message: String,
    },

    /// What was named as a dump is none, or cannot be opened.
    #[error("expected a dump at {path}: {found}")]
    NoDump {
        /// The file or folder.
        path: String,
        /// What is there instead.
        found: String,
    },

    /// A dump without the collection.
    #[error("expected a collection {:?} in the dump {path}, found none{}", shortened(collection), did_you_mean(near))]
    NotInDump {
        /// The dump's folder or file.
        path: String,
        /// The collection that was asked for.
        collection: String,
        /// Collections of the dump with names like it.
        near: Vec<String>,
    },

    /// A file of a dump that ends too early, or holds something else than documents.
    #[error("{path} is broken at byte {at}{}: expected {expected}, {found}", of_content(*.compressed))]
    DumpBroken {
        /// The file.
        path: String,
        /// Where, in bytes from the beginning of what the file holds.
        at: u64,
        /// Whether the file is compressed, so that `at` is a place in what it holds, and not in the file.
        compressed: bool,
        /// What should have been there.
        expected: &'static str,
        /// What was there.
        found: String,
    },

    /// A file of a dump could not be read on.
    #[error("cannot read {path} beyond byte {at}: {message}")]
    DumpUnreadable {
        /// The file.
        path: String,
        /// How far it was read.
        at: u64,
        /// The system's reason.
        message: String,
    },

    /// Any other error of the server.
    #[error("MongoDB at {hosts} answered {command} on {namespace} with error {code} ({code_name}): {message}")]
    Server {
        /// The server's hosts.
        hosts: Hosts,
        /// The command.
        command: &'static str,
        /// What it was run on.
        namespace: String,
        /// The server's error code.
        code: i32,
        /// The code's name.
        code_name: String,
        /// The server's message.
        message: String,
    },

    /// Any other error of the driver.
    #[error("the MongoDB driver failed during {command} on {namespace} at {hosts}: {message}")]
    Driver {
        /// The server's hosts.
        hosts: Hosts,
        /// The command.
        command: &'static str,
        /// What it was run on.
        namespace: String,
        /// The driver's message.
        message: String,
    },
}

#[cfg(test)]
#[path = "error/tests.rs"]
mod tests;
