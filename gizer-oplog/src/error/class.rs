//! Classes of failures.

use super::MongoError;

/// How a caller should treat a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The configuration is wrong: a malformed URI, an unknown name. Retrying is useless.
    Configuration,
    /// A server, its rights or its network is not as it must be. A retry may succeed.
    Failed,
    /// Following cannot resume: the collections must be reloaded.
    LoadDue,
}

impl MongoError {
    /// Class of the failure.
    pub fn class(&self) -> ErrorClass {
        match self {
            MongoError::MalformedUri { .. }
            | MongoError::UnusableTlsFile { .. }
            | MongoError::NoUri
            | MongoError::MalformedDatabaseName { .. }
            | MongoError::DuplicateOplogName { .. }
            | MongoError::SameReplicaSet { .. }
            | MongoError::SameServer { .. }
            | MongoError::RouterAmongShards { .. }
            | MongoError::RouterWithoutOplog { .. }
            | MongoError::OplogsDiffer { .. }
            | MongoError::NoSuchDatabase { .. }
            | MongoError::NoSuchCollection { .. }
            | MongoError::NoDump { .. }
            | MongoError::NotInDump { .. }
            | MongoError::NotFollowable { .. }
            | MongoError::ShardGone { .. }
            | MongoError::OtherSource { .. } => ErrorClass::Configuration,
            MongoError::RolledOver { .. } | MongoError::Diverged { .. } | MongoError::ShardAdded { .. } => {
                ErrorClass::LoadDue
            }
            _ => ErrorClass::Failed,
        }
    }

    /// Whether only this collection is affected: the server answers, and others may be readable.
    pub fn is_of_one_collection(&self) -> bool {
        match self {
            MongoError::Server { namespace, .. } => !self.is_transient() && is_of_a_user(namespace),
            MongoError::NoSuchCollection { .. }
            | MongoError::NotFollowable { .. }
            | MongoError::NotInDump { .. }
            | MongoError::DumpBroken { .. }
            | MongoError::DumpUnreadable { .. }
            | MongoError::CollectionChanged { .. }
            | MongoError::CursorLost { .. }
            | MongoError::MalformedReply { .. }
            | MongoError::NoRights { .. } => true,
            _ => false,
        }
    }

    /// Whether a retry may succeed soon, as after an election or a restart.
    pub fn is_transient(&self) -> bool {
        // The codes are those of `error_codes.yml` in the server's sources: HostUnreachable,
        // HostNotFound, MaxTimeMSExpired, NetworkTimeout, NotYetInitialized (a member that has just
        // started), FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet (after a
        // start), ExceededTimeLimit, SocketException, Interrupted (killOp).
        matches!(
            self,
            MongoError::Server { code: 6 | 7 | 50 | 89 | 94 | 133 | 134 | 262 | 9001 | 11601, .. }
                | MongoError::Unreachable { .. }
                | MongoError::HostsNotFound { .. }
                | MongoError::ConnectionLost { .. }
                | MongoError::CursorLost { .. }
                | MongoError::MemberLags { .. }
                | MongoError::MajorityLags { .. }
        )
    }
}

/// Whether a namespace is a user's collection, neither the oplog nor a whole database.
fn is_of_a_user(namespace: &str) -> bool {
    let of = namespace.split_once('.');
    of.is_some_and(|(database, _)| !["local", "admin", "config"].contains(&database))
}
