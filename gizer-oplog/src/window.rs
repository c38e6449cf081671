//! How far back an oplog reaches, and how long a position stays in it.

use std::time::Duration;

use bson::{Document, doc};
use futures::future::try_join;
use gizer_flatten::change::ClusterTime;

use crate::error::MongoError;
use crate::position::Oplog;
use crate::position::OplogPosition;
use crate::waiting::ReplyLimit;

/// The range of an oplog.
///
/// An oplog is a capped collection (MongoDB manual, "Replica Set Oplog"): at its maximum size, the
/// oldest entries go as new ones come. `storage.oplogMinRetentionHours` can keep them longer, which
/// is not counted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogWindow {
    /// The oldest entry.
    pub oldest: OplogPosition,
    /// The newest entry that a majority has.
    pub newest: OplogPosition,
    /// Its size; `None` if the user may not see it.
    pub fill: Option<LogFill>,
    /// Whether its first entry ever is still there.
    pub is_from_start: bool,
}

/// Size of an oplog in uncompressed bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogFill {
    /// Current size.
    pub bytes: u64,
    /// Maximum size.
    pub capacity: u64,
}

impl LogWindow {
    /// Whether reading can resume at this time, judged by age.
    pub fn holds(&self, at: ClusterTime) -> bool {
        self.oldest.time <= at
    }

    /// Whether old entries may be dropped: not from a log that was never full.
    pub fn rolls_over(&self) -> bool {
        // The server truncates about a sixteenth of the log at a time.
        let nearly_full = |LogFill { bytes, capacity }: LogFill| bytes >= capacity / 100 * 85;
        !self.is_from_start && self.fill.is_none_or(nearly_full)
    }

    /// Time between the oldest and the newest entry.
    pub fn span(&self) -> Duration {
        between(self.oldest.time, self.newest.time)
    }

    /// How far a time is behind the newest entry.
    pub fn behind(&self, at: ClusterTime) -> Duration {
        between(at, self.newest.time)
    }

    /// How long an entry of this time stays at the average write rate; zero if it is gone.
    ///
    /// A full log drops entries as fast as new ones come; another one keeps all until it is full.
    pub fn headroom(&self, at: ClusterTime) -> Duration {
        if at < self.oldest.time {
            return Duration::ZERO;
        }
        between(self.oldest.time, at) + self.until_full()
    }

    fn until_full(&self) -> Duration {
        let Some(LogFill { bytes, capacity }) = self.fill else { return Duration::ZERO };
        let room = capacity.saturating_sub(bytes) as f64;
        // Even no-ops write some kilobytes an hour: less than a byte a second is no rate.
        let rate = (bytes as f64 / self.span().as_secs_f64().max(1.0)).max(1.0);
        Duration::from_secs_f64((room / rate).min(MAX_HEADROOM.as_secs_f64()))
    }
}

/// Ten years: beyond any planning.
const MAX_HEADROOM: Duration = Duration::from_secs(10 * 365 * 86_400);

fn between(earlier: ClusterTime, later: ClusterTime) -> Duration {
    Duration::from_secs(later.seconds.saturating_sub(earlier.seconds).into())
}

impl Oplog {
    /// The log's range and size.
    ///
    /// # Errors
    /// As [`Oplog::newest`].
    pub async fn window(&self) -> Result<LogWindow, MongoError> {
        let (oldest, newest) = try_join(self.oldest(), self.newest()).await?;
        Ok(LogWindow { oldest, newest, fill: self.fill().await, is_from_start: self.is_from_start().await })
    }

    /// Whether the oldest entry is the one of `replSetInitiate`; errors count as no.
    async fn is_from_start(&self) -> bool {
        let log = self.deployment().database("local").collection::<Document>("oplog.rs");
        let oldest = log.find_one(doc! {}).sort(doc! { "$natural": 1 }).projection(doc! { "o.msg": 1 }).await;
        let message = |entry: &Document| Some(entry.get_document("o").ok()?.get_str("msg").ok()? == "initiating set");
        oldest.ok().flatten().as_ref().and_then(message).unwrap_or(false)
    }

    /// The size by `collStats`; errors count as unknown.
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
        Some(LogFill { bytes: number("size")?, capacity: number("maxSize").filter(|capacity| *capacity > 0)? })
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
        let fill = Some(LogFill { bytes: 100, capacity: 100 });
        let window = LogWindow { oldest: at(1_000), newest: at(4_600), fill, is_from_start: false };
        assert_eq!((window.span().as_secs(), window.behind(at(4_000).time).as_secs()), (3_600, 600));
        assert_eq!(window.headroom(at(4_000).time).as_secs(), 3_000);
        assert_eq!(window.headroom(at(999).time), Duration::ZERO);
        assert!(window.holds(at(1_000).time) && !window.holds(at(999).time));
    }

    #[test]
    fn a_log_with_room_left_forgets_later() {
        // 3,600 bytes in an hour; 7,200 more make two hours.
        let fill = Some(LogFill { bytes: 3_600, capacity: 10_800 });
        let window = LogWindow { oldest: at(1_000), newest: at(4_600), fill, is_from_start: false };
        assert_eq!(window.headroom(at(1_000).time).as_secs(), 7_200);
        let fill = Some(LogFill { bytes: 0, capacity: u64::MAX });
        let idle = LogWindow { oldest: at(1), newest: at(1), fill, is_from_start: true };
        assert_eq!(idle.headroom(at(1).time), MAX_HEADROOM);
        let unknown = LogWindow { fill: None, ..window };
        let nearly = LogWindow { fill: Some(LogFill { bytes: 95, capacity: 100 }), ..window };
        let from_start = LogWindow { is_from_start: true, ..nearly };
        let rolls_over = [window, idle, unknown, nearly, from_start].map(|window| window.rolls_over());
        assert_eq!(rolls_over, [false, false, true, true, false]);
        assert_eq!(unknown.headroom(at(1_600).time).as_secs(), 600);
    }
}
