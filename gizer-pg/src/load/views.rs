//! Views on live tables, directly or through other views: the swap makes them again on the tables that take over.
//!
//! ```text
//!   survey ── what cannot be recreated is refused, by name
//!   swap   ── locked like the tables; read, dropped, and recreated: see remake
//! ```

use std::collections::BTreeMap;

use gizer_schema::Layout;

use super::survey::{LiveTable, oids};
use crate::connect::Session;
use crate::error::PgError;
use crate::ident::Qualified;

/// A view that the swap recreates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub(super) oid: u32,
    pub(super) at: Qualified,
    /// A live table that it depends on.
    pub(super) base: u32,
    /// The longest way to a live table: 1 for a view on tables alone.
    pub(super) depth: i32,
}

/// Views do not stand on each other as high as this, unless in a circle, which CREATE OR REPLACE can bring about.
const MAX_VIEW_DEPTH: i32 = 64;

/// Plain views that use the tables `$1`, their row types, or such views; `$2`: where to stop.
const HANGING: &str = "\
    WITH RECURSIVE hanging (oid, base, depth) AS ( \
        SELECT base, base, 0 FROM unnest($1::oid[]) AS tables (base) \
        UNION \
        SELECT r.ev_class, h.base, h.depth + 1 \
        FROM hanging h JOIN pg_class c ON c.oid = h.oid LEFT JOIN pg_type ty ON ty.oid = c.reltype \
        CROSS JOIN LATERAL (VALUES ('pg_class'::regclass, c.oid), ('pg_type'::regclass, ty.oid), \
                                   ('pg_type'::regclass, ty.typarray)) AS used (class, oid) \
        JOIN pg_depend d ON d.refclassid = used.class AND d.refobjid = used.oid AND d.classid = 'pg_rewrite'::regclass \
        JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN' \
        JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v' \
        WHERE r.ev_class <> h.oid AND h.depth < $2 \
    ) \
    SELECT v.oid, n.nspname::text, v.relname::text, min(h.base), max(h.depth) \
    FROM hanging h JOIN pg_class v ON v.oid = h.oid JOIN pg_namespace n ON n.oid = v.relnamespace \
    WHERE h.depth > 0 GROUP BY 1, 2, 3 ORDER BY 5, 2, 3";

/// The views that depend on these tables, each behind those that it uses.
pub(super) async fn hanging(session: &Session, live: &[LiveTable]) -> Result<Vec<View>, PgError> {
    let rows = session.query("looking for views on the tables", HANGING, &[&oids(live), &MAX_VIEW_DEPTH]).await?;
    let view = |row: &tokio_postgres::Row| {
        let at = Qualified::new(row.get(1), row.get(2))?;
        Ok(View { oid: row.get(0), at, base: row.get(3), depth: row.get(4) })
    };
    rows.iter().map(view).collect()
}

/// What of the views `$1` would be lost, or keeps this role from making them again. Rights are given by the statement
/// that is named.
const HINDRANCES: &str = "\
    SELECT v.oid, concat('view ', v.oid::regclass, ', ', why.text) \
    FROM pg_class v JOIN pg_namespace n ON n.oid = v.relnamespace \
    JOIN pg_roles me ON me.rolname = current_user JOIN pg_roles owner ON owner.oid = v.relowner \
    CROSS JOIN LATERAL ( \
        SELECT format('which belongs to the role %I (remedy: GRANT %1$I TO %I)', owner.rolname, me.rolname) \
        WHERE NOT pg_has_role(v.relowner, 'USAGE') \
        UNION ALL \
        SELECT format('in whose schema the role %I may not make views (remedy: GRANT USAGE, CREATE ON SCHEMA %I TO %1$I)', \
                      maker.rolname, n.nspname) \
        FROM pg_roles maker \
        WHERE maker.oid IN (me.oid, owner.oid) AND NOT me.rolsuper AND v.relpersistence <> 't' \
          AND NOT (has_schema_privilege(maker.oid, n.oid, 'CREATE') AND has_schema_privilege(maker.oid, n.oid, 'USAGE')) \
        UNION ALL SELECT 'which is temporary' WHERE v.relpersistence = 't' \
        UNION ALL \
        SELECT format('which belongs to the extension %I', e.extname) \
        FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid \
        WHERE d.classid = 'pg_class'::regclass AND d.objid = v.oid AND d.deptype = 'e' \
        UNION ALL \
        SELECT format('which has a security label of %s', label.provider) \
        FROM pg_seclabel label WHERE label.classoid = 'pg_class'::regclass AND label.objoid = v.oid \
    ) AS why (text) \
    WHERE v.oid = ANY ($1) ORDER BY 1, 2";

/// Why some of these views cannot be recreated on the tables of the layout, each with the live table that it uses.
pub(super) async fn hindrances(
    session: &Session,
    layout: &Layout,
    live: &[LiveTable],
    views: &[View],
) -> Result<Vec<(u32, String)>, PgError> {
    if views.is_empty() {
        return Ok(Vec::new());
    }
    let oids: Vec<u32> = views.iter().map(|view| view.oid).collect();
    let base_of = |oid: u32| views.iter().find(|view| view.oid == oid).map_or(oid, |view| view.base);
    let circular = views.iter().filter(|view| view.depth >= MAX_VIEW_DEPTH);
    let mut found: Vec<(u32, String)> =
        circular.map(|view| (view.base, format!("view {}, below which views go in a circle", view.at))).collect();
    for row in session.query("looking for what keeps views from being recreated", HINDRANCES, &[&oids]).await? {
        found.push((base_of(row.get(0)), row.get(1)));
    }
    found.extend(unfit(session, layout, live, &oids).await?);
    Ok(found)
}

/// Which of the columns of the tables `$1` the views `$2` use; a table of which no column is used has one row.
/// Whether there is a whole row among what is used is only to be seen in the parsed statement, as a variable without
/// a column.
const USES: &str = "\
    SELECT r.ev_class, concat('view ', r.ev_class::regclass), d.refobjid, d.refobjid::regclass::text, \
           a.attname::text, format_type(a.atttypid, a.atttypmod), r.ev_action::text ~ ':varattno 0 ' \
    FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid \
    LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attnum > 0 \
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY ($1) AND r.ev_class = ANY ($2) \
      AND r.rulename = '_RETURN' \
    ORDER BY 3, 2, 5";

/// Views that use what the tables of the layout do not have as it was.
async fn unfit(
    session: &Session,
    layout: &Layout,
    live: &[LiveTable],
    views: &[u32],
) -> Result<Vec<(u32, String)>, PgError> {
    let columns = columns(session, live).await?;
    let mut found: Vec<(u32, String)> = Vec::new();
    let mut last = None;
    for row in session.query("reading what views use", USES, &[&oids(live), &views]).await? {
        let (view, label, table, shown): (u32, String, u32, String) = (row.get(0), row.get(1), row.get(2), row.get(3));
        let name = live.iter().find(|live| live.oid == table).map(|live| &live.name);
        let new = layout.tables.iter().find(|table| Some(&table.name) == name);
        let again = last.replace((view, table)) == Some((view, table));
        let Some(new) = new else {
            if !again {
                found.push((table, format!("{label}, which uses {shown}, and that is no longer in the schema")));
            }
            continue;
        };
        if let (Some(column), Some(ty)) = (row.get::<_, Option<&str>>(4), row.get::<_, Option<&str>>(5)) {
            let change = match new.columns.iter().find(|new| new.name == column) {
                None => Some("that is no longer in the schema".to_owned()),
                Some(new) if new.ty.catalog_name() == ty => None,
                Some(new) => Some(format!("that is {ty} and will be {}", new.ty.catalog_name())),
            };
            found
                .extend(change.map(|change| {
                    (table, format!("{label}, which uses the column {column} of {shown}, and {change}"))
                }));
        }
        let expected = new.columns.iter().map(|column| (column.name.clone(), column.ty.catalog_name()));
        let was = columns.get(&table).map_or(&[][..], Vec::as_slice);
        if again || expected.eq(was.iter().cloned()) {
            continue;
        }
        if row.get(6) {
            found.push((table, format!("{label}, which takes whole rows, and the columns of {shown} change")));
        }
        let sql = "SELECT pg_get_viewdef($1::oid)";
        // None, if it has just been dropped.
        let definition: Option<String> = session.query_one(format!("reading {label}"), sql, &[&view]).await?.get(0);
        if definition.is_some_and(|definition| renames_by_position(&definition, &shown)) {
            let why = "which gives columns other names by their position, and the columns of";
            found.push((table, format!("{label}, {why} {shown} change")));
        }
    }
    Ok(found)
}

/// Names and types of the columns of tables, in their order.
async fn columns(session: &Session, live: &[LiveTable]) -> Result<BTreeMap<u32, Vec<(String, String)>>, PgError> {
    let sql = "SELECT attrelid, attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
               WHERE attrelid = ANY ($1) AND attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum";
    let mut all: BTreeMap<u32, Vec<(String, String)>> = BTreeMap::new();
    for row in session.query("reading the columns of the tables", sql, &[&oids(live)]).await? {
        all.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
    }
    Ok(all)
}

/// Whether a definition renames the columns of a table, as in `FROM public.posts p(a, b)`. In another order other
/// columns would get these names, without an error. PostgreSQL writes this too where several tables are joined by
/// columns of one name. Taken for it may be what only looks like it, as in a string.
fn renames_by_position(definition: &str, table: &str) -> bool {
    let renamed = |(at, _): (usize, &str)| {
        let Some(alias) = definition[at + table.len()..].strip_prefix(' ') else { return false };
        let end = match alias.strip_prefix('"') {
            // In the end only the quote that is no half of a doubled one has no quote behind it.
            Some(quoted) => quoted.replace("\"\"", "__").find('"').map_or(alias.len(), |end| end + 2),
            None => alias.find([' ', ',', '(', ')', ';', '\n']).unwrap_or(alias.len()),
        };
        end > 0 && alias[end..].starts_with('(')
    };
    definition.match_indices(table).any(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn column_aliases_are_found_behind_a_table() {
        let cases = [
            (" SELECT p.a FROM public.posts p(a, b);", true),
            (" SELECT p.a FROM (ONLY public.posts \"odd \"\"( p\"(a, b) JOIN x USING (a))", true),
            (" SELECT p.a FROM public.posts p, LATERAL f(a)", false),
            (" SELECT p.a FROM (public.posts p JOIN public.posts q(x) USING (a))", true),
            (" SELECT id FROM public.posts", false),
            (" SELECT id FROM public.posts WHERE (a = 1)", false),
            (" SELECT id FROM public.posts \"p(\" WHERE (a = 1)", false),
            (" SELECT id FROM public.posts\n  GROUP BY (id)", false),
            (" SELECT id FROM public.posts_old p(a)", false),
        ];
        for (definition, expected) in cases {
            assert_eq!(renames_by_position(definition, "public.posts"), expected, "{definition}");
        }
    }
}
