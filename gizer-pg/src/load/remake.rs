//! Views that make way for a swap and are recreated in the same transaction, with all that belongs to them.

use gizer_schema::Layout;

use super::grants::{self, Grants};
use super::staging::StagingTable;
use super::survey::{LiveTable, Survey};
use super::views::View;
use crate::connect::Session;
use crate::ddl::add_key;
use crate::error::PgError;
use crate::ident::{Qualified, quote_identifier, quote_literal};

/// Everything that it takes to make a view again.
#[derive(Debug)]
pub(super) struct Remake {
    view: View,
    definition: ViewDefinition,
    grants: Grants,
}

#[derive(Debug)]
struct ViewDefinition {
    /// What follows the view's name in CREATE VIEW.
    create: String,
    /// Defaults of columns, comments.
    others: Vec<String>,
}

/// Constants in definitions are written and read under the same settings, and none of these loses anything.
const SETTINGS: &str = "SET LOCAL extra_float_digits TO 3; SET LOCAL DateStyle TO 'ISO'; \
    SET LOCAL IntervalStyle TO 'postgres'; SET LOCAL array_nulls TO on";

/// Definition, parameters and comment of the view `$1`. The names in the definition are qualified, because the search
/// path is `pg_catalog`.
const VIEW: &str = "\
    SELECT pg_get_viewdef(v.oid), \
           (SELECT string_agg(format('%I = %L', split_part(option, '=', 1), substr(option, strpos(option, '=') + 1)), ', ') \
            FROM unnest(v.reloptions) AS options (option)), \
           obj_description(v.oid, 'pg_class') \
    FROM pg_class v WHERE v.oid = $1";

/// Name, default and comment of the columns of the view `$1`.
const COLUMNS: &str = "\
    SELECT a.attname::text, pg_get_expr(def.adbin, def.adrelid), col_description(a.attrelid, a.attnum) \
    FROM pg_attribute a LEFT JOIN pg_attrdef def ON def.adrelid = a.attrelid AND def.adnum = a.attnum \
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Reads what the views are, each behind those that it uses; they are locked.
pub(super) async fn read(session: &Session, views: &[View]) -> Result<Vec<Remake>, PgError> {
    if views.is_empty() {
        return Ok(Vec::new());
    }
    session.run("preparing to read views", SETTINGS).await?;
    let mut all = Vec::new();
    for view in views {
        let grants = grants::read_one(session, &view.at, view.oid).await?;
        all.push(Remake { view: view.clone(), definition: definition(session, view).await?, grants });
    }
    Ok(all)
}

async fn definition(session: &Session, view: &View) -> Result<ViewDefinition, PgError> {
    let (at, doing) = (&view.at, format!("reading the view {}", view.at));
    let row = session.query_one(&doing, VIEW, &[&view.oid]).await?;
    let (definition, parameters, comment): (String, Option<String>, Option<String>) =
        (row.get(0), row.get(1), row.get(2));
    let (mut names, mut others) = (Vec::new(), Vec::new());
    if let Some(comment) = comment {
        others.push(format!("COMMENT ON VIEW {at} IS {}", quote_literal(&comment)?));
    }
    for row in session.query(&doing, COLUMNS, &[&view.oid]).await? {
        let name = quote_identifier(row.get(0))?;
        if let Some(default) = row.get::<_, Option<String>>(1) {
            others.push(format!("ALTER VIEW {at} ALTER COLUMN {name} SET DEFAULT {default}"));
        }
        if let Some(comment) = row.get::<_, Option<String>>(2) {
            others.push(format!("COMMENT ON COLUMN {at}.{name} IS {}", quote_literal(&comment)?));
        }
        names.push(name);
    }
    // A view may have no columns at all, but no empty list of them.
    let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    let parameters = parameters.map_or_else(String::new, |parameters| format!(" WITH ({parameters})"));
    Ok(ViewDefinition { create: format!("{names}{parameters} AS {definition}"), others })
}

/// Drops the views. Whatever else depends on one stops it, and so nothing goes that would not come again.
pub(super) async fn drop_views(session: &Session, all: &[Remake]) -> Result<(), PgError> {
    if all.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = all.iter().map(|remake| remake.view.at.to_string()).collect();
    session.run("dropping the views on the tables", &format!("DROP VIEW {}", names.join(", "))).await
}

/// Makes the views again, now that the new tables have their names and rights.
///
/// # Errors
/// [`PgError::NotCarriedOver`] if the new tables do not allow of a view.
pub(super) async fn create(session: &Session, all: &[Remake], live: &[LiveTable]) -> Result<(), PgError> {
    for Remake { view, definition: ViewDefinition { create, others }, .. } in all {
        let mut statements = vec![format!("CREATE VIEW {}{create}", view.at)];
        statements.extend_from_slice(others);
        for statement in &statements {
            let made = session.run(format!("recreating the view {}", view.at), statement).await;
            made.map_err(|error| not_allowed(session, view, live, error))?;
        }
    }
    // Only now: a view that is still one's own can be given comments and defaults whoever is to have it.
    let rights: Vec<&Grants> = all.iter().map(|remake| &remake.grants).collect();
    grants::apply(session, &rights).await
}

fn not_allowed(session: &Session, view: &View, live: &[LiveTable], error: PgError) -> PgError {
    match error {
        PgError::Database { said, .. } | PgError::DataRejected { said, .. } => PgError::NotCarriedOver {
            schema: session.schema().to_owned(),
            table: live.iter().find(|table| table.oid == view.base).map_or("", |table| &table.name).to_owned(),
            object: format!("view {}", view.at),
            said,
        },
        error => error,
    }
}

/// Tries the views on empty tables like the new ones before the load, and leaves none.
///
/// The tables are temporary ones under the names of the live tables: definitions are read with gizer's schema on the
/// search path, so that their names are not qualified, and what is temporary is found first. A role that may make no
/// temporary tables learns of it at the swap.
pub(super) async fn rehearse(
    session: &Session,
    layout: &Layout,
    survey: &Survey,
    tables: &[StagingTable],
) -> Result<(), PgError> {
    let may = "SELECT has_database_privilege(current_database(), 'TEMPORARY')";
    if survey.views.is_empty() || !session.query_one("asking for rights", may, &[]).await?.get::<_, bool>(0) {
        return Ok(());
    }
    session.run("setting a savepoint", "SAVEPOINT rehearsal").await?;
    let path = format!("{SETTINGS}; SET LOCAL search_path TO pg_catalog, {}", quote_identifier(session.schema())?);
    session.run("preparing to read views", &path).await?;
    let mut definitions = Vec::new();
    for view in &survey.views {
        definitions.push(definition(session, view).await?.create);
    }
    for table in tables {
        let at = Qualified::new("pg_temp", table.live.name())?;
        let key = add_key(layout, table.id, &at, &table.staging_key)?;
        let sql = format!("CREATE TEMPORARY TABLE {at} (LIKE {}); {key}", table.staging);
        session.run(format!("rehearsing with {}", table.live), &sql).await?;
    }
    for (view, definition) in survey.views.iter().zip(&definitions) {
        // Nobody speaks of views in other schemas without the schema.
        let name = match view.at.schema() == session.schema() {
            true => view.at.name().to_owned(),
            false => format!("gizer_rehearsal_{}", view.oid),
        };
        let sql = format!("CREATE TEMPORARY VIEW {}{definition}", quote_identifier(&name)?);
        let made = session.run(format!("rehearsing the view {}", view.at), &sql).await;
        made.map_err(|error| not_allowed(session, view, &survey.live, error))?;
    }
    session.run("rolling back", "ROLLBACK TO SAVEPOINT rehearsal; RELEASE SAVEPOINT rehearsal").await
}
