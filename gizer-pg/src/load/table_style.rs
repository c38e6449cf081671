//! How tables are stored: all that makes staging tables, and what gives them their names in a swap.
//!
//! This is where Citus comes in : a style whose `after_create` distributes the empty staging table by
//! the root key, before the first COPY. Other tables of PostgreSQL's kind need nothing but another variant.

use gizer_schema::Layout;

use super::staging::StagingTable;
use crate::connect::Session;
use crate::ddl::{comments, create_table, is_unique};
use crate::error::PgError;
use crate::ident::quote_identifier;

/// How the tables of a collection are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum TableStyle {
    /// Ordinary tables of one server.
    #[default]
    Local,
}

impl TableStyle {
    /// The statement that makes an empty staging table, without its key.
    pub(super) fn create(self, layout: &Layout, table: &StagingTable) -> Result<String, PgError> {
        match self {
            // Vacuuming a table while it is filled helps nobody, and a running vacuum would hold the swap up.
            TableStyle::Local => {
                Ok(format!("{} WITH (autovacuum_enabled = off)", create_table(layout, table.id, &table.staging)?))
            }
        }
    }

    /// What follows in the same transaction, before the first row: gizer's mark and the source paths.
    pub(super) fn after_create(self, layout: &Layout, table: &StagingTable) -> Result<Vec<String>, PgError> {
        match self {
            TableStyle::Local => comments(layout, table.id, &table.staging),
        }
    }

    /// What gives a staging table and its key their final names, once the live table is gone. Vacuum may come again.
    pub(super) fn rename(
        self,
        session: &Session,
        layout: &Layout,
        table: &StagingTable,
    ) -> Result<Vec<String>, PgError> {
        let TableStyle::Local = self;
        let (name, key) = (quote_identifier(table.live.name())?, quote_identifier(&table.live_key)?);
        let (staging, live) = (&table.staging, &table.live);
        let rename_key = if is_unique(layout) {
            let constraint = quote_identifier(&table.staging_key)?;
            format!("ALTER TABLE {live} RENAME CONSTRAINT {constraint} TO {key}")
        } else {
            format!("ALTER INDEX {} RENAME TO {key}", session.relation(&table.staging_key)?)
        };
        Ok(vec![
            format!("ALTER TABLE {staging} RENAME TO {name}"),
            rename_key,
            format!("ALTER TABLE {live} RESET (autovacuum_enabled)"),
        ])
    }
}
