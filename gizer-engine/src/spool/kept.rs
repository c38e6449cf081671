//! What a capture has kept so far of one oplog, read while it goes on.

use std::error::Error;
use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use gizer_oplog::spool::{SpoolError, SpoolIdentity, SpoolReader};
use gizer_oplog::{KeptInFile, KeptLog, MongoError, OplogBatch, OplogPosition};
use gizer_pg::Target;
use gizer_pg::spool::{PgSpoolIdentity, PgSpoolPlace, PgSpoolReader};
use tokio::sync::watch;

use super::{SpoolSettings, State, of_cache};
use crate::failure::Failure;

/// Bytes of entries that are read at a time.
const BATCH_BYTES: usize = 4 << 20;

/// The spool of one shard, whose capture goes on.
pub(super) struct Kept {
    shard: String,
    place: Place,
    capture: watch::Receiver<State>,
}

enum Place {
    File { path: PathBuf, identity: SpoolIdentity, log: KeptInFile },
    Postgres(PgSpoolReader),
}

impl Kept {
    /// Opens what the configuration names; `None` if there is no spool, or it does not reach back to `from`.
    pub(super) async fn open(
        settings: &SpoolSettings,
        identity: SpoolIdentity,
        from: OplogPosition,
        capture: watch::Receiver<State>,
    ) -> Result<Option<Kept>, Failure> {
        let shard = identity.shard.clone();
        let place = match &settings.cache {
            Some(target) => in_postgres(target, identity).await?,
            None => in_file(settings, identity, from)?,
        };
        let kept = place.map(|place| Kept { shard, place, capture });
        Ok(kept.filter(|kept| kept.start() <= from))
    }

    async fn read(&mut self) -> Result<Option<OplogBatch>, MongoError> {
        let reader = match &mut self.place {
            Place::File { log, .. } => return log.next_batch().await,
            Place::Postgres(reader) => reader,
        };
        let page = reader.next_page(BATCH_BYTES).await.map_err(|error| unreadable(&self.shard, error))?;
        if page.is_empty() {
            return Ok(None);
        }
        let entries: Vec<u8> = page.into_iter().flat_map(|each| each.entry).collect();
        OplogBatch::of_kept(entries, of_place(reader.reached()))
            .map(Some)
            .map_err(|found| unreadable(&self.shard, found))
    }

    /// Reads on, and waits until the capture has kept more or has ended.
    async fn read_or_wait(&mut self) -> Result<Option<OplogBatch>, MongoError> {
        loop {
            // Once it has ended, what is there is all that there will be.
            let ended = self.capture.borrow_and_update().ended;
            let before = self.reached();
            self.open_again()?;
            if let Some(batch) = self.read().await? {
                return Ok(Some(batch));
            }
            if self.reached() > before {
                let batch = OplogBatch::of_kept(Vec::new(), self.reached());
                return batch.map(Some).map_err(|found| unreadable(&self.shard, found));
            }
            if ended || self.capture.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// A file is read as far as it went when it was opened.
    fn open_again(&mut self) -> Result<(), MongoError> {
        let Place::File { path, identity, log } = &mut self.place else { return Ok(()) };
        if let Some(reader) = SpoolReader::open(path, identity, log.reached()).map_err(MongoError::Spool)? {
            log.go_on_with(reader);
        }
        Ok(())
    }
}

impl KeptLog for Kept {
    fn start(&self) -> OplogPosition {
        match &self.place {
            Place::File { log, .. } => log.start(),
            Place::Postgres(reader) => of_place(reader.start()),
        }
    }

    fn reached(&self) -> OplogPosition {
        match &self.place {
            Place::File { log, .. } => log.reached(),
            Place::Postgres(reader) => of_place(reader.reached()),
        }
    }

    fn next_batch(&mut self) -> BoxFuture<'_, Result<Option<OplogBatch>, MongoError>> {
        self.read().boxed()
    }

    fn wait_for_batch(&mut self) -> BoxFuture<'_, Result<Option<OplogBatch>, MongoError>> {
        self.read_or_wait().boxed()
    }
}

fn of_place(PgSpoolPlace { time, term }: PgSpoolPlace) -> OplogPosition {
    OplogPosition { time, term }
}

async fn in_postgres(target: &Target, identity: SpoolIdentity) -> Result<Option<Place>, Failure> {
    let SpoolIdentity { owner, shard, database } = identity;
    let identity = PgSpoolIdentity { owner, shard, database };
    let reader = PgSpoolReader::open(target, &identity).await.map_err(of_cache)?;
    Ok(reader.map(Place::Postgres))
}

fn in_file(settings: &SpoolSettings, identity: SpoolIdentity, from: OplogPosition) -> Result<Option<Place>, Failure> {
    let path = settings.folder.join(identity.file_name());
    let reader = match SpoolReader::open(&path, &identity, from) {
        Err(SpoolError::NotCovered { .. }) => None,
        outcome => outcome.map_err(MongoError::Spool)?,
    };
    Ok(reader.map(|reader| {
        let log = KeptInFile::new(&identity.shard, reader);
        Place::File { path, identity, log }
    }))
}

fn unreadable(shard: &str, reason: impl Error + Send + Sync + 'static) -> MongoError {
    MongoError::Kept { shard: shard.to_owned(), reason: Box::new(reason) }
}

#[cfg(test)]
mod tests {
    use bson::{Timestamp, doc};
    use gizer_flatten::change::ClusterTime;
    use gizer_oplog::RawEntry;
    use gizer_oplog::spool::Spool;
    use gizer_schema::raw::RawDoc;

    use super::*;

    fn at(seconds: u32) -> OplogPosition {
        OplogPosition { time: ClusterTime { seconds, increment: 1 }, term: 1 }
    }

    fn append(spool: &mut Spool, seconds: u32, reached: u32) {
        let ts = Timestamp { time: seconds, increment: 1 };
        let entry = doc! { "ts": ts, "t": 1_i64, "op": "i", "ns": "shop.orders", "o": { "_id": seconds } };
        let bytes = entry.to_vec().unwrap();
        spool.append([RawEntry::read(RawDoc::new(&bytes).unwrap()).unwrap()], at(reached)).unwrap();
    }

    async fn next(kept: &mut Kept) -> Option<(usize, OplogPosition)> {
        kept.next_batch().await.unwrap().map(|batch| (batch.len(), batch.position()))
    }

    #[tokio::test]
    async fn at_its_end_it_waits_for_as_long_as_the_capture_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let identity = SpoolIdentity { owner: "a".into(), shard: "rs0".into(), database: "shop".into() };
        let path = folder.path().join(identity.file_name());
        let mut spool = Spool::open(&path, &identity, u64::MAX).unwrap();
        spool.begin(at(1)).unwrap();
        append(&mut spool, 2, 2);
        let reader = SpoolReader::open(&path, &identity, at(1)).unwrap().unwrap();
        let log = KeptInFile::new("rs0", reader);
        let (state, capture) = watch::channel(State { reached: at(2), ended: false });
        let mut kept = Kept { shard: "rs0".into(), place: Place::File { path, identity, log }, capture };
        assert_eq!(next(&mut kept).await, Some((1, at(2))));
        assert_eq!(next(&mut kept).await, None);

        // It is let go of while it waits, as where another shard gives something first.
        let patience = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(patience, kept.wait_for_batch()).await.is_err(), "there is nothing to be had");
        append(&mut spool, 3, 4);
        let waited =
            async |kept: &mut Kept| kept.wait_for_batch().await.unwrap().map(|batch| (batch.len(), batch.position()));
        assert_eq!(waited(&mut kept).await, Some((1, at(3))));
        let (moved, ()) = tokio::join!(waited(&mut kept), async {
            // How far it goes beyond its last entry can be read once it is written down, and no earlier.
            state.send_modify(|state| state.reached = at(4));
            tokio::task::yield_now().await;
            spool.sync().unwrap();
            state.send_modify(|_| {});
        });
        assert_eq!((moved, kept.reached()), (Some((0, at(4))), at(4)));
        let (ended, ()) = tokio::join!(waited(&mut kept), async {
            append(&mut spool, 5, 5);
            state.send_modify(|state| *state = State { reached: at(5), ended: true });
        });
        assert_eq!(ended, Some((1, at(5))), "what it kept last is given");
        assert_eq!(waited(&mut kept).await, None);
    }
}
