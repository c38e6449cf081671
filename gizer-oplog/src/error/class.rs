//! How failures are to be treated.

use super::MongoError;

/// How a failure is to be treated by what called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// What was configured cannot be: a malformed URI, a name that does not exist. Trying again is in vain.
    Configuration,
    /// A server, its rights or the way to it are not as they must be. A later attempt may succeed.
    Failed,
    /// Following cannot go on from the saved position: the collections have to be loaded.
    LoadDue,
}

impl MongoError {
    /// How the failure is to be treated.
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

    /// Whether it is about the one collection that was being read: the server answers, and others may be read.
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

    /// Whether the same request may succeed a little later, as after an election or a restart.
    pub fn is_transient(&self) -> bool {
        // The codes are those of `error_codes.yml` in the server's sources: HostUnreachable, HostNotFound,
        // MaxTimeMSExpired, NetworkTimeout, NotYetInitialized (a member that has just started), FailedToSatisfyReadPreference,
        // ReadConcernMajorityNotAvailableYet (after a start), ExceededTimeLimit, SocketException, Interrupted (killOp).
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

/// Whether a namespace is a collection of a user's, and neither the oplog nor a whole database.
fn is_of_a_user(namespace: &str) -> bool {
    let of = namespace.split_once('.');
    of.is_some_and(|(database, _)| !["local", "admin", "config"].contains(&database))
}
