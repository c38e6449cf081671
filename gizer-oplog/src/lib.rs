//! Everything gizer reads from MongoDB: snapshot scans and the oplog.
