//! What exists where a load wants to put its tables. Asked before the first row is read, and again at the swap.

use std::collections::{BTreeMap, BTreeSet};

use gizer_schema::{Layout, TableId};

use super::additions::{self, Addition};
use super::dependents;
use super::description::{COLUMN, describe, would_be_lost};
use super::names::{refuse_names_of_gizer, refuse_taken_key_names};
use super::views::{self, View};
use crate::connect::Session;
use crate::ddl::{is_marked, is_marked_for};
use crate::error::PgError;
use crate::ident::quote_identifier;
use crate::state::{self, Descriptions};

/// Who made a table that is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An earlier load of the same collection.
    Gizer,
    /// As far as its columns tell, the classic tool, or its user.
    Classic,
}

/// A table that the swap will replace or, where the layout no longer has it, drop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTable {
    /// Its name.
    pub name: String,
    /// Who made it.
    pub origin: Origin,
    /// Whether the layout has a table of this name.
    pub in_layout: bool,
    pub(super) oid: u32,
}

/// Which tables of a collection are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent<'e> {
    /// All: those of its last load that the layout no longer has go.
    All,
    /// These of the layout. The others stay.
    Only(&'e [TableId]),
}

impl Extent<'_> {
    /// Whether a table of the layout is replaced.
    pub(super) fn has(self, table: TableId) -> bool {
        match self {
            Extent::All => true,
            Extent::Only(tables) => tables.contains(&table),
        }
    }

    /// The names of the tables of the layout that are replaced.
    pub(super) fn names(self, layout: &Layout) -> impl Iterator<Item = &str> {
        let tables = layout.tables.iter().enumerate();
        tables.filter(move |(at, _)| self.has(TableId(*at))).map(|(_, table)| table.name.as_str())
    }
}

/// What was found, if nothing is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Tables to replace or drop, by name.
    pub live: Vec<LiveTable>,
    /// Views on them, each behind those that it uses.
    pub(super) views: Vec<View>,
    /// Indexes and constraints to recreate on the new tables.
    pub(super) additions: Vec<Addition>,
    /// How gizer left the tables.
    pub(super) left: Descriptions,
}

impl Survey {
    /// How gizer left the tables that are not replaced.
    pub(super) fn left_of_others(&self, extent: Extent<'_>) -> Descriptions {
        let mut others = if extent == Extent::All { Descriptions::new() } else { self.left.clone() };
        others.retain(|name, _| self.live.iter().all(|table| table.name != *name));
        others
    }

    /// Indexes and constraints that somebody has added to the tables, and that the new ones will have too: `index
    /// posts_n`.
    pub fn carried_over(&self) -> Vec<String> {
        self.additions.iter().map(Addition::label).collect()
    }

    /// Views on the tables, directly or through other views, that the swap recreates: `"public"."recent_posts"`.
    pub fn views(&self) -> Vec<String> {
        self.views.iter().map(|view| view.at.to_string()).collect()
    }
}

/// Looks at every name that the collection's tables and keys will have. The state tables must be there
/// ([`state::prepare`]).
///
/// A table of an earlier load of this collection will be replaced, and so will a table with exactly the columns and
/// types of the layout (in any order, an `_extra` aside): that is what the classic tool left. Anything else is in the
/// way.
///
/// # Errors
/// [`PgError::NameTaken`] (by gizer's own tables, or by another collection's), [`PgError::ForeignTable`],
/// [`PgError::Dependents`] (materialized views, foreign keys, triggers, policies, publications and the like, which
/// dropping the table would break or lose; views that cannot be recreated as they are; columns, statistics and the
/// like that somebody has added to a table of gizer; indexes whose columns the layout no longer has),
/// [`PgError::NoRights`] (only its owner may replace a table).
pub async fn survey(session: &Session, layout: &Layout) -> Result<Survey, PgError> {
    survey_of(session, layout, Extent::All).await
}

pub(super) async fn survey_of(session: &Session, layout: &Layout, extent: Extent<'_>) -> Result<Survey, PgError> {
    session.in_transaction(survey_in_transaction(session, layout, extent)).await
}

pub(super) async fn survey_in_transaction(
    session: &Session,
    layout: &Layout,
    extent: Extent<'_>,
) -> Result<Survey, PgError> {
    refuse_names_of_gizer(session, layout).await?;
    let earlier = state::tables_of(session, &layout.collection).await?;
    let left = state::tables_as_left(session, &layout.collection).await?;
    let mut live = Vec::new();
    let mut names: BTreeSet<&str> = extent.names(layout).collect();
    if extent == Extent::All {
        names.extend(earlier.iter().map(String::as_str));
    }
    for found in relations(session, layout, names).await? {
        let ours = is_ours(session, layout, &found, &earlier, &left).await?;
        if let Some(table) = judge(session, layout, &found, ours).await? {
            require_ownership(session, &found)?;
            live.push(table);
        }
    }
    refuse_taken_key_names(session, layout, &live, extent).await?;
    let views = refuse_dependents(session, layout, &live).await?;
    let additions = additions::on_live(session, layout, &live).await?;
    refuse_losses(session, layout, &live, &additions, &left).await?;
    Ok(Survey { live, views, additions, left })
}

/// The tables of the layout that are there, if nothing else has one of their names; in the open
/// transaction.
pub(super) async fn live_tables(session: &Session, layout: &Layout) -> Result<Vec<LiveTable>, PgError> {
    refuse_names_of_gizer(session, layout).await?;
    let earlier = state::tables_of(session, &layout.collection).await?;
    let left = state::tables_as_left(session, &layout.collection).await?;
    let mut live = Vec::new();
    for found in relations(session, layout, Extent::All.names(layout).collect()).await? {
        let ours = is_ours(session, layout, &found, &earlier, &left).await?;
        live.extend(judge(session, layout, &found, ours).await?);
    }
    Ok(live)
}

/// How often to look at the views again that another swap has recreated between two looks.
const VIEW_ATTEMPTS: usize = 5;

/// Refuses what cannot be carried over; the views that can.
///
/// A view on tables of several collections is recreated by the swap of each of them: one that is new since the views
/// were listed would be taken for a stranger.
async fn refuse_dependents(session: &Session, layout: &Layout, live: &[LiveTable]) -> Result<Vec<View>, PgError> {
    let mut views = views::hanging(session, live).await?;
    for _ in 1..VIEW_ATTEMPTS {
        let refused = dependents::refuse(session, layout, live, &views).await;
        let again = views::hanging(session, live).await?;
        if again == views {
            return refused.map(|()| views);
        }
        views = again;
    }
    dependents::refuse(session, layout, live, &views).await.map(|()| views)
}

/// What somebody has made of the tables is carried over, or else named before it would be lost.
async fn refuse_losses(
    session: &Session,
    layout: &Layout,
    live: &[LiveTable],
    additions: &[Addition],
    left: &Descriptions,
) -> Result<(), PgError> {
    let names: Vec<&str> = live.iter().map(|table| table.name.as_str()).collect();
    let now = describe(session, &names).await?;
    for table in live {
        let mut lost = would_be_lost(table, &now, left);
        let on_table = additions.iter().filter(|addition| addition.table() == table.name);
        lost.extend(on_table.filter_map(|addition| addition.cannot_be_carried_over(layout)));
        if !lost.is_empty() {
            let (schema, table) = (session.schema().to_owned(), table.name.clone());
            return Err(PgError::Dependents { schema, table, dependents: lost });
        }
    }
    Ok(())
}

/// A relation under one of the names.
struct Relation {
    name: String,
    oid: u32,
    kind: String,
    comment: Option<String>,
    owned: bool,
    owner: String,
}

async fn relations(session: &Session, layout: &Layout, names: BTreeSet<&str>) -> Result<Vec<Relation>, PgError> {
    let sql = "SELECT c.relname::text, c.oid, c.relkind::text, obj_description(c.oid, 'pg_class'), \
                      pg_has_role(c.relowner, 'USAGE'), pg_get_userbyid(c.relowner)::text \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = ANY ($2) ORDER BY c.relname";
    let names: Vec<&str> = names.into_iter().collect();
    let doing = format!("looking for the tables of {}", layout.collection);
    let rows = session.query(doing, sql, &[&session.schema(), &names]).await?;
    let read = |row: &tokio_postgres::Row| Relation {
        name: row.get(0),
        oid: row.get(1),
        kind: row.get(2),
        comment: row.get(3),
        owned: row.get(4),
        owner: row.get(5),
    };
    Ok(rows.iter().map(read).collect())
}

/// Whether an earlier load of the collection made a table. Its comment says so; where somebody has changed that, the
/// state tables and its columns do.
async fn is_ours(
    session: &Session,
    layout: &Layout,
    found: &Relation,
    earlier: &[String],
    left: &Descriptions,
) -> Result<bool, PgError> {
    if found.kind != "r" || is_marked(found.comment.as_deref()) {
        return Ok(found.kind == "r" && is_marked_for(found.comment.as_deref(), &layout.collection));
    }
    let Some(left) = left.get(&found.name).filter(|_| earlier.contains(&found.name)) else { return Ok(false) };
    let now: Vec<String> = columns(session, found.oid).await?.into_iter().map(|(name, _)| name).collect();
    let mut columns = left.keys().filter_map(|item| item.strip_prefix(COLUMN)).filter(|name| *name != EXTRA);
    Ok(columns.all(|name| now.iter().any(|column| column == name)))
}

/// Whether a relation is to be replaced, dropped, left alone (`None`), or in the way.
async fn judge(session: &Session, layout: &Layout, found: &Relation, ours: bool) -> Result<Option<LiveTable>, PgError> {
    let in_the_way = |why: String| {
        Err(PgError::ForeignTable { schema: session.schema().to_owned(), table: found.name.clone(), why })
    };
    let table = layout.tables.iter().find(|table| table.name == found.name);
    let live =
        |origin| Ok(Some(LiveTable { name: found.name.clone(), origin, in_layout: table.is_some(), oid: found.oid }));
    let Some(table) = table else {
        // A table of the last load that the layout no longer has; whoever took its name since may keep it.
        return if ours { live(Origin::Gizer) } else { Ok(None) };
    };
    if found.kind != "r" {
        let came = kind_name(&found.kind);
        return in_the_way(format!("expected a table of the collection {}, found {came}", layout.collection));
    }
    if ours {
        return live(Origin::Gizer);
    }
    if is_marked(found.comment.as_deref()) {
        return in_the_way("its comment says that it is a table of another collection".to_owned());
    }
    let compared = table.columns.iter().filter(|column| column.name != EXTRA);
    let mut expected: Vec<(String, String)> =
        compared.map(|column| (column.name.clone(), column.ty.catalog_name())).collect();
    expected.sort_unstable();
    match difference(&expected, &columns(session, found.oid).await?) {
        None => live(Origin::Classic),
        Some(difference) => in_the_way(format!(
            "gizer did not make it, and it has not the columns of the collection {} ({difference})",
            layout.collection
        )),
    }
}

/// Only its owner may drop a table, and a role that is a member of the owner. Better known now than after the load.
fn require_ownership(session: &Session, found: &Relation) -> Result<(), PgError> {
    if found.owned {
        return Ok(());
    }
    let (table, user) = (session.relation(&found.name)?, quote_identifier(&session.server().user)?);
    let grant = format!("ALTER TABLE {table} OWNER TO {user}");
    Err(session.no_rights(format!("replacing {table}"), format!("it belongs to {}", found.owner), grant))
}

/// `pg_class.relkind` in words.
fn kind_name(kind: &str) -> &'static str {
    match kind {
        "v" => "a view",
        "m" => "a materialized view",
        "f" => "a foreign table",
        "p" => "a partitioned table",
        "i" | "I" => "an index",
        "S" => "a sequence",
        "c" => "a composite type",
        _ => "another kind of relation",
    }
}

/// Not compared: tables of the classic tool may have this column or not.
const EXTRA: &str = "_extra";

/// Names and types of a table's columns, sorted, without `_extra`.
async fn columns(session: &Session, table: u32) -> Result<Vec<(String, String)>, PgError> {
    let sql = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
               WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attname <> $2::text";
    let rows = session.query("reading the columns of a table", sql, &[&table, &EXTRA]).await?;
    let mut columns: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    columns.sort_unstable();
    Ok(columns)
}

/// The first difference between sorted columns, in words.
fn difference(expected: &[(String, String)], found: &[(String, String)]) -> Option<String> {
    let types: BTreeMap<&str, &str> = found.iter().map(|(name, ty)| (name.as_str(), ty.as_str())).collect();
    for (name, ty) in expected {
        match types.get(name.as_str()) {
            None => return Some(format!("column {name} is missing")),
            Some(came) if came != ty => return Some(format!("column {name} is {came}, expected {ty}")),
            Some(_) => {}
        }
    }
    let too_many = found.iter().find(|(name, _)| !expected.iter().any(|(wanted, _)| wanted == name));
    too_many.map(|(name, _)| format!("column {name} is not expected"))
}

pub(super) fn oids(live: &[LiveTable]) -> Vec<u32> {
    live.iter().map(|table| table.oid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_compared_whatever_their_order() {
        let found = |columns: &[(&str, &str)]| -> Vec<(String, String)> {
            columns.iter().map(|(name, ty)| ((*name).to_owned(), (*ty).to_owned())).collect()
        };
        let expected = found(&[("a", "text"), ("b", "bigint")]);
        assert_eq!(difference(&expected, &found(&[("b", "bigint"), ("a", "text")])), None);
        let cases = [
            (found(&[("a", "text")]), "column b is missing"),
            (found(&[("a", "text"), ("b", "integer")]), "column b is integer, expected bigint"),
            (found(&[("a", "text"), ("b", "bigint"), ("c", "text")]), "column c is not expected"),
        ];
        for (found, expected_words) in cases {
            assert_eq!(difference(&expected, &found).as_deref(), Some(expected_words));
        }
    }
}
