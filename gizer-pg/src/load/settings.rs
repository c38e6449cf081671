//! Comments and storage parameters that somebody has given live tables, carried over to those that replace them.

use gizer_schema::Layout;

use super::description::{OwnComments, describe, own_comments};
use super::survey::{Extent, LiveTable};
use crate::connect::Session;
use crate::error::PgError;
use crate::ident::{quote_identifier, quote_literal};
use crate::state::{self, Descriptions};

/// What is carried over to one table.
#[derive(Debug)]
pub(super) struct TableSettings {
    table: String,
    comments: OwnComments,
    /// As ALTER TABLE SET takes them.
    parameters: Option<String>,
}

/// The storage parameters of the table `$1`, those of its TOAST table among them.
const PARAMETERS: &str = "\
    SELECT string_agg(format('%s = %L', split_part(option, '=', 1), substr(option, strpos(option, '=') + 1)), ', ') \
    FROM (SELECT unnest(c.reloptions) FROM pg_class c WHERE c.oid = $1 \
          UNION ALL \
          SELECT 'toast.' || unnest(t.reloptions) FROM pg_class c JOIN pg_class t ON t.oid = c.reltoastrelid \
          WHERE c.oid = $1) AS options (option)";

/// Reads them from the live tables that the layout still has.
pub(super) async fn read(
    session: &Session,
    live: &[LiveTable],
    left: &Descriptions,
) -> Result<Vec<TableSettings>, PgError> {
    let names: Vec<&str> = live.iter().map(|table| table.name.as_str()).collect();
    let now = describe(session, &names).await?;
    let mut all = Vec::new();
    for table in live.iter().filter(|table| table.in_layout) {
        let doing = format!("reading the storage parameters of {}", table.name);
        let parameters = session.query_one(doing, PARAMETERS, &[&table.oid]).await?.get(0);
        all.push(TableSettings { table: table.name.clone(), comments: own_comments(table, &now, left), parameters });
    }
    Ok(all)
}

/// Records how gizer leaves the new tables, next to how the `others` were left, and then gives them
/// what the old ones had.
pub(super) async fn apply(
    session: &Session,
    layout: &Layout,
    extent: Extent<'_>,
    all: &[TableSettings],
    others: Descriptions,
) -> Result<(), PgError> {
    let names: Vec<&str> = extent.names(layout).collect();
    let mut left = others;
    left.extend(describe(session, &names).await?);
    state::remember_tables(session, &layout.collection, &left).await?;
    for settings in all {
        let at = session.relation(&settings.table)?;
        let Some(table) = layout.tables.iter().find(|table| table.name == settings.table) else { continue };
        let mut statements = Vec::new();
        if let Some(parameters) = &settings.parameters {
            statements.push(format!("ALTER TABLE {at} SET ({parameters})"));
        }
        if let Some(comment) = &settings.comments.table {
            statements.push(format!("COMMENT ON TABLE {at} IS {}", quote_literal(comment)?));
        }
        // The comment on a column that is gone is gone with it.
        for column in &table.columns {
            if let Some(comment) = settings.comments.columns.get(&column.name) {
                let column = quote_identifier(&column.name)?;
                statements.push(format!("COMMENT ON COLUMN {at}.{column} IS {}", quote_literal(comment)?));
            }
        }
        if !statements.is_empty() {
            session.run(format!("carrying settings of {at} over"), &statements.join("; ")).await?;
        }
    }
    Ok(())
}
