//! The oplog, kept aside in a second PostgreSQL (`[cache]`) while a load runs, so that a small oplog cannot roll over
//! under a long load.
//!
//! | table | one row a | for |
//! |---|---|---|
//! | `gizer_spool_span` | target, shard and MongoDB database | from where to where the log is covered; the fence of writers |
//! | `gizer_spool` | oplog entry | the entry as BSON, under its time |
//!
//! Entries and the position that they lead to are written in one transaction. As everywhere in gizer, an advisory lock
//! keeps writers apart for politeness, and an epoch for safety.

mod reader;

use std::sync::Arc;

pub use reader::{PgSpoolEntry, PgSpoolReader};

use gizer_flatten::change::ClusterTime;

use crate::connect::{Params, Session, Target, connect};
use crate::error::PgError;
use crate::ident::quote_identifier;
use crate::sqlstate::grant_for;
use crate::state::lock::{self, AdvisoryKey};

const ENTRIES: &str = "gizer_spool";
const SPANS: &str = "gizer_spool_span";

/// All tables of a spool.
pub(crate) const TABLES: [&str; 2] = [ENTRIES, SPANS];

/// What an entry takes beside its bytes: the row's header, its columns, and its place in the key.
const BESIDE_ENTRY: u64 = 96;

/// Where an entry stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PgSpoolPlace {
    /// Its time.
    pub time: ClusterTime,
    /// The election term it was written in.
    pub term: i64,
}

/// Whose changes a spool keeps, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgSpoolIdentity {
    /// The target that the changes are for: server, database and schema, without a password.
    pub owner: String,
    /// The oplog's name.
    pub shard: String,
    /// The MongoDB database.
    pub database: String,
}

/// A spool that this run writes.
#[derive(Debug)]
pub struct PgSpool {
    session: Session,
    identity: PgSpoolIdentity,
    limit: u64,
    /// The number under which the entries stand.
    number: i64,
    epoch: i64,
    begun: Option<Begun>,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    start: PgSpoolPlace,
    /// How far it reaches in the tables.
    recorded: PgSpoolPlace,
    /// How far it reaches with what is yet to be written down.
    reached: PgSpoolPlace,
    bytes: u64,
    full: bool,
}

impl PgSpool {
    /// Connects, makes schema and tables where they are missing, and takes the spool over from whoever had it.
    ///
    /// # Errors
    /// As [`connect`]; [`PgError::NoRights`] with the statement that helps, if schema or tables may not be made or
    /// written; [`PgError::Locked`] if another run writes it; [`PgError::ForeignTable`] if something else has the
    /// tables' names.
    pub async fn open(target: &Target, identity: &PgSpoolIdentity, limit: u64) -> Result<PgSpool, PgError> {
        let session = match connect(target).await {
            Err(PgError::NoSchema { .. }) => {
                make_schema(target).await?;
                connect(target).await?
            }
            outcome => outcome?,
        };
        session.begin().await?;
        let outcome = take_over(&session, identity).await;
        let (number, epoch, begun) = session.end(outcome).await?;
        Ok(PgSpool { session, identity: identity.clone(), limit, number, epoch, begun })
    }

    /// From where (not included) to where (included) it covers the log; `None` before it was begun.
    pub fn span(&self) -> Option<(PgSpoolPlace, PgSpoolPlace)> {
        self.begun.map(|begun| (begun.start, begun.reached))
    }

    /// Begins anew at a position: whatever the spool holds is gone.
    ///
    /// # Errors
    /// [`PgError::Fenced`] if another run has taken over; whatever the server says.
    pub async fn begin(&mut self, start: PgSpoolPlace) -> Result<(), PgError> {
        self.begun = None;
        self.session.begin().await?;
        let outcome = async {
            self.set_span(Some(start), start, 0).await?;
            let sql = format!("DELETE FROM {} WHERE spool = $1", self.session.relation(ENTRIES)?);
            self.session.execute("emptying a spool", &sql, &[&self.number]).await
        };
        let outcome = outcome.await;
        self.session.end(outcome).await?;
        self.begun = Some(Begun { start, recorded: start, reached: start, bytes: 0, full: false });
        Ok(())
    }

    /// Removes all that the spool holds: nobody needs it any more.
    ///
    /// # Errors
    /// As [`PgSpool::begin`].
    pub async fn remove(self) -> Result<(), PgError> {
        self.session.begin().await?;
        let outcome = async {
            let sql = format!(
                "UPDATE {} SET start = NULL, reached = NULL, bytes = 0 WHERE spool = $1 AND epoch = $2",
                self.session.relation(SPANS)?
            );
            if self.session.execute("removing a spool", &sql, &[&self.number, &self.epoch]).await? == 0 {
                return Err(self.fenced());
            }
            let sql = format!("DELETE FROM {} WHERE spool = $1", self.session.relation(ENTRIES)?);
            self.session.execute("emptying a spool", &sql, &[&self.number]).await
        };
        let outcome = outcome.await;
        self.session.end(outcome).await.map(drop)
    }

    fn fenced(&self) -> PgError {
        PgError::Fenced { what: format!("keeping aside the oplog of {}", self.identity.shard) }
    }

    /// Adds entries, in the log's order, in one transaction with the position that they lead to; afterwards the spool
    /// covers the log up to `reached`. Gives how many were added before the limit was reached: fewer than there are
    /// means that nothing will be from now on. Without entries nothing is written before [`sync`](PgSpool::sync).
    ///
    /// # Errors
    /// [`PgError::Fenced`] if another run has taken over; whatever the server says. Nothing was added then.
    ///
    /// # Panics
    /// If it was not begun.
    pub async fn append(&mut self, entries: &[(PgSpoolPlace, &[u8])], reached: PgSpoolPlace) -> Result<usize, PgError> {
        let mut begun = self.begun.expect("a spool is begun before anything is added");
        if begun.full {
            return Ok(0);
        }
        let mut fitting = 0;
        for (position, entry) in entries {
            let bytes = begun.bytes + entry.len() as u64 + BESIDE_ENTRY;
            if bytes > self.limit {
                begun.full = true;
                break;
            }
            (begun.bytes, begun.reached) = (bytes, *position);
            fitting += 1;
        }
        if !begun.full {
            begun.reached = begun.reached.max(reached);
        }
        if fitting > 0 {
            self.session.begin().await?;
            let outcome = self.write(&entries[..fitting], &begun).await;
            self.session.end(outcome).await?;
            begun.recorded = begun.reached;
        }
        self.begun = Some(begun);
        Ok(fitting)
    }

    /// Whether the limit was reached.
    pub fn is_full(&self) -> bool {
        self.begun.is_some_and(|begun| begun.full)
    }

    /// Bytes that the entries take, about.
    pub fn bytes(&self) -> u64 {
        self.begun.map_or(0, |begun| begun.bytes)
    }

    /// Whether [`sync`](PgSpool::sync) has anything to do.
    pub fn is_dirty(&self) -> bool {
        self.begun.is_some_and(|begun| begun.reached > begun.recorded)
    }

    /// Writes down how far the spool reaches beyond its last entry.
    ///
    /// # Errors
    /// As [`append`](PgSpool::append).
    pub async fn sync(&mut self) -> Result<(), PgError> {
        let Some(mut begun) = self.begun.filter(|begun| begun.reached > begun.recorded) else { return Ok(()) };
        self.session.begin().await?;
        let outcome = self.set_span(None, begun.reached, begun.bytes).await;
        self.session.end(outcome).await?;
        begun.recorded = begun.reached;
        self.begun = Some(begun);
        Ok(())
    }

    async fn write(&self, entries: &[(PgSpoolPlace, &[u8])], begun: &Begun) -> Result<(), PgError> {
        self.set_span(None, begun.reached, begun.bytes).await?;
        let column = |part: usize| entries.iter().map(|(position, _)| parts(*position)[part]).collect::<Vec<i64>>();
        let documents: Vec<&[u8]> = entries.iter().map(|(_, entry)| *entry).collect();
        let sql = format!(
            "INSERT INTO {} (spool, seconds, increment, term, entry) \
             SELECT $1, * FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.int8[]), pg_catalog.unnest($3::pg_catalog.int8[]), \
                                          pg_catalog.unnest($4::pg_catalog.int8[]), pg_catalog.unnest($5::pg_catalog.bytea[])) AS entry",
            self.session.relation(ENTRIES)?
        );
        let columns = (column(0), column(1), column(2));
        let params: Params<'_> = &[&self.number, &columns.0, &columns.1, &columns.2, &documents];
        self.session.execute("keeping oplog entries aside", &sql, params).await.map(drop)
    }

    /// Writes down what the spool covers, if it is still this run's.
    async fn set_span(&self, start: Option<PgSpoolPlace>, reached: PgSpoolPlace, bytes: u64) -> Result<(), PgError> {
        let sql = format!(
            "UPDATE {} SET start = coalesce($3, start), reached = $4, bytes = $5 WHERE spool = $1 AND epoch = $2",
            self.session.relation(SPANS)?
        );
        let (start, reached) = (start.map(|start| parts(start).to_vec()), parts(reached).to_vec());
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let params: Params<'_> = &[&self.number, &self.epoch, &start, &reached, &bytes];
        match self.session.execute("moving a spool on", &sql, params).await? {
            1 => Ok(()),
            _ => Err(self.fenced()),
        }
    }
}

async fn make_schema(target: &Target) -> Result<(), PgError> {
    // Every server has this one, and everybody may use it.
    let session = connect(&target.in_schema("pg_catalog")).await?;
    let (schema, user) = (quote_identifier(target.schema())?, quote_identifier(&target.server().user)?);
    let sql = "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')";
    if !session.query_one("checking rights", sql, &[]).await?.get::<_, bool>(0) {
        return Err(PgError::NoRights {
            server: Arc::clone(target.server()),
            doing: format!("creating schema {}", target.schema()),
            reason: "the schema is missing, and so is the right CREATE on the database".to_owned(),
            grant: format!("CREATE SCHEMA {schema} AUTHORIZATION {user}"),
        });
    }
    let doing = format!("creating schema {}", target.schema());
    session.run(doing, &format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await
}

type TakenOver = (i64, i64, Option<Begun>);

async fn take_over(session: &Session, identity: &PgSpoolIdentity) -> Result<TakenOver, PgError> {
    make_tables(session).await?;
    let PgSpoolIdentity { owner, shard, database } = identity;
    lock::hold(session, &AdvisoryKey::spool(session.schema(), owner, shard, database)).await?;
    let sql = format!(
        "INSERT INTO {} AS span (owner, shard, database) VALUES ($1, $2, $3) \
         ON CONFLICT (owner, shard, database) DO UPDATE SET epoch = span.epoch + 1 \
         RETURNING spool, epoch, start, reached, bytes",
        session.relation(SPANS)?
    );
    let row = session.query_one("taking over a spool", &sql, &[owner, shard, database]).await?;
    let (start, reached): (Option<Vec<i64>>, Option<Vec<i64>>) = (row.get(2), row.get(3));
    let begun = match start.zip(reached) {
        None => None,
        Some((start, reached)) => {
            let both = position(&start).zip(position(&reached));
            let (start, reached) = both.ok_or_else(|| unreadable(session, SPANS))?;
            let bytes = row.get::<_, i64>(4).max(0) as u64;
            Some(Begun { start, recorded: reached, reached, bytes, full: false })
        }
    };
    Ok((row.get(0), row.get(1), begun))
}

/// Makes the tables where they are missing; where both are there, no right to create any is needed.
async fn make_tables(session: &Session) -> Result<(), PgError> {
    if rights(session).await?.len() < TABLES.len() {
        // Somebody else may be at it.
        lock::wait_in_transaction(session, &AdvisoryKey::state(session.schema())).await?;
        require_right_to_create(session).await?;
        let (spans, entries) = (session.relation(SPANS)?, session.relation(ENTRIES)?);
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS {spans} ( \
                 spool BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE, owner TEXT, shard TEXT, database TEXT, \
                 epoch BIGINT NOT NULL DEFAULT 0, start BIGINT[], reached BIGINT[], bytes BIGINT NOT NULL DEFAULT 0, \
                 PRIMARY KEY (owner, shard, database)); \
             COMMENT ON TABLE {spans} IS 'gizer state: from where to where oplogs are kept aside'; \
             CREATE TABLE IF NOT EXISTS {entries} ( \
                 spool BIGINT, seconds BIGINT, increment BIGINT, term BIGINT NOT NULL, entry BYTEA NOT NULL, \
                 PRIMARY KEY (spool, seconds, increment)); \
             COMMENT ON TABLE {entries} IS 'gizer state: oplog entries kept aside during loads'"
        );
        session.run(format!("preparing {}.{ENTRIES}", session.schema()), &sql).await?;
    }
    let lacking: Vec<String> =
        rights(session).await?.into_iter().filter(|(_, may_write)| !may_write).map(|(table, _)| table).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let tables: Vec<String> =
        lacking.iter().map(|table| Ok(session.relation(table)?.to_string())).collect::<Result<_, PgError>>()?;
    let user = quote_identifier(&session.server().user)?;
    Err(PgError::NoRights {
        server: Arc::clone(session.server()),
        doing: format!("keeping the oplog aside in schema {}", session.schema()),
        reason: format!("it may not write {}", lacking.join(" and ")),
        grant: format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {user}", tables.join(", ")),
    })
}

/// The tables that are there, and whether this role may write them.
async fn rights(session: &Session) -> Result<Vec<(String, bool)>, PgError> {
    let sql = "SELECT c.relname::pg_catalog.text, c.relkind IN ('r', 'p'), \
                      (SELECT pg_catalog.bool_and(pg_catalog.has_table_privilege(c.oid, wanted)) \
                       FROM pg_catalog.unnest('{SELECT,INSERT,UPDATE,DELETE}'::pg_catalog.text[]) AS wanted) \
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = ANY ($2) ORDER BY 1";
    let rows = session.query("looking for the spool's tables", sql, &[&session.schema(), &&TABLES[..]]).await?;
    if let Some(row) = rows.iter().find(|row| !row.get::<_, bool>(1)) {
        let why = "expected gizer's own table of this name, found another kind of relation".to_owned();
        return Err(PgError::ForeignTable { schema: session.schema().to_owned(), table: row.get(0), why });
    }
    Ok(rows.iter().map(|row| (row.get(0), row.get(2))).collect())
}

async fn require_right_to_create(session: &Session) -> Result<(), PgError> {
    let sql = "SELECT pg_catalog.has_schema_privilege($1, 'CREATE')";
    if session.query_one("checking rights", sql, &[&session.schema()]).await?.get(0) {
        return Ok(());
    }
    Err(PgError::NoRights {
        server: Arc::clone(session.server()),
        doing: format!("creating tables in schema {}", session.schema()),
        reason: "the right CREATE is missing".to_owned(),
        grant: grant_for(session.schema(), &session.server().user),
    })
}

/// Seconds, increment and term.
fn parts(position: PgSpoolPlace) -> [i64; 3] {
    [position.time.seconds.into(), position.time.increment.into(), position.term]
}

/// The inverse of [`parts`].
fn position(parts: &[i64]) -> Option<PgSpoolPlace> {
    let &[seconds, increment, term] = parts else { return None };
    let time = ClusterTime { seconds: u32::try_from(seconds).ok()?, increment: u32::try_from(increment).ok()? };
    Some(PgSpoolPlace { time, term })
}

fn unreadable(session: &Session, table: &'static str) -> PgError {
    PgError::UnreadableState {
        schema: session.schema().to_owned(),
        table,
        expected: "a position (seconds, increment, term)",
        came: "something else".to_owned(),
    }
}
