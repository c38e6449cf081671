//! How far back an oplog reaches, and for how long a position will stay in it.

use std::time::Duration;

use bson::{Document, doc};
use futures::future::try_join;
use gizer_flatten::change::ClusterTime;

use crate::error::MongoError;
use crate::position::Oplog;
use crate::position::OplogPosition;
use crate::waiting::ReplyLimit;

/// What an oplog holds.
///
/// It is a capped collection (MongoDB manual, "Replica Set Oplog"): once it has its size, its oldest entries go as new ones
/// come. `storage.oplogMinRetentionHours` can keep them for longer, which is not counted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogWindow {
    /// The oldest entry.
    pub oldest: OplogPosition,
    /// The newest entry that a majority of the members has.
    pub newest: OplogPosition,
    /// How full it is; `None` if this user may not know.
    pub fill: Option<LogFill>,
    /// Whether the oldest entry is the first that the replica set ever had.
    pub is_from_start: bool,
}

/// Bytes of an oplog, uncompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFill {
    /// What it has now.
    pub bytes: u64,
    /// What it may have.
    pub most: u64,
}

impl LogWindow {
    /// Whether reading can go on from a position at this time, as far as its age tells.
    pub fn holds(&self, at: ClusterTime) -> bool {
        self.oldest.time <= at
    }

    /// Whether old entries may be going as new ones come: not of a log that has never been full. Of one whose size is not known, yes.
    pub fn rolls_over(&self) -> bool {
        // The server takes off old entries by a sixteenth of the log or so at a time.
        let nearly_full = |LogFill { bytes, most }: LogFill| bytes >= most / 100 * 85;
        !self.is_from_start && self.fill.is_none_or(nearly_full)
    }

    /// The time from its oldest to its newest entry.
    pub fn span(&self) -> Duration {
        between(self.oldest.time, self.newest.time)
    }

    /// How far this time lies behind the newest entry.
    pub fn behind(&self, at: ClusterTime) -> Duration {
        between(at, self.newest.time)
    }

    /// How long it takes until an entry of this time is gone, if as much is written as on average since the oldest entry; zero if
    /// it is gone.
    ///
    /// In a full log the oldest entries go as fast as new ones come; one with room left keeps all until it is full.
    pub fn headroom(&self, at: ClusterTime) -> Duration {
        if at < self.oldest.time {
            return Duration::ZERO;
        }
        between(self.oldest.time, at) + self.until_full()
    }

    fn until_full(&self) -> Duration {
        let Some(LogFill { bytes, most }) = self.fill else { return Duration::ZERO };
        let room = most.saturating_sub(bytes) as f64;
        // An hour of no-ops alone writes some kilobytes: less than a byte a second is no rate to count on.
        let rate = (bytes as f64 / self.span().as_secs_f64().max(1.0)).max(1.0);
        Duration::from_secs_f64((room / rate).min(LONGEST.as_secs_f64()))
    }
}

/// Longer than anybody looks ahead: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

fn between(earlier: ClusterTime, later: ClusterTime) -> Duration {
    Duration::from_secs(later.seconds.saturating_sub(earlier.seconds).into())
}

impl Oplog {
    /// How far back it reaches, and how full it is.
    ///
    /// # Errors
    /// As [`Oplog::newest`].
    pub async fn window(&self) -> Result<LogWindow, MongoError> {
        let (oldest, newest) = try_join(self.oldest(), self.newest()).await?;
        Ok(LogWindow { oldest, newest, fill: self.fill().await, is_from_start: self.is_from_start().await })
    }

    /// Whether the oldest entry is the one that `replSetInitiate` writes; nothing that goes wrong here is worth failing for.
    async fn is_from_start(&self) -> bool {
        let log = self.deployment().database("local").collection::<Document>("oplog.rs");
        let oldest = log.find_one(doc! {}).sort(doc! { "$natural": 1 }).projection(doc! { "o.msg": 1 }).await;
        let message = |entry: &Document| Some(entry.get_document("o").ok()?.get_str("msg").ok()? == "initiating set");
        oldest.ok().flatten().as_ref().and_then(message).unwrap_or(false)
    }

    /// The server's command `collStats`; nothing that goes wrong with it is worth failing for.
    async fn fill(&self) -> Option<LogFill> {
        let local = self.deployment().database("local");
        let ask = local.run_command(doc! { "collStats": "oplog.rs" });
        let answer: Document =
            self.deployment().answered("collStats", "local.oplog.rs", ReplyLimit::Short, ask).await.ok()?;
        let number = |name| match answer.get(name)? {
            bson::Bson::Int32(n) => u64::try_from(*n).ok(),
            bson::Bson::Int64(n) => u64::try_from(*n).ok(),
            bson::Bson::Double(n) if *n >= 0.0 => Some(*n as u64),
            _ => None,
        };
        Some(LogFill { bytes: number("size")?, most: number("maxSize").filter(|most| *most > 0)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u32) -> OplogPosition {
        OplogPosition { time: ClusterTime { seconds, increment: 1 }, term: 1 }
    }

    #[test]
    fn a_full_log_forgets_as_fast_as_it_grows() {
        let fill = Some(LogFill { bytes: 100, most: 100 });
        let window = LogWindow { oldest: at(1_000), newest: at(4_600), fill, is_from_start: false };
        assert_eq!((window.span().as_secs(), window.behind(at(4_000).time).as_secs()), (3_600, 600));
        assert_eq!(window.headroom(at(4_000).time).as_secs(), 3_000);
        assert_eq!(window.headroom(at(999).time), Duration::ZERO);
        assert!(window.holds(at(1_000).time) && !window.holds(at(999).time));
    }

    #[test]
    fn a_log_with_room_left_forgets_later() {
        // 3,600 bytes in an hour; 7,200 more make two hours.
        let fill = Some(LogFill { bytes: 3_600, most: 10_800 });
        let window = LogWindow { oldest: at(1_000), newest: at(4_600), fill, is_from_start: false };
        assert_eq!(window.headroom(at(1_000).time).as_secs(), 7_200);
        let fill = Some(LogFill { bytes: 0, most: u64::MAX });
        let idle = LogWindow { oldest: at(1), newest: at(1), fill, is_from_start: true };
        assert_eq!(idle.headroom(at(1).time), LONGEST);
        let unknown = LogWindow { fill: None, ..window };
        let nearly = LogWindow { fill: Some(LogFill { bytes: 95, most: 100 }), ..window };
        let from_start = LogWindow { is_from_start: true, ..nearly };
        let rolls_over = [window, idle, unknown, nearly, from_start].map(|window| window.rolls_over());
        assert_eq!(rolls_over, [false, false, true, true, false]);
        assert_eq!(unknown.headroom(at(1_600).time).as_secs(), 600);
    }
}
