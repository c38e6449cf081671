//! Compares a collection with the tables it became, cell for cell and in both directions.
//!
//! This is the judge of gizer's loads, so it shares no code with what it judges: names of tables and columns, rows and
//! values are worked out here again, in the plainest way from the rules of the classic mapping, and slowly.
//!
//! ```text
//! documents ──▶ expected rows ──┐
//!                               ├──▶ Report: what differs, if anything
//! tables    ──▶ stored rows   ──┘
//! ```
//!
//! [`Oracle::compare`] takes documents as they come, a thousand at a time, fetches all rows with their keys and
//! compares them. Rows with keys that no document has are looked for at the end. Neither side is ever held in memory
//! as a whole.
//!
//! What it leaves to others: names that are too long or taken, and so get a hash; keys of type `TIMESTAMP`; keys
//! from a field `id`, in a schema without `_id`, that are missing or not unique; documents with the same field twice.
//! It refuses all but the last by name.

mod cell;
mod compare;
mod decimal;
mod json;
mod report;
mod rows;
mod stored;
mod tables;
#[cfg(test)]
mod tests;

pub use cell::Cell;
pub use report::{Difference, Report, TableRows};

use tables::Mapping;

/// A judge of one collection's tables.
#[derive(Debug)]
pub struct Oracle {
    collection: String,
    schema: String,
    mapping: Mapping,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The schema file is not one of the classic dialect.
    #[error("schema of {collection}: {problem}")]
    Schema {
        /// The collection.
        collection: String,
        /// What was expected, and what came.
        problem: String,
    },

    /// The schema or a document asks for more than the oracle knows about.
    #[error("the oracle cannot judge {collection}: {problem}")]
    Unsupported {
        /// The collection.
        collection: String,
        /// What it does not know.
        problem: String,
    },

    /// Two documents have one root key, which the schema takes from a field other than `_id`.
    #[error("two documents of {collection} have the key {key}, so that their rows cannot be told apart")]
    SameKey {
        /// The collection.
        collection: String,
        /// The key.
        key: String,
    },

    /// The documents could not be read.
    #[error("could not read documents: {0}")]
    Mongo(Box<mongodb::error::Error>),

    /// The rows could not be read.
    #[error("could not read rows: {0}")]
    Postgres(#[from] tokio_postgres::Error),
}

impl Oracle {
    /// A judge of the tables of `collection` in this PostgreSQL schema, by the text of the collection's schema file.
    ///
    /// # Errors
    /// [`Error::Schema`] or [`Error::Unsupported`].
    pub fn new(collection: &str, schema_file: &str, postgres_schema: &str) -> Result<Self, Error> {
        let mapping = Mapping::new(collection, schema_file)?;
        Ok(Self { collection: collection.into(), schema: postgres_schema.into(), mapping })
    }

    /// The names of the tables, parents before their children.
    pub fn table_names(&self) -> impl Iterator<Item = &str> {
        self.mapping.tables.iter().map(|table| table.name.as_str())
    }
}
