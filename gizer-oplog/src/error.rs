//! Errors of reading MongoDB, with what an operator can do about them.

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
/// Messages say what was expected, what was found, and at which hosts. They never hold a password,
/// a connection string or document contents; `message` fields hold the server's own words.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MongoError {
    /// A connection string that the driver rejects.
    #[error("malformed MongoDB URI: {reason}")]
    MalformedUri {
        /// What is wrong with it, without secrets.
        reason: String,
        /// Whether the problem is in the options, not in user, password or host.
        in_options: bool,
    },

    /// No URI is configured.
    #[error("expected at least one MongoDB URI, got none")]
    NoUri,

    /// A name that no database can have (MongoDB manual, "Naming Restrictions").
    #[error("expected the name of a database: 1 to 63 bytes without any of /\\. \"$*<>:|?, got {:?}", shortened(name))]
    MalformedDatabaseName {
        /// The name.
        name: String,
    },

    /// Two oplogs have one name, so their positions could not be told apart.
    #[error("expected a different name for each oplog, got {name:?} twice")]
    DuplicateOplogName {
        /// The name.
        name: String,
    },

    /// Two URIs lead to the same replica set, or to two sets whose names must differ and do not.
    #[error("expected replica sets of different names, got {name:?} both at {first} and at {second}")]
    SameReplicaSet {
        /// Name of the set.
        name: String,
        /// The first one's hosts.
        first: Hosts,
        /// The second one's hosts.
        second: Hosts,
    },

    /// Two URIs lead to the same server: its documents or changes would be read twice.
    #[error("expected each URI to lead to a different server, got the same one at {first} and at {second}")]
    SameServer {
        /// The first one's hosts.
        first: Hosts,
        /// The second one's hosts.
        second: Hosts,
    },

    /// A `mongos` in a list of single shards: documents would be read twice.
    #[error("expected a replica set for each URI of a list, found a mongos router at {hosts}, which reads all shards")]
    RouterAmongShards {
        /// The router's hosts.
        hosts: Hosts,
    },

    /// An oplog was requested from a `mongos`, which has none.
    #[error("expected a replica set with an oplog at {hosts}, found a mongos router, which has none")]
    RouterWithoutOplog {
        /// The router's hosts.
        hosts: Hosts,
    },

    /// Oplogs and replica sets do not pair: changes of one would be lost.
    #[error(
        "expected one [[oplog]] for each replica set that documents are read from{}{}",
        each("none leads to ", without_oplog, ""),
        each("oplog ", foreign, ", leads to none of them")
    )]
    OplogsDiffer {
        /// Replica sets without an oplog, with their hosts.
        without_oplog: Vec<String>,
        /// Oplogs of other sets: name, replica set and hosts.
        foreign: Vec<String>,
    },

    /// An oplog was requested from a server that is in no replica set.
    #[error("expected a replica set at {hosts}, found a standalone server, which has no oplog")]
    Standalone {
        /// The server's hosts.
        hosts: Hosts,
    },

    /// The server's replica set was never initiated, or the server was removed from it.
    #[error("expected an initiated replica set at {hosts}, found a server that waits for its configuration")]
    NotInitiated {
        /// The server's hosts.
        hosts: Hosts,
    },

    /// No readable server answered in time.
    #[error("could not reach MongoDB at {hosts} within {waited:?}: {seen}{}", asked_for(read_preference.as_deref()))]
    Unreachable {
        /// The hosts of the connection string.
        hosts: Hosts,
        /// How long was waited for them.
        waited: Duration,
        /// What each server answered.
        seen: String,
        /// The `readPreference` of the connection string, unless it is the primary.
        read_preference: Option<String>,
    },

    /// A TLS file named by the URI cannot be used.
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

    /// TLS negotiation failed.
    #[error("TLS negotiation with MongoDB at {hosts} failed: {seen}")]
    TlsRefused {
        /// The hosts of the connection string.
        hosts: Hosts,
        /// The cause at one of them.
        fault: TlsFault,
        /// What each server answered.
        seen: String,
    },

    /// The name of a `mongodb+srv` URI has no hosts.
    #[error("could not look up the hosts of {hosts}: {message}")]
    HostsNotFound {
        /// The name.
        hosts: Hosts,
        /// The resolver's reason.
        message: String,
    },

    /// The server rejected the credentials.
    #[error("MongoDB at {hosts} refused the user or the password of the URI: {message}")]
    AuthenticationRefused {
        /// The server's hosts.
        hosts: Hosts,
        /// The server's or the driver's reason.
        message: String,
    },

    /// The user lacks the rights for a command (server error 13, `Unauthorized`).
    #[error("MongoDB at {hosts} does not let {} run {command} on {namespace}", user(*.authenticated))]
    NoRights {
        /// The server's hosts.
        hosts: Hosts,
        /// The command that was refused.
        command: &'static str,
        /// What it would have run on.
        namespace: String,
        /// The built-in role that allows it, and on which database.
        role: String,
        /// Whether the connection string has a user.
        authenticated: bool,
    },

    /// The server is too old for gizer.
    #[error("expected MongoDB {} or later at {hosts}, found {version}", ServerVersion::OLDEST)]
    TooOld {
        /// The server's hosts.
        hosts: Hosts,
        /// Its version, as reported or as implied by its wire protocol.
        version: String,
    },

    /// The database does not exist, or the user sees nothing in it.
    #[error("expected a database {database:?} at {hosts}, found none{}", did_you_mean(near))]
    NoSuchDatabase {
        /// The server's hosts.
        hosts: Hosts,
        /// The requested database.
        database: String,
        /// Databases with similar names.
        near: Vec<String>,
    },

    /// The collection does not exist.
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
        /// The requested collection.
        collection: String,
        /// Collections with similar names.
        near: Vec<String>,
    },

    /// A view or another collection that gizer cannot follow.
    #[error("expected a collection that can be followed, got {namespace}, which is {reason}")]
    NotFollowable {
        /// Its full name.
        namespace: String,
        /// What it is instead.
        reason: SkipReason,
    },

    /// Too few members are up to date to confirm the newest writes.
    #[error("expected a majority of the replica set at {hosts} to confirm writes up to {time} within {waited:?}")]
    MajorityLags {
        /// The set's hosts.
        hosts: Hosts,
        /// How long was waited.
        waited: Duration,
        /// The newest write of the member that was asked.
        time: ClusterTime,
    },

    /// The connection broke during a read.
    #[error("lost the connection to MongoDB at {hosts} during {command} on {namespace}: {message}")]
    ConnectionLost {
        /// The server's hosts.
        hosts: Hosts,
        /// The command.
        command: &'static str,
        /// What it ran on.
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

    /// A collection was dropped, renamed or replaced during a read.
    #[error("collection {namespace} at {hosts} was dropped, renamed or replaced while it was being read")]
    CollectionChanged {
        /// The server's hosts.
        hosts: Hosts,
        /// The collection.
        namespace: String,
    },

    /// A source was read again after it had failed.
    #[error("cannot continue the scan of {namespace}: it failed before")]
    FailedBefore {
        /// The collection.
        namespace: String,
    },

    /// A reply that does not have the documented form, or is not BSON.
    #[error("expected {expected} in the answer to {command} from MongoDB at {hosts}: {found}")]
    MalformedReply {
        /// The server's hosts.
        hosts: Hosts,
        /// The command.
        command: &'static str,
        /// What should have been there.
        expected: &'static str,
        /// What was there.
        found: MalformedReply,
    },

    /// The oplog no longer holds the saved position: unread entries are gone.
    #[error("oplog of {shard} has rolled over: it was read up to {}, its oldest entry is {oldest}", saved.time)]
    RolledOver {
        /// The oplog's name.
        shard: String,
        /// Where reading should have resumed.
        saved: OplogPosition,
        /// The oldest remaining entry.
        oldest: ClusterTime,
    },

    /// The saved position is within the oplog's range, but its entry is missing or of another term:
    /// it was rolled back, or this is another cluster.
    #[error("oplog of {shard} has diverged: expected entry {} of term {}, found none", saved.time, saved.term)]
    Diverged {
        /// The oplog's name.
        shard: String,
        /// Where reading should have resumed.
        saved: OplogPosition,
    },

    /// The member is behind the saved position.
    #[error("this member is behind: the oplog of {shard} was read up to {}, its newest entry is {newest}", saved.time)]
    MemberLags {
        /// The oplog's name.
        shard: String,
        /// Where reading should have resumed.
        saved: OplogPosition,
        /// The member's newest entry.
        newest: ClusterTime,
    },

    /// A shard without a saved position, where others have one: it was added later.
    ///
    /// Its writes up to the other shards' positions were never read, and may have left its log.
    #[error(
        "expected a saved position for the oplog of {shard}, found none: the shard was added after the others were saved"
    )]
    ShardAdded {
        /// The oplog's name.
        shard: String,
    },

    /// A saved position whose oplog is not configured.
    #[error("expected an oplog {shard:?}, which was read up to {}, found none of that name", saved.time())]
    ShardGone {
        /// The oplog's name.
        shard: String,
        /// How far it was read.
        saved: SourcePosition,
    },

    /// A saved position made by another kind of source.
    #[error("expected a position in the oplog of {shard}, found {saved} of another kind of source")]
    OtherSource {
        /// The oplog's name.
        shard: String,
        /// What was saved.
        saved: SourcePosition,
    },

    /// An entry of unknown kind, or not in the oplog's format.
    #[error("entry {} of the oplog of {shard} cannot be decoded: {found}", position.time)]
    MalformedEntry {
        /// The oplog's name.
        shard: String,
        /// Where the entry is.
        position: OplogPosition,
        /// What is wrong with it.
        found: DecodeError,
    },

    /// `prevOpTime` leads to an entry of another transaction.
    #[error("expected a part of a transaction at {} in the oplog of {shard}, found another entry", position.time)]
    NotOfTransaction {
        /// The oplog's name.
        shard: String,
        /// Where the part should be.
        position: OplogPosition,
    },

    /// Operations of an undecided transaction could not be spilled to disk.
    #[error("cannot {doing} the spill file of large transactions in {}: {reason}", folder.display())]
    SpillFailed {
        /// The folder.
        folder: PathBuf,
        /// The command.
        doing: &'static str,
        /// The system's reason.
        reason: io::Error,
    },

    /// The spool cannot be read.
    #[error("cannot read the spool: {reason}")]
    Spool {
        /// What is wrong with it.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The server no longer reads as of that time (server errors 239 and 246).
    #[error("{namespace} can no longer be read as of {at}: {message}")]
    TimeOutOfReach {
        /// The collection.
        namespace: String,
        /// The requested time.
        at: ClusterTime,
        /// The server's reason.
        message: String,
    },

    /// The path is not a dump, or cannot be opened.
    #[error("expected a dump at {path}: {found}")]
    NoDump {
        /// The file or folder.
        path: String,
        /// What was found instead.
        found: String,
    },

    /// The dump does not have the collection.
    #[error("expected a collection {:?} in the dump {path}, found none{}", shortened(collection), did_you_mean(near))]
    NotInDump {
        /// The dump's folder or file.
        path: String,
        /// The requested collection.
        collection: String,
        /// Collections of the dump with similar names.
        near: Vec<String>,
    },

    /// A dump file is truncated or holds something other than documents.
    #[error("{path} is broken at byte {at}{}: expected {expected}, {found}", of_content(*.compressed))]
    DumpBroken {
        /// The file.
        path: String,
        /// Offset in bytes in the uncompressed content.
        at: u64,
        /// Whether the file is compressed.
        compressed: bool,
        /// What should have been there.
        expected: &'static str,
        /// What was there.
        found: String,
    },

    /// A dump file could not be read further.
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
