//! Reads changes from a spool, then from the log: one stream without gaps or repeats.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gizer_flatten::change::{ClusterTime, Positions};
use gizer_oplog::{ChangeEvent, ChangeSource, FollowOptions, Interest, MongoError, Oplog, OplogChanges};
use tokio::sync::watch;

use super::capture::CaptureState;
use super::record::{RecordReader, SpoolMark, SpoolRecord};
use super::{Cursor, Spool};

/// How long a spool in another server may take for its first page.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The changes after some positions: spooled ones, then the log's.
///
/// The log is opened at the spool's last mark. If it has rolled over there, a running capture may
/// have spooled more, so the stream waits for that.
pub struct SpooledChanges {
    oplogs: Vec<Oplog>,
    interest: Interest,
    options: FollowOptions,
    /// Changes at or before these are skipped.
    from: Positions,
    /// No watermark is given before this, the latest of them.
    first_watermark: ClusterTime,
    source: SpooledSource,
}

enum SpooledSource {
    Spool(SpoolReader),
    Log(Box<OplogChanges>),
}

/// Reads a spool while its capture runs.
pub(super) struct SpoolReader {
    pub(super) spool: Arc<dyn Spool>,
    pub(super) capture: watch::Receiver<CaptureState>,
    cursor: Cursor,
    page: Option<RecordReader>,
    /// The last mark read; at first the spool's start.
    pub(super) reached: Positions,
}

impl SpooledChanges {
    /// The changes after these positions, from the log alone.
    ///
    /// # Errors
    /// As [`OplogChanges::open`].
    pub async fn of_log(
        oplogs: &[Oplog],
        from: &Positions,
        interest: Interest,
        options: FollowOptions,
    ) -> Result<SpooledChanges, MongoError> {
        let log = OplogChanges::open(oplogs, from, interest.clone(), options.clone()).await?;
        Ok(SpooledChanges::new(oplogs, from, interest, options, SpooledSource::Log(Box::new(log))))
    }

    /// The changes after these positions, from a spool that starts at or before them. A spool that
    /// does not answer is skipped: usually the log still holds everything.
    pub(super) async fn of_spool(
        mut reader: SpoolReader,
        oplogs: &[Oplog],
        from: &Positions,
        interest: Interest,
        options: FollowOptions,
    ) -> Result<SpooledChanges, MongoError> {
        match tokio::time::timeout(ANSWER_LIMIT, reader.next_page()).await {
            Ok(page) => drop(page?),
            Err(_) => {
                tracing::warn!("the spool does not answer: the oplog itself is read");
                return SpooledChanges::of_log(oplogs, from, interest, options).await;
            }
        }
        Ok(SpooledChanges::new(oplogs, from, interest, options, SpooledSource::Spool(reader)))
    }

    fn new(
        oplogs: &[Oplog],
        from: &Positions,
        interest: Interest,
        options: FollowOptions,
        source: SpooledSource,
    ) -> SpooledChanges {
        let first_watermark = from.values().map(|position| position.time()).max().unwrap_or_default();
        SpooledChanges { oplogs: oplogs.to_vec(), interest, options, from: from.clone(), first_watermark, source }
    }

    fn is_wanted(&self, event: &ChangeEvent) -> bool {
        match event {
            ChangeEvent::Change(change) => {
                self.from.get(&*change.shard).is_none_or(|from| change.position > *from)
                    && self.interest.has_change(change)
            }
            ChangeEvent::Watermark { time, .. } => *time >= self.first_watermark,
            _ => true,
        }
    }

    /// Continues in the log, or waits until the capture has spooled more.
    async fn continue_in_log(&mut self) -> Result<(), MongoError> {
        let SpooledSource::Spool(reader) = &mut self.source else { return Ok(()) };
        let (interest, options) = (self.interest.clone(), self.options.clone());
        match OplogChanges::open(&self.oplogs, &reader.reached, interest, options).await {
            Ok(log) => self.source = SpooledSource::Log(Box::new(log)),
            Err(error @ MongoError::RolledOver { .. }) if !reader.wait_for_page().await? => return Err(error),
            Err(MongoError::RolledOver { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl ChangeSource for SpooledChanges {
    async fn next(&mut self) -> Result<ChangeEvent, MongoError> {
        loop {
            let event = match &mut self.source {
                SpooledSource::Log(log) => Some(log.next().await?),
                SpooledSource::Spool(reader) => reader.next_event().await?,
            };
            match event {
                Some(event) if self.is_wanted(&event) => return Ok(event),
                Some(_) => {}
                None => self.continue_in_log().await?,
            }
        }
    }
}

impl SpoolReader {
    pub(super) fn new(spool: Arc<dyn Spool>, start: Positions, capture: watch::Receiver<CaptureState>) -> SpoolReader {
        SpoolReader { spool, capture, cursor: Cursor::default(), page: None, reached: start }
    }

    /// The next change or watermark; `None` at the end.
    async fn next_event(&mut self) -> Result<Option<ChangeEvent>, MongoError> {
        loop {
            let Some(page) = &mut self.page else {
                if self.next_page().await? {
                    continue;
                }
                return Ok(None);
            };
            match page.next_record().map_err(|found| unreadable(Box::new(found)))? {
                Some(SpoolRecord::Change(change)) => return Ok(Some(ChangeEvent::Change(change))),
                Some(SpoolRecord::Mark(SpoolMark { time, positions })) => {
                    self.reached.clone_from(&positions);
                    return Ok(Some(ChangeEvent::Watermark { time, positions, read_to: time }));
                }
                None => self.page = None,
            }
        }
    }

    /// Reads the next page, if there is one. Cancelled, it reads it again.
    async fn next_page(&mut self) -> Result<bool, MongoError> {
        let read = self.spool.read(self.cursor).await.map_err(|failure| unreadable(Box::new(failure)))?;
        let Some((page, next)) = read else { return Ok(false) };
        (self.page, self.cursor) = (Some(RecordReader::new(page)), next);
        Ok(true)
    }

    /// The same, but waits at the end while the capture runs.
    async fn wait_for_page(&mut self) -> Result<bool, MongoError> {
        loop {
            // After its end nothing is added.
            let ended = self.capture.borrow_and_update().ended;
            if self.next_page().await? {
                return Ok(true);
            }
            if ended || self.capture.changed().await.is_err() {
                return Ok(false);
            }
        }
    }
}

fn unreadable(reason: Box<dyn std::error::Error + Send + Sync>) -> MongoError {
    MongoError::Spool { reason }
}

impl fmt::Debug for SpooledChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpooledChanges").field("from", &self.from).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use gizer_flatten::change::SourcePosition;

    use super::*;
    use crate::spool::{FileSpool, PageWriter, SpoolIdentity};

    fn at(seconds: u32) -> SpoolMark {
        let time = ClusterTime { seconds, increment: 1 };
        SpoolMark { time, positions: Positions::from([("rs0".to_owned(), SourcePosition::new(time, &[1]))]) }
    }

    async fn append(spool: &Arc<dyn Spool>, seconds: u32) {
        let mut page = PageWriter::default();
        page.mark(&at(seconds));
        spool.append(page.take()).await.unwrap();
    }

    async fn time(reader: &mut SpoolReader) -> Option<u32> {
        match reader.next_event().await.unwrap() {
            Some(ChangeEvent::Watermark { time, .. }) => Some(time.seconds),
            other => {
                assert_eq!(other, None);
                None
            }
        }
    }

    #[tokio::test]
    async fn at_its_end_a_spool_is_waited_for_as_long_as_the_capture_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let identity = SpoolIdentity { owner: "a".into(), source: "rs0".into(), database: "shop".into() };
        let spool: Arc<dyn Spool> =
            Arc::new(FileSpool::open(&folder.path().join("a.spool"), &identity, u64::MAX).unwrap());
        spool.trim(Some(at(1).positions)).await.unwrap();
        append(&spool, 2).await;
        let (state, capture) = watch::channel(CaptureState { reached: at(2).positions, ended: false });
        let mut reader = SpoolReader::new(Arc::clone(&spool), at(1).positions, capture);
        assert_eq!((time(&mut reader).await, time(&mut reader).await), (Some(2), None));
        assert_eq!(reader.reached, at(2).positions, "where the log goes on");

        // It is let go of while it waits, as where another one gives something first.
        let patience = Duration::from_millis(50);
        assert!(tokio::time::timeout(patience, reader.wait_for_page()).await.is_err(), "there is nothing to be had");
        append(&spool, 3).await;
        assert_eq!((reader.wait_for_page().await.unwrap(), time(&mut reader).await), (true, Some(3)));
        assert_eq!(time(&mut reader).await, None);
        let (waited, ()) = tokio::join!(reader.wait_for_page(), async {
            append(&spool, 4).await;
            state.send_modify(|state| state.ended = true);
        });
        assert_eq!((waited.unwrap(), time(&mut reader).await), (true, Some(4)), "what was spooled last is given");
        assert_eq!(time(&mut reader).await, None);
        assert!(!reader.wait_for_page().await.unwrap());
    }
}
