//! What a live table looks like, apart from its rows: to notice what somebody has changed since gizer left it.
//!
//! Items that have their default value are left out, so that an item of a table that gizer has not described can be
//! told to be somebody's. What can be carried over to the next table is not among them, with the exception of comments:
//! see [`additions`](super::additions).

use std::collections::BTreeMap;

use super::survey::{LiveTable, Origin};
use crate::connect::Session;
use crate::error::PgError;
use crate::state::Descriptions;

pub(super) const COLUMN: &str = "column ";
const COLUMN_COMMENT: &str = "comment on column ";
const TABLE_COMMENT: &str = "its comment";
const GENERATED: &str = " GENERATED AS ";

/// Items of the tables `$2` in schema `$1`.
const DESCRIBE: &str = "\
    SELECT c.relname::text, described.item, described.value \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    CROSS JOIN LATERAL ( \
        SELECT 'its comment', obj_description(c.oid, 'pg_class') \
        UNION ALL SELECT 'replica identity', c.relreplident::text WHERE c.relreplident <> 'd' \
        UNION ALL SELECT 'that it is unlogged', 'yes' WHERE c.relpersistence <> 'p' \
        UNION ALL SELECT 'tablespace ' || s.spcname, 'yes' FROM pg_tablespace s WHERE s.oid = c.reltablespace \
        UNION ALL \
        SELECT 'column ' || a.attname, concat(format_type(a.atttypid, a.atttypmod), \
                   CASE WHEN a.attnotnull THEN ' NOT NULL' END, \
                   CASE WHEN a.attcollation <> ty.typcollation THEN ' COLLATE ' || a.attcollation::regcollation END, \
                   CASE a.attgenerated WHEN '' THEN ' DEFAULT ' ELSE ' GENERATED AS ' END || pg_get_expr(def.adbin, def.adrelid), \
                   ' ' || nullif(a.attidentity::text, '')) \
        FROM pg_attribute a JOIN pg_type ty ON ty.oid = a.atttypid \
        LEFT JOIN pg_attrdef def ON def.adrelid = a.attrelid AND def.adnum = a.attnum \
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
        UNION ALL \
        SELECT item.name || ' of column ' || a.attname, item.value \
        FROM pg_attribute a JOIN pg_type ty ON ty.oid = a.atttypid \
        CROSS JOIN LATERAL (VALUES \
            ('statistics target', CASE WHEN a.attstattarget >= 0 THEN a.attstattarget::text END), \
            ('options', a.attoptions::text), \
            ('storage', CASE WHEN a.attstorage <> ty.typstorage THEN a.attstorage::text END)) AS item (name, value) \
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
        UNION ALL \
        SELECT 'comment on column ' || a.attname, col_description(c.oid, a.attnum) \
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
        UNION ALL \
        SELECT format('extended statistics %s', ext.stxname), 'yes' \
        FROM pg_statistic_ext ext WHERE ext.stxrelid = c.oid \
        UNION ALL \
        SELECT format('%s index %s', item.name, i.relname), 'yes' \
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid \
        CROSS JOIN LATERAL (VALUES ('CLUSTER mark on', x.indisclustered), ('invalid', NOT x.indisvalid), \
            ('tablespace of', i.reltablespace <> 0)) AS item (name, holds) \
        WHERE x.indrelid = c.oid AND item.holds \
        UNION ALL \
        SELECT 'security label of ' || label.provider, label.label \
        FROM pg_seclabel label WHERE label.classoid = 'pg_class'::regclass AND label.objoid = c.oid \
    ) AS described (item, value) \
    WHERE n.nspname = $1 AND c.relname = ANY ($2) AND c.relkind = 'r' AND described.value IS NOT NULL";

/// Describes tables as they are now.
pub(crate) async fn describe(session: &Session, tables: &[&str]) -> Result<Descriptions, PgError> {
    let mut all = Descriptions::new();
    for row in session.query("reading what tables look like", DESCRIBE, &[&session.schema(), &tables]).await? {
        all.entry(row.get(0)).or_default().insert(row.get(1), row.get(2));
    }
    Ok(all)
}

/// What somebody has added to a table or changed of it, and what its replacement would not have.
pub(super) fn would_be_lost(table: &LiveTable, now: &Descriptions, left: &Descriptions) -> Vec<String> {
    let Some(items) = now.get(&table.name) else { return Vec::new() };
    let left = left.get(&table.name);
    let lost = |(item, value): (&String, &String)| {
        if item.starts_with(COLUMN_COMMENT) || item == TABLE_COMMENT {
            return None;
        }
        match left {
            Some(left) => match (left.get(item), item.strip_prefix(COLUMN)) {
                (Some(was), _) if was == value => None,
                // A column of gizer's that somebody has given another type or name is what a load puts right.
                (Some(was), Some(_)) if type_of(was) != type_of(value) => None,
                (None, Some(_)) if is_renamed(value, items, left) => None,
                (Some(was), Some(column)) => Some(format!("column {column}, which is {value} and was {was}")),
                (None, Some(column)) if value.contains(GENERATED) => Some(format!("generated column {column}")),
                _ => Some(item.clone()),
            },
            // Nothing is known of how it was left.
            None if item.starts_with(COLUMN) => None,
            None => Some(item.clone()),
        }
    };
    items.iter().filter_map(lost).collect()
}

/// The type in the description of a column.
fn type_of(column: &str) -> &str {
    let ends = [" NOT NULL", " COLLATE ", " DEFAULT ", GENERATED].into_iter().filter_map(|end| column.find(end));
    &column[..ends.min().unwrap_or(column.len())]
}

/// Whether a column that was not there takes the place of one that is gone, as far as their descriptions say.
fn is_renamed(column: &str, now: &BTreeMap<String, String>, left: &BTreeMap<String, String>) -> bool {
    left.iter().any(|(item, was)| item.starts_with(COLUMN) && !now.contains_key(item) && was == column)
}

/// Comments that somebody has put on a table and its columns in place of gizer's own.
#[derive(Debug, Default)]
pub(super) struct OwnComments {
    pub(super) table: Option<String>,
    pub(super) columns: BTreeMap<String, String>,
}

pub(super) fn own_comments(table: &LiveTable, now: &Descriptions, left: &Descriptions) -> OwnComments {
    let Some(items) = now.get(&table.name) else { return OwnComments::default() };
    let left = left.get(&table.name);
    // Of how it was left nothing may be known: by the classic tool without comments, by gizer with its own.
    let is_own = |(item, value): &(&String, &String)| match left {
        Some(left) => left.get(*item) != Some(*value),
        None => table.origin == Origin::Classic,
    };
    let mut own = OwnComments::default();
    for (item, comment) in items.iter().filter(is_own) {
        if item == TABLE_COMMENT {
            own.table = Some(comment.clone());
        } else if let Some(column) = item.strip_prefix(COLUMN_COMMENT) {
            own.columns.insert(column.to_owned(), comment.clone());
        }
    }
    own
}
