//! Tables whose columns get other types: filled from their own rows next to the live ones, and
//! swapped in.
//!
//! ```text
//!   Retyping::begin ── empty staging tables, and the version is recorded; nobody follows the collection from here on
//!        │             (documents are rebuilt from the live rows: chunk by chunk, a transaction each)
//!   Retyping::copy ─── rows of the tables that change, into their staging tables
//!        │
//!   Retyping::finish ─ keys and indexes; the tables are swapped in, and the new layout is that of the collection
//! ```
//!
//! Other tables of the collection stay as they are. Readers wait for no longer than for the swap of
//! a load; `ALTER COLUMN TYPE` would keep them out while it rewrites the table (PostgreSQL
//! documentation, "ALTER TABLE").

use std::collections::BTreeSet;

use gizer_schema::{Growth, Layout, TableId};
use tokio_postgres::Statement;

use super::cancels::Cancels;
use super::remake;
use super::sink::CopyTarget;
use super::staging::{self, KeySettings, StagingTable};
use super::survey::{Extent, survey_in_transaction};
use super::swap::{Replacement, SwapSettings, Swapped, Swapping, swap};
use super::{additions, locks};
use crate::connect::Session;
use crate::copy::{Buffers, EncodedUnit, Reject};
use crate::error::PgError;
use crate::growth::giving_way;
use crate::ident::quote_identifier;
use crate::state::{self, NewVersion, UnfinishedVersion};

/// Tables of one collection that are being rebuilt.
#[derive(Debug)]
pub struct Retyping<'r> {
    session: &'r Session,
    after: Layout,
    /// Those that change.
    ids: Vec<TableId>,
    tables: Vec<StagingTable>,
    targets: Vec<(CopyTarget, Option<Statement>)>,
}

/// What the last transaction records.
#[derive(Debug, Clone, Copy)]
pub struct RetypedVersion<'v> {
    /// The version.
    pub version: &'v UnfinishedVersion,
    /// The paths that have another type now.
    pub paths: &'v [String],
    /// Whether numbers may be shown otherwise than in MongoDB ([`state::collections_to_verify`]).
    pub to_verify: bool,
    /// What a key that takes any `_id` changes; `None` if the key stays.
    pub any_key: Option<&'v AnyKey>,
}

/// What a key that takes any `_id` changes: documents whose `_id` did not fit have rows, and are no
/// longer rejected.
#[derive(Debug, Clone, Default)]
pub struct AnyKey {
    /// Those of them that are rejected for another reason.
    pub rejects: Vec<Reject>,
    /// The keys of documents that wait ([`state::keys_waiting`]), and what they are now.
    pub rekeyed: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'r> Retyping<'r> {
    fn new(session: &'r Session, after: &Layout, growth: &Growth) -> Result<Retyping<'r>, PgError> {
        let tables = changing(session.schema(), after, growth)?;
        let targets = staging::copy_targets(after, &tables, "FORMAT binary")?;
        let targets = targets.into_iter().map(|target| (target, None)).collect();
        let ids = tables.iter().map(|table| table.id).collect();
        Ok(Retyping { session, after: after.clone(), ids, tables, targets })
    }

    /// Makes empty staging tables and records that the schema grows, in one transaction, in which
    /// nobody may write the live tables: a batch that has written them has committed before.
    ///
    /// # Errors
    /// Whatever a load by this layout finds in the way ([`survey`](super::survey())), and
    /// [`PgError::NotCarriedOver`]; [`PgError::Fenced`] if the collection is not followed any more
    /// or has another layout; [`PgError::TablesHeld`] if writers held the tables all the time.
    pub async fn begin(
        session: &'r Session,
        after: &Layout,
        growth: &Growth,
        new: &NewVersion,
        settings: &SwapSettings,
    ) -> Result<(Retyping<'r>, UnfinishedVersion), PgError> {
        let retyping = Retyping::new(session, after, growth)?;
        let names: Vec<String> = after.tables.iter().map(|table| table.name.clone()).collect();
        let locked: Vec<String> =
            names.iter().map(|name| Ok(session.relation(name)?.to_string())).collect::<Result<_, PgError>>()?;
        let lock = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", locked.join(", "));
        let version = giving_way(session, after, settings, async || {
            session.run(format!("keeping writers from the tables of {}", after.collection), &lock).await?;
            let version = state::begin_version(session, new, &names).await?;
            locks::set_lock_timeout(session, settings.lock_timeout).await?;
            retyping.recreate().await?;
            Ok(version)
        });
        let version = version.await?;
        Ok((retyping, UnfinishedVersion { version, new: new.clone(), place: None, rewritten: (0, 0), failed: None }))
    }

    /// Resumes what an earlier run has begun. Where its staging tables are gone it starts over:
    /// then `version` has no place any more.
    ///
    /// # Errors
    /// As [`begin`](Retyping::begin).
    pub async fn resume(
        session: &'r Session,
        after: &Layout,
        growth: &Growth,
        version: &mut UnfinishedVersion,
    ) -> Result<Retyping<'r>, PgError> {
        let retyping = Retyping::new(session, after, growth)?;
        let is_there = version.place.is_some()
            && session.in_snapshot(staging::are_there(session, after, &retyping.tables)).await?;
        if !is_there {
            let over = UnfinishedVersion { place: None, rewritten: (0, 0), ..version.clone() };
            let start = async {
                state::note_rewritten(session, version, &over).await?;
                retyping.recreate().await
            };
            session.in_transaction(start).await?;
            *version = over;
        }
        Ok(retyping)
    }

    /// Empty staging tables, in the open transaction; that all that is on the live ones can be
    /// carried over is tried on them.
    async fn recreate(&self) -> Result<(), PgError> {
        let survey = survey_in_transaction(self.session, &self.after, Extent::Only(&self.ids)).await?;
        staging::recreate(self.session, &self.after, &self.tables).await?;
        additions::rehearse(self.session, &survey.additions, &self.tables).await?;
        remake::rehearse(self.session, &self.after, &survey, &self.tables).await
    }

    /// The tables that are rebuilt, by name.
    pub fn table_names(&self) -> Vec<String> {
        self.tables.iter().map(|table| table.live.name().to_owned()).collect()
    }

    /// Copies rows into the staging tables, in the open transaction; those of other tables, which
    /// stay, are left out. The unit is one of the whole layout. Gives the number of rows, and
    /// the buffers back.
    ///
    /// # Errors
    /// Whatever the server says; [`PgError::RowsDiffer`].
    pub async fn copy(&mut self, unit: EncodedUnit) -> Result<(u64, Buffers), PgError> {
        let (mut rows, mut buffers) = (0, Buffers::default());
        for data in unit.tables {
            let Some(at) = self.ids.iter().position(|id| *id == data.table) else {
                buffers.put(data.bytes);
                continue;
            };
            let (target, prepared) = &mut self.targets[at];
            let statement = match prepared {
                Some(statement) => statement.clone(),
                None => {
                    let doing = format!("preparing to copy into {}", target.table);
                    prepared.insert(self.session.prepare(doing, &target.statement).await?).clone()
                }
            };
            rows += data.rows;
            buffers.put(target.copy(self.session, &statement, data).await?);
        }
        Ok((rows, buffers))
    }

    /// Adds keys, indexes and constraints, and puts the tables in the place of the live ones; with
    /// that the new layout is the collection's.
    ///
    /// # Errors
    /// As [`Load::build_keys`](super::Load::build_keys) and [`Load::swap`](super::Load::swap).
    pub async fn finish(
        &self,
        version: RetypedVersion<'_>,
        keys: KeySettings,
        settings: &SwapSettings,
    ) -> Result<Swapped, PgError> {
        let cancels = Cancels::default();
        staging::build_keys(&[self.session], self.replacement(), keys, &cancels).await?;
        swap(self.session, &RetypedTables { of: self, version }, settings).await
    }

    fn replacement(&self) -> Replacement<'_> {
        Replacement { layout: &self.after, tables: &self.tables, extent: Extent::Only(&self.ids) }
    }

    /// Drops the staging tables, and records why it cannot be done, or forgets that it was begun:
    /// the live tables are as they were.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn give_up(
        session: &Session,
        after: &Layout,
        growth: &Growth,
        version: &UnfinishedVersion,
        why: Option<&str>,
    ) -> Result<(), PgError> {
        let collection = &version.new.collection;
        let tables = changing(session.schema(), after, growth)?;
        session
            .in_transaction(async {
                for StagingTable { staging, .. } in &tables {
                    session.run(format!("dropping {staging}"), &format!("DROP TABLE IF EXISTS {staging}")).await?;
                }
                let Some(why) = why else { return state::forget_unfinished(session, collection).await };
                let left = state::tables_of(session, collection).await?;
                state::fail_version(session, (collection, version.version), why, &left).await
            })
            .await
    }

    /// How many rows each table has, live and rebuilt: its name and the two numbers.
    ///
    /// # Errors
    /// Whatever the server says.
    pub async fn count_rows(&self) -> Result<Vec<(String, u64, u64)>, PgError> {
        let mut counted = Vec::new();
        for table in &self.tables {
            let sql = format!(
                "SELECT (SELECT pg_catalog.count(*) FROM {}), (SELECT pg_catalog.count(*) FROM {})",
                table.live, table.staging
            );
            let row = self.session.query_one(format!("counting rows of {}", table.live), &sql, &[]).await?;
            let number = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or_default();
            counted.push((table.live.name().to_owned(), number(0), number(1)));
        }
        Ok(counted)
    }
}

/// The statements of a version with columns of other types, for people to read. Between the tables
/// that are made and the first that is dropped rows are copied, and keys and indexes built.
///
/// # Errors
/// [`PgError::UnusableName`] if a table or a column cannot be named.
pub fn retyping_statements(schema: &str, after: &Layout, growth: &Growth) -> Result<Vec<String>, PgError> {
    let tables = changing(schema, after, growth)?;
    let mut statements = Vec::new();
    for table in &tables {
        statements.push(table.style.create(after, table)?);
    }
    for StagingTable { staging, live, .. } in &tables {
        statements.push(format!("DROP TABLE {live}"));
        statements.push(format!("ALTER TABLE {staging} RENAME TO {}", quote_identifier(live.name())?));
    }
    Ok(statements)
}

/// The staging tables of those that change, in the order of the layout.
fn changing(schema: &str, after: &Layout, growth: &Growth) -> Result<Vec<StagingTable>, PgError> {
    let ids: BTreeSet<TableId> = growth.retyped.iter().map(|(table, _)| *table).collect();
    let mut tables = staging::staging_tables(after, schema)?;
    tables.retain(|table| ids.contains(&table.id));
    Ok(tables)
}

struct RetypedTables<'t, 'r> {
    of: &'t Retyping<'r>,
    version: RetypedVersion<'t>,
}

impl Swapping for RetypedTables<'_, '_> {
    fn replacements(&self) -> Vec<Replacement<'_>> {
        vec![self.of.replacement()]
    }

    async fn claim(&self, session: &Session) -> Result<(), PgError> {
        state::claim_version(session, self.version.version).await
    }

    async fn record(&self, session: &Session) -> Result<(), PgError> {
        let RetypedVersion { version, paths, to_verify, any_key } = self.version;
        state::finish_version(session, version, paths, to_verify).await?;
        let Some(AnyKey { rejects, rekeyed }) = any_key else { return Ok(()) };
        state::replace_unfit_keys(session, &version.new.collection, rejects).await?;
        state::rekey(session, &version.new.collection, rekeyed).await
    }
}
