//! What a comparison found.

use std::fmt;

use super::Cell;

/// Differences that a report names; the others are only counted.
const NAMED: usize = 20;

/// What [`Oracle::compare`](super::Oracle::compare) found.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a report that nobody reads proves nothing"]
pub struct Report {
    /// Documents that were read.
    pub documents: u64,
    /// Those of them whose key does not fit its column, and which should have no rows for that.
    pub rejected: u64,
    /// How many rows each table should have, and has.
    pub tables: Vec<TableRows>,
    /// The first differences, twenty at most.
    pub differences: Vec<Difference>,
    /// How many differences there are in all.
    pub difference_count: u64,
}

/// The number of rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRows {
    /// The table's name.
    pub name: String,
    /// Rows that follow from the documents.
    pub expected: u64,
    /// Rows that are there.
    pub stored: u64,
}

/// One difference between a collection and its tables.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// A table has other columns, or the same in another order, or is not there at all. Its rows are not compared.
    Columns {
        /// The table.
        table: String,
        /// The columns that follow from the schema, with their types.
        expected: Vec<String>,
        /// The columns that are there.
        stored: Vec<String>,
    },
    /// A row has another value.
    Cell {
        /// The table.
        table: String,
        /// Root key and positions of the row.
        key: String,
        /// The column.
        column: String,
        /// The value that follows from the document.
        expected: Cell,
        /// The value that is there.
        stored: Cell,
    },
    /// A row that follows from a document is not there.
    Missing {
        /// The table.
        table: String,
        /// Root key and positions of the row.
        key: String,
    },
    /// A row is there that follows from no document, or is there once too often.
    Extra {
        /// The table.
        table: String,
        /// Root key and positions of the row.
        key: String,
    },
}

impl Report {
    pub(super) fn new() -> Self {
        Self { documents: 0, rejected: 0, tables: Vec::new(), differences: Vec::new(), difference_count: 0 }
    }

    pub(super) fn add(&mut self, difference: Difference) {
        self.difference_count += 1;
        if self.differences.len() < NAMED {
            self.differences.push(difference);
        }
    }

    /// Whether the tables are exactly what the documents say.
    pub fn is_equal(&self) -> bool {
        self.difference_count == 0
    }

    /// Rows of all tables that follow from the documents.
    pub fn expected_rows(&self) -> u64 {
        self.tables.iter().map(|table| table.expected).sum()
    }

    /// This report, if it tells of no difference.
    ///
    /// # Panics
    /// If it does, with the differences: made for tests.
    #[track_caller]
    pub fn expect_equal(self) -> Self {
        assert!(self.is_equal(), "{self}");
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} documents, {} of them without a usable key", self.documents, self.rejected)?;
        for TableRows { name, expected, stored } in &self.tables {
            writeln!(f, "  {name}: {expected} rows expected, {stored} stored")?;
        }
        write!(f, "{} differences", self.difference_count)?;
        for difference in &self.differences {
            write!(f, "\n  {difference}")?;
        }
        let unnamed = self.difference_count - self.differences.len() as u64;
        if unnamed > 0 { write!(f, "\n  and {unnamed} more") } else { Ok(()) }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Columns { table, expected, stored } if stored.is_empty() => {
                write!(f, "{table}: no such table, or no columns; expected {}", expected.join(", "))
            }
            Self::Columns { table, expected, stored } => {
                write!(f, "{table}: expected columns {}; stored {}", expected.join(", "), stored.join(", "))
            }
            Self::Cell { table, key, column, expected, stored } => {
                write!(f, "{table} [{key}] {column}: expected {expected}, stored {stored}")
            }
            Self::Missing { table, key } => write!(f, "{table} [{key}]: no such row"),
            Self::Extra { table, key } => write!(f, "{table} [{key}]: a row too many"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_the_first_differences_and_counts_the_others() {
        let mut report = Report::new();
        assert!(report.is_equal());
        for number in 0..25 {
            report.add(Difference::Missing { table: "t".into(), key: format!("id = {number}") });
        }
        report.add(Difference::Extra { table: "t".into(), key: "id = 1".into() });
        assert!(!report.is_equal());
        let text = report.to_string();
        assert!(text.contains("26 differences\n  t [id = 0]: no such row\n"), "{text}");
        assert!(text.ends_with("t [id = 19]: no such row\n  and 6 more"), "{text}");
    }
}
