//! What an operator can do about each failure.

use super::MongoError;
use crate::version::ServerVersion;

impl MongoError {
    /// What the operator can do, as a sentence; `None` where the message says it all.
    pub fn remedy(&self) -> Option<String> {
        self.settings_remedy().or_else(|| self.server_remedy()).or_else(|| self.reading_remedy())
    }

    /// For failures of `[mongo]` and `[[oplog]]`.
    fn settings_remedy(&self) -> Option<String> {
        Some(match self {
            MongoError::MalformedUri { in_options: true, .. } => {
                "correct or remove the option after the ? of the URI".into()
            }
            MongoError::MalformedUri { .. } => {
                "write mongodb://user:password@host:port/?option=value, with : / ? # [ ] @ % percent-encoded in \
                 user and password"
                    .into()
            }
            MongoError::SameReplicaSet { .. } => {
                "name each replica set once; for two sets of one name, add an [[oplog]] with a name and a uri for each"
                    .into()
            }
            MongoError::SameServer { .. } => "name each shard once".into(),
            MongoError::RouterAmongShards { .. } => "name either the router alone or every shard".into(),
            MongoError::RouterWithoutOplog { .. } => {
                "add an [[oplog]] with a name and a uri for each shard, leading to the shard's replica set".into()
            }
            MongoError::OplogsDiffer { .. } => {
                "add one [[oplog]] for each replica set that [mongo] uri leads to, and no other; without a router you \
                 can remove all of them: each URI of [mongo] is then its own oplog"
                    .into()
            }
            MongoError::HostsNotFound { .. } => "check the name, or use mongodb://host:port instead".into(),
            MongoError::UnusableTlsFile { option, .. } => {
                format!("check {option} in the URI, and that gizer's user may read the file")
            }
            MongoError::NoDump { .. } => {
                "name a file <collection>.bson or <collection>.bson.gz, or the folder of one database that mongodump \
                 has written, such as dump/shop"
                    .into()
            }
            _ => return None,
        })
    }

    /// For failures of connecting to a server, and of its rights and replica set.
    fn server_remedy(&self) -> Option<String> {
        Some(match self {
            MongoError::Standalone { .. } => "convert it to a replica set of one: restart mongod with --replSet rs0 \
                 (or replication.replSetName in its configuration file), then run rs.initiate() in its shell once"
                .into(),
            MongoError::NotInitiated { .. } => "run rs.initiate() in the server's shell once".into(),
            MongoError::Unreachable { read_preference: Some(preference), .. } => format!(
                "remove readPreference={preference} from the URI or write {preference}Preferred, or start such a member"
            ),
            MongoError::Unreachable { .. } => {
                "check host, port, network and replicaSet, and whether the server wants TLS (tls=true in the URI) or a \
                 client certificate (tlsCertificateKeyFile=/path/to/client.pem); if the members' own names cannot be \
                 resolved from here, add directConnection=true to the URI"
                    .into()
            }
            MongoError::TlsRefused { fault, .. } => fault.remedy().into(),
            MongoError::AuthenticationRefused { .. } => {
                "check user and password (in the URI, [mongo] password_file or \
                 GIZER_MONGO_PASSWORD), and authSource=<database of the user>, often authSource=admin; with \
                 authMechanism=MONGODB-X509 the user is the certificate's subject, in the database $external"
                    .into()
            }
            MongoError::NoRights { role, authenticated: true, .. } => format!("grant the user {role}"),
            MongoError::NoRights { role, .. } => {
                format!("the URI names no user: add one that has {role}, as mongodb://user:password@host:port/")
            }
            MongoError::TooOld { .. } => {
                format!("upgrade the server to MongoDB {} or later", ServerVersion::OLDEST)
            }
            MongoError::MajorityLags { .. } => {
                "check rs.status() for members that are down or lag: writes wait for a majority".into()
            }
            MongoError::MemberLags { .. } => "wait until the member has caught up, or read from another".into(),
            _ => return None,
        })
    }

    /// For failures while documents, oplogs or dumps are read.
    fn reading_remedy(&self) -> Option<String> {
        Some(match self {
            MongoError::ConnectionLost { .. } | MongoError::CursorLost { .. } => {
                "run it again; the server's log has the reason".into()
            }
            MongoError::CollectionChanged { .. } => "run it again once the collection is in place".into(),
            MongoError::RolledOver { .. } => {
                "run `gizer resync`, which brings the tables up to date in place, or `gizer load`; and enlarge the oplog \
                 (replSetResizeOplog)"
                    .into()
            }
            MongoError::Diverged { .. } => {
                "run `gizer resync`, which brings the tables up to date in place, or `gizer load`".into()
            }
            MongoError::OtherSource { .. } => "run `gizer load` for the collections".into(),
            MongoError::ShardAdded { .. } => {
                "run `gizer resync` or `gizer load`: both take a position of every shard".into()
            }
            MongoError::ShardGone { .. } => {
                "add its [[oplog]] again; if the shard was removed, run `gizer load` for the collections".into()
            }
            MongoError::MalformedEntry { found, .. } => found.remedy(),
            MongoError::SpillFailed { .. } => {
                "free disk space and let gizer's user write there, or set another spool_dir under [load]".into()
            }
            MongoError::DumpBroken { .. } => {
                "copy or dump the file again: it was truncated or changed, or mongodump did not finish".into()
            }
            _ => return None,
        })
    }
}
