//! What an operator can do about each failure.

use super::MongoError;
use crate::version::ServerVersion;

impl MongoError {
    /// What the operator can do, as a sentence; `None` where the message says it all.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            MongoError::MalformedUri { in_options: true, .. } => {
                "correct the option behind the ? of the URI, or leave it out".into()
            }
            MongoError::MalformedUri { .. } => {
                "write mongodb://user:password@host:port/?option=value, and percent-encode : / ? # [ ] @ % in the \
                 user and the password"
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
                "name an [[oplog]] for each replica set that [mongo] uri leads to, and no other; or none at all where \
                 there is no router: each URI of [mongo] is then its own oplog"
                    .into()
            }
            MongoError::Standalone { .. } => "convert it to a replica set of one: restart mongod with --replSet rs0 \
                 (or replication.replSetName in its configuration file), then run rs.initiate() in its shell once"
                .into(),
            MongoError::NotInitiated { .. } => "run rs.initiate() in the server's shell once".into(),
            MongoError::HostsNotFound { .. } => "check the name, or name host:port with mongodb:// instead".into(),
            MongoError::Unreachable { read_preference: Some(preference), .. } => format!(
                "leave readPreference={preference} out of the URI, or write {preference}Preferred, unless such a member should be there"
            ),
            MongoError::Unreachable { .. } => {
                "check host, port, network and replicaSet, and whether the server wants TLS (tls=true in the URI) or a \
                 client certificate (tlsCertificateKeyFile=/path/to/client.pem); if the members' own names cannot be resolved from here, add directConnection=true to the URI"
                    .into()
            }
            MongoError::UnusableTlsFile { option, .. } => {
                format!("check {option} in the URI, and that gizer's user may read the file")
            }
            MongoError::TlsRefused { fault, .. } => fault.remedy().into(),
            MongoError::AuthenticationRefused { .. } => "check user and password (in the URI, [mongo] password_file or \
                 GIZER_MONGO_PASSWORD), and authSource=<database of the user>, often authSource=admin; with \
                 authMechanism=MONGODB-X509 the user is the certificate's subject, in the database $external"
                .into(),
            MongoError::NoRights { role, authenticated: true, .. } => format!("grant the user {role}"),
            MongoError::NoRights { role, .. } => {
                format!("the URI names no user: add one that has {role}, as mongodb://user:password@host:port/")
            }
            MongoError::TooOld { .. } => {
                format!("upgrade the server to MongoDB {} or later", ServerVersion::OLDEST)
            }
            MongoError::ConnectionLost { .. } | MongoError::CursorLost { .. } => {
                "run it again; the server's log says why it ended the read".into()
            }
            MongoError::CollectionChanged { .. } => "run it again once the collection is in place".into(),
            MongoError::RolledOver { .. } => {
                "load the collections again, and give the oplog more room (replSetResizeOplog)".into()
            }
            MongoError::Diverged { .. } => "load the collections again".into(),
            MongoError::NoDump { .. } => {
                "name a file <collection>.bson or <collection>.bson.gz, or the folder of one database that mongodump \
                 has written, such as dump/shop"
                    .into()
            }
            MongoError::DumpBroken { .. } => {
                "the file was cut or changed on its way, or mongodump did not come to its end: copy or make it again"
                    .into()
            }
            MongoError::MajorityLags { .. } => {
                "look at rs.status(): members that are down or lag keep writes from being confirmed".into()
            }
            MongoError::MemberLags { .. } => "wait until the member has caught up, or read from another".into(),
            MongoError::ShardAdded { .. } => "load the collections again: the load takes a position of every shard".into(),
            MongoError::ShardGone { .. } => {
                "name its [[oplog]] again; if the shard was removed, load the collections again".into()
            }
            MongoError::OtherSource { .. } => "load the collections again".into(),
            MongoError::MalformedEntry { found, .. } => found.remedy(),
            MongoError::HeldBack { .. } => {
                "make room on the disk and let gizer's user write there, or name another folder as spool_dir under [load]"
                    .into()
            }
            _ => return None,
        })
    }
}
