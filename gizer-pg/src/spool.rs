//! The pages of a spool in a second PostgreSQL (`[cache]`); what is in them this crate does not know.
//!
//! | table | one row a | for |
//! |---|---|---|
//! | `gizer_spool_span` | target, source and MongoDB database | from where to where the source is covered; the fence of writers |
//! | `gizer_spool` | page | its bytes, by its number from 1 on |
//!
//! A page and the positions that it leads to are written in one transaction. As everywhere in gizer, an advisory lock keeps writers
//! apart for politeness, and an epoch for safety.

use gizer_flatten::change::Positions;

use crate::connect::{Params, Session, Target, connect};
use crate::error::PgError;
use crate::ident::quote_identifier;
use crate::sqlstate::grant_for;
use crate::state::lock::{self, AdvisoryKey};
use crate::state::{positions_from_json, positions_to_json};

const PAGES: &str = "gizer_spool";
const SPANS: &str = "gizer_spool_span";

/// All tables of a spool.
pub(crate) const TABLES: [&str; 2] = [PAGES, SPANS];

/// The form of the tables and of what is in the pages. Version 1, whose tables do not say so, held oplog entries.
const VERSION: i32 = 2;

/// What a page takes besides its bytes: the row's header, its columns, and its place in the key.
const PAGE_OVERHEAD_BYTES: u64 = 96;

/// Whose changes a spool holds, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolIdentity {
    /// The target that the changes are for: server, database and schema, without a password.
    pub owner: String,
    /// The source: the names of its shards.
    pub source: String,
    /// The MongoDB database.
    pub database: String,
}

/// A spool that this run writes.
#[derive(Debug)]
pub struct PgSpool {
    session: Session,
    identity: SpoolIdentity,
    limit: u64,
    /// The number under which the pages stand.
    number: i64,
    epoch: i64,
    begun: Option<Begun>,
}

#[derive(Debug, Clone)]
struct Begun {
    start: Positions,
    reached: Positions,
    /// The last page that ends with a mark.
    marked: i64,
    last: i64,
    bytes: u64,
    full: bool,
}

impl PgSpool {
    /// Connects, makes schema and tables where they are missing or of an earlier version, and takes the spool over from whoever
    /// had it. Pages that no mark covers are dropped.
    ///
    /// # Errors
    /// As [`connect`]; [`PgError::NoRights`] with the statement that helps, if schema or tables may not be made or
    /// written; [`PgError::Locked`] if another run writes it; [`PgError::ForeignTable`] if something else has the
    /// tables' names.
    pub async fn open(target: &Target, identity: &SpoolIdentity, limit: u64) -> Result<PgSpool, PgError> {
        let session = match connect(target).await {
            Err(PgError::NoSchema { .. }) => {
                make_schema(target).await?;
                connect(target).await?
            }
            outcome => outcome?,
        };
        let (number, epoch, begun) = session.in_transaction(take_over(&session, identity)).await?;
        Ok(PgSpool { session, identity: identity.clone(), limit, number, epoch, begun })
    }

    /// From where (not included) to where (included) it covers the source; `None` before it has a start.
    pub fn span(&self) -> Option<(&Positions, &Positions)> {
        self.begun.as_ref().map(|begun| (&begun.start, &begun.reached))
    }

    /// Drops all pages; with a start it covers nothing after that from here on, without one nothing is left.
    ///
    /// # Errors
    /// [`PgError::Fenced`] if another run has taken over; whatever the server says.
    pub async fn trim(&mut self, start: Option<&Positions>) -> Result<(), PgError> {
        self.begun = None;
        let work = async {
            let sql = format!(
                "UPDATE {} SET version = $3, start = $4::text::jsonb, reached = $4::text::jsonb, marked = 0, bytes = 0 \
                 WHERE spool = $1 AND epoch = $2",
                self.session.relation(SPANS)?
            );
            let start = start.map(positions_to_json);
            let params: Params<'_> = &[&self.number, &self.epoch, &VERSION, &start];
            if self.session.execute("starting a spool", &sql, params).await? == 0 {
                return Err(self.fenced());
            }
            let sql = format!("DELETE FROM {} WHERE spool = $1", self.session.relation(PAGES)?);
            self.session.execute("emptying a spool", &sql, &[&self.number]).await
        };
        self.session.in_transaction(work).await?;
        self.begun = start.map(|start| Begun {
            start: start.clone(),
            reached: start.clone(),
            marked: 0,
            last: 0,
            bytes: 0,
            full: false,
        });
        Ok(())
    }

    /// Adds a page, in one transaction with the positions of the mark that it ends with, if it does. Gives how many bytes it
    /// takes; `None` if it would go beyond the limit: neither it nor what comes after it is added.
    ///
    /// # Errors
    /// [`PgError::Fenced`] if another run has taken over, or the spool has no start; whatever the server says. Nothing was
    /// added then.
    pub async fn append(&mut self, records: &[u8], reached: Option<&Positions>) -> Result<Option<u64>, PgError> {
        let Some(begun) = &mut self.begun else { return Err(self.fenced()) };
        let taken = records.len() as u64 + PAGE_OVERHEAD_BYTES;
        if begun.full || begun.bytes + taken > self.limit {
            begun.full = true;
            return Ok(None);
        }
        let mut after = begun.clone();
        (after.last, after.bytes) = (after.last + 1, after.bytes + taken);
        if let Some(reached) = reached {
            (after.reached, after.marked) = (reached.clone(), after.last);
        }
        self.session.in_transaction(self.write(records, &after)).await?;
        self.begun = Some(after);
        Ok(Some(taken))
    }

    async fn write(&self, records: &[u8], after: &Begun) -> Result<(), PgError> {
        let sql = format!(
            "UPDATE {} SET reached = $3::text::jsonb, marked = $4, bytes = $5 WHERE spool = $1 AND epoch = $2",
            self.session.relation(SPANS)?
        );
        let (reached, bytes) = (positions_to_json(&after.reached), i64::try_from(after.bytes).unwrap_or(i64::MAX));
        let params: Params<'_> = &[&self.number, &self.epoch, &reached, &after.marked, &bytes];
        if self.session.execute("moving a spool on", &sql, params).await? != 1 {
            return Err(self.fenced());
        }
        let sql = format!("INSERT INTO {} (spool, page, records) VALUES ($1, $2, $3)", self.session.relation(PAGES)?);
        self.session.execute("spooling changes", &sql, &[&self.number, &after.last, &records]).await.map(drop)
    }

    /// The page after this one, the first after 0; `None` at the end of what a mark covers.
    ///
    /// # Errors
    /// [`PgError::UnreadableState`] if it is not there; whatever the server says.
    pub async fn read(&self, after: i64) -> Result<Option<Vec<u8>>, PgError> {
        if self.begun.as_ref().is_none_or(|begun| after >= begun.marked) {
            return Ok(None);
        }
        let sql = format!("SELECT records FROM {} WHERE spool = $1 AND page = $2", self.session.relation(PAGES)?);
        let row = self.session.query_opt("reading the spool", &sql, &[&self.number, &(after + 1)]).await?;
        let records = row.map(|row| row.get(0));
        records.map(Some).ok_or_else(|| self.session.unreadable(PAGES, "a page", "none"))
    }

    fn fenced(&self) -> PgError {
        PgError::Fenced { what: format!("spooling the changes of {}", self.identity.source) }
    }
}

async fn make_schema(target: &Target) -> Result<(), PgError> {
    // Every server has this one, and everybody may use it.
    let session = connect(&target.in_schema("pg_catalog")).await?;
    let (schema, user) = (quote_identifier(target.schema())?, quote_identifier(&target.server().user)?);
    let doing = format!("creating schema {}", target.schema());
    let sql = "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')";
    if !session.query_one("checking rights", sql, &[]).await?.get::<_, bool>(0) {
        let reason = "the schema is missing, and so is the right CREATE on the database";
        return Err(session.no_rights(doing, reason, format!("CREATE SCHEMA {schema} AUTHORIZATION {user}")));
    }
    session.run(doing, &format!("CREATE SCHEMA IF NOT EXISTS {schema}")).await
}

type TakenOver = (i64, i64, Option<Begun>);

async fn take_over(session: &Session, identity: &SpoolIdentity) -> Result<TakenOver, PgError> {
    make_tables(session).await?;
    let SpoolIdentity { owner, source, database } = identity;
    lock::hold(session, &AdvisoryKey::spool(session.schema(), owner, source, database)).await?;
    let sql = format!(
        "INSERT INTO {} AS span (owner, shard, database, version) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (owner, shard, database) DO UPDATE SET epoch = span.epoch + 1 \
         RETURNING spool, epoch, CASE WHEN version = $4 THEN start::text END, reached::text, marked, bytes",
        session.relation(SPANS)?
    );
    let row = session.query_one("taking over a spool", &sql, &[owner, source, database, &VERSION]).await?;
    let (number, marked): (i64, i64) = (row.get(0), row.get(4));
    let sql = format!("DELETE FROM {} WHERE spool = $1 AND page > $2", session.relation(PAGES)?);
    session.execute("dropping what no mark covers", &sql, &[&number, &marked]).await?;
    let positions =
        |text: String| positions_from_json(&text).ok_or_else(|| session.unreadable(SPANS, "a position a shard", text));
    let (start, reached): (Option<String>, Option<String>) = (row.get(2), row.get(3));
    let begun = match start.zip(reached) {
        None => None,
        Some((start, reached)) => {
            let bytes = row.get::<_, i64>(5).max(0) as u64;
            let (start, reached) = (positions(start)?, positions(reached)?);
            Some(Begun { start, reached, marked, last: marked, bytes, full: false })
        }
    };
    Ok((number, row.get(1), begun))
}

/// Makes the tables where they are missing, or of version 1; where both are there, no right to create any is needed.
async fn make_tables(session: &Session) -> Result<(), PgError> {
    if rights(session).await?.len() < TABLES.len() || is_first_version(session).await? {
        // Somebody else may be at it.
        lock::wait_in_transaction(session, &AdvisoryKey::state(session.schema())).await?;
        require_right_to_create(session).await?;
        let (spans, pages) = (session.relation(SPANS)?, session.relation(PAGES)?);
        // What version 1 has spooled cannot be used: loads that need it start over, if the log does not hold it either.
        let drop = match is_first_version(session).await? {
            true => format!("DROP TABLE IF EXISTS {spans}, {pages};"),
            false => String::new(),
        };
        let sql = format!(
            "{drop} \
             CREATE TABLE IF NOT EXISTS {spans} ( \
                 spool BIGINT GENERATED ALWAYS AS IDENTITY UNIQUE, owner TEXT, shard TEXT, database TEXT, \
                 epoch BIGINT NOT NULL DEFAULT 0, version INT NOT NULL, start JSONB, reached JSONB, \
                 marked BIGINT NOT NULL DEFAULT 0, bytes BIGINT NOT NULL DEFAULT 0, \
                 PRIMARY KEY (owner, shard, database)); \
             COMMENT ON TABLE {spans} IS 'gizer state: from where to where changes are spooled'; \
             CREATE TABLE IF NOT EXISTS {pages} (spool BIGINT, page BIGINT, records BYTEA NOT NULL, PRIMARY KEY (spool, page)); \
             COMMENT ON TABLE {pages} IS 'gizer state: changes spooled during loads'"
        );
        session.run(format!("preparing {}.{PAGES}", session.schema()), &sql).await?;
    }
    let lacking: Vec<String> =
        rights(session).await?.into_iter().filter(|(_, may_write)| !may_write).map(|(table, _)| table).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let tables: Vec<String> =
        lacking.iter().map(|table| Ok(session.relation(table)?.to_string())).collect::<Result<_, PgError>>()?;
    let user = quote_identifier(&session.server().user)?;
    let doing = format!("using the spool in schema {}", session.schema());
    let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {user}", tables.join(", "));
    Err(session.no_rights(doing, format!("it may not write {}", lacking.join(" and ")), grant))
}

/// Whether a table of version 1 is there.
async fn is_first_version(session: &Session) -> Result<bool, PgError> {
    let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c \
                              JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                              JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped \
                              WHERE n.nspname = $1 AND c.relname = $2 AND a.attname = 'entry')";
    Ok(session.query_one("looking for the spool's tables", sql, &[&session.schema(), &PAGES]).await?.get(0))
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
    let grant = grant_for(session.schema(), &session.server().user);
    Err(session.no_rights(
        format!("creating tables in schema {}", session.schema()),
        "the right CREATE is missing",
        grant,
    ))
}
