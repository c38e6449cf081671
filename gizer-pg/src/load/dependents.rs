//! What hangs on live tables and on the views that the swap recreates, and would be lost with them.

use gizer_schema::Layout;

use super::survey::{LiveTable, oids};
use super::views::{self, View};
use crate::connect::Session;
use crate::error::PgError;

/// What depends on tables and views: it would stop the drop (normal dependencies of `pg_depend`), or be lost in
/// silence. What [`additions`](super::additions) and [`describe`](super::description::describe) know better is left
/// out. `$1`: tables and views.
const DEPENDENTS: &str = "\
    SELECT d.refobjid, CASE r.rulename WHEN '_RETURN' THEN pg_describe_object('pg_class'::regclass, r.ev_class, 0) \
                            ELSE pg_describe_object('pg_rewrite'::regclass, r.oid, 0) END \
    FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid \
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY ($1) AND r.ev_class <> ALL ($1) \
    UNION \
    SELECT d.refobjid, pg_describe_object(d.classid, d.objid, d.objsubid) \
    FROM pg_depend d \
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY ($1) AND d.deptype = 'n' \
      AND d.classid <> 'pg_rewrite'::regclass \
      AND NOT EXISTS (SELECT FROM pg_attrdef def WHERE d.classid = 'pg_attrdef'::regclass AND def.oid = d.objid \
                      AND def.adrelid = d.refobjid) \
      AND NOT EXISTS (SELECT FROM pg_constraint c WHERE d.classid = 'pg_constraint'::regclass AND c.oid = d.objid \
                      AND c.conrelid = d.refobjid AND c.contype <> 'f') \
    UNION \
    SELECT c.oid, concat(pg_describe_object(d.classid, d.objid, d.objsubid), ', which uses the row type') \
    FROM pg_class c JOIN pg_type ty ON ty.oid = c.reltype \
    JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (ty.oid, ty.typarray) AND d.deptype = 'n' \
    WHERE c.oid = ANY ($1) AND NOT (d.classid = 'pg_class'::regclass AND d.objid = ANY ($1)) \
      AND NOT EXISTS (SELECT FROM pg_rewrite r \
                      WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND r.ev_class = ANY ($1)) \
    UNION \
    SELECT r.ev_class, pg_describe_object('pg_rewrite'::regclass, r.oid, 0) \
    FROM pg_rewrite r WHERE r.ev_class = ANY ($1) AND r.rulename <> '_RETURN' \
    UNION \
    SELECT c.conrelid, pg_describe_object('pg_constraint'::regclass, c.oid, 0) \
    FROM pg_constraint c WHERE c.contype = 'f' AND c.conrelid = ANY ($1) \
    UNION \
    SELECT t.tgrelid, pg_describe_object('pg_trigger'::regclass, t.oid, 0) \
    FROM pg_trigger t WHERE t.tgrelid = ANY ($1) AND NOT t.tgisinternal \
    UNION \
    SELECT p.polrelid, pg_describe_object('pg_policy'::regclass, p.oid, 0) \
    FROM pg_policy p WHERE p.polrelid = ANY ($1) \
    UNION \
    SELECT c.oid, 'row level security' FROM pg_class c WHERE c.oid = ANY ($1) AND c.relrowsecurity \
    UNION \
    SELECT p.prrelid, pg_describe_object('pg_publication_rel'::regclass, p.oid, 0) \
    FROM pg_publication_rel p WHERE p.prrelid = ANY ($1) \
    UNION \
    SELECT i.inhrelid, format('inheritance from %s', i.inhparent::regclass) \
    FROM pg_inherits i WHERE i.inhrelid = ANY ($1) \
    ORDER BY 1, 2";

/// Refuses, by name, what neither the new tables nor the recreated views would have.
///
/// # Errors
/// [`PgError::Dependents`], for the first of the tables on which something hangs.
pub(super) async fn refuse(
    session: &Session,
    layout: &Layout,
    live: &[LiveTable],
    views: &[View],
) -> Result<(), PgError> {
    let mut relations = oids(live);
    relations.extend(views.iter().map(|view| view.oid));
    let mut found = Vec::new();
    for row in session.query("looking for what depends on the tables", DEPENDENTS, &[&relations]).await? {
        let on: u32 = row.get(0);
        let base = views.iter().find(|view| view.oid == on).map_or(on, |view| view.base);
        found.push((base, row.get(1)));
    }
    found.extend(views::hindrances(session, layout, live, views).await?);
    for table in live {
        let dependents: Vec<String> =
            found.iter().filter(|(base, _)| *base == table.oid).map(|(_, dependent)| dependent.clone()).collect();
        if !dependents.is_empty() {
            let (schema, table) = (session.schema().to_owned(), table.name.clone());
            return Err(PgError::Dependents { schema, table, dependents });
        }
    }
    Ok(())
}
