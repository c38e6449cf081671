//! Reading a spool that somebody else may be writing.

use super::{ENTRIES, PgSpoolIdentity, PgSpoolPlace, SPANS, TABLES, parts, position, rights, unreadable};
use crate::connect::{Session, Target, connect};
use crate::error::PgError;

/// An entry that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgSpoolEntry {
    /// Where it stands in the log.
    pub position: PgSpoolPlace,
    /// The entry, as BSON.
    pub entry: Vec<u8>,
}

/// The entries of a spool from its beginning, in the log's order.
///
/// It takes no lock, and whoever writes the spool does not notice. What is written meanwhile is given as well, if there is no
/// gap before it: if the spool begins anew, the reader finds its end early. [`PgSpoolReader::reached`] always says how far
/// what was given goes.
#[derive(Debug)]
pub struct PgSpoolReader {
    session: Session,
    number: i64,
    start: PgSpoolPlace,
    reached: PgSpoolPlace,
}

impl PgSpoolReader {
    /// Connects, and looks for the spool; `None` if there is none, or it was never begun.
    ///
    /// # Errors
    /// As [`connect`]; [`PgError::NoRights`] if the tables may not be read; [`PgError::ForeignTable`] if something else has
    /// their names.
    pub async fn open(target: &Target, identity: &PgSpoolIdentity) -> Result<Option<PgSpoolReader>, PgError> {
        let session = match connect(target).await {
            Err(PgError::NoSchema { .. }) => return Ok(None),
            outcome => outcome?,
        };
        session.begin_reading().await?;
        let outcome = find(&session, identity).await;
        let found = session.end(outcome).await?;
        Ok(found.map(|(number, start)| PgSpoolReader { session, number, start, reached: start }))
    }

    /// The position after which the spool begins.
    pub fn start(&self) -> PgSpoolPlace {
        self.start
    }

    /// Everything that matters up to here has been given: after the last entry, how far the spool goes.
    pub fn reached(&self) -> PgSpoolPlace {
        self.reached
    }

    /// The next entries, up to about so many bytes, and one at least; none at the end. It can be asked again then: more may have been kept.
    /// A call may be dropped before it is ready; no entry is lost.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn next_page(&mut self, bytes: usize) -> Result<Vec<PgSpoolEntry>, PgError> {
        self.session.begin_reading().await?;
        let outcome = self.look(bytes).await;
        let (page, reached) = self.session.end(outcome).await?;
        self.reached = reached;
        Ok(page)
    }

    /// The entries, and how far they lead, as of one time: the spool may begin anew at any other.
    async fn look(&self, bytes: usize) -> Result<(Vec<PgSpoolEntry>, PgSpoolPlace), PgError> {
        let sql = format!("SELECT start, reached FROM {} WHERE spool = $1", self.session.relation(SPANS)?);
        let row = self.session.query_opt("looking how far a spool goes", &sql, &[&self.number]).await?;
        let Some(row) = row else { return Ok((Vec::new(), self.reached)) };
        let column = |column: usize| {
            let parts: Option<Vec<i64>> = row.get(column);
            parts.and_then(|parts| position(&parts)).ok_or_else(|| unreadable(&self.session, SPANS))
        };
        let (start, end) = (column(0)?, column(1)?);
        if start > self.reached || end <= self.reached {
            return Ok((Vec::new(), self.reached));
        }
        let page = self.page(bytes).await?;
        let reached = page.last().map_or(end, |last| last.position);
        Ok((page, reached))
    }

    async fn page(&self, bytes: usize) -> Result<Vec<PgSpoolEntry>, PgError> {
        // The sizes are summed up without fetching what is in the rows.
        let sql = format!(
            "SELECT seconds, increment, term, entry FROM ( \
                 SELECT *, pg_catalog.sum(pg_catalog.octet_length(entry)) OVER (ORDER BY seconds, increment) \
                           - pg_catalog.octet_length(entry) AS before \
                 FROM (SELECT * FROM {} WHERE spool = $1 AND (seconds, increment) > ($2, $3) \
                       ORDER BY seconds, increment LIMIT 1000) AS page) AS summed \
             WHERE before < $4 ORDER BY seconds, increment",
            self.session.relation(ENTRIES)?
        );
        let [seconds, increment, _] = parts(self.reached);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).max(1);
        let doing = "reading what was kept aside";
        let rows = self.session.query(doing, &sql, &[&self.number, &seconds, &increment, &bytes]).await?;
        let entry = |row: &tokio_postgres::Row| {
            let position = position(&[row.get(0), row.get(1), row.get(2)]);
            let position = position.ok_or_else(|| unreadable(&self.session, ENTRIES))?;
            Ok(PgSpoolEntry { position, entry: row.get(3) })
        };
        rows.iter().map(entry).collect()
    }
}

/// A spool's number, and where it begins.
async fn find(session: &Session, identity: &PgSpoolIdentity) -> Result<Option<(i64, PgSpoolPlace)>, PgError> {
    if rights(session).await?.len() < TABLES.len() {
        return Ok(None);
    }
    let sql = format!(
        "SELECT spool, start FROM {} \
         WHERE owner = $1 AND shard = $2 AND database = $3 AND start IS NOT NULL AND reached IS NOT NULL",
        session.relation(SPANS)?
    );
    let PgSpoolIdentity { owner, shard, database } = identity;
    let Some(row) = session.query_opt("looking for a spool", &sql, &[owner, shard, database]).await? else {
        return Ok(None);
    };
    let start = position(&row.get::<_, Vec<i64>>(1)).ok_or_else(|| unreadable(session, SPANS))?;
    Ok(Some((row.get(0), start)))
}
