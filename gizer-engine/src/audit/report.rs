//! Findings of an audit, which add up over chunks, segments and runs.

use std::collections::BTreeMap;

use gizer_flatten::RowPosition;
use gizer_flatten::change::ClusterTime;
use gizer_schema::Layout;
use gizer_schema::names::shortened;
use gizer_verify::{Audited, Difference, Fault, NotRebuilt, Stand, Verdict};
use serde::{Deserialize, Serialize};

/// Findings for a collection, or a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditReport {
    /// Documents read.
    pub documents: u64,
    /// Their rows, over all tables.
    pub rows: u64,
    /// Documents whose rows are equal.
    pub equal: u64,
    /// Documents with rows that differ.
    pub different: u64,
    /// Documents without a row in the root table.
    pub only_in_mongodb: u64,
    /// Keys with rows and without a document.
    pub only_in_postgresql: u64,
    /// Documents without rows because they were rejected.
    pub rejected: u64,
    /// Documents that changed after the tables' time.
    pub not_compared: u64,
    /// Documents repaired since.
    pub repaired: u64,
    /// By table.
    pub tables: BTreeMap<String, TableReport>,
    /// The first differences.
    pub differences: Vec<NamedDifference>,
    /// Differences beyond those.
    pub more: u64,
    /// Keys, as text, of different documents whose `_id` the key does not tell (a hash). Their rows
    /// belong to a document even if they do not say so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub untold: Vec<String>,
    /// Each part of the tables equals the documents at some time in this span.
    pub proven: Option<ProvenSpan>,
}

/// A span of cluster time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenSpan {
    #[serde(with = "time_text")]
    pub from: ClusterTime,
    #[serde(with = "time_text")]
    pub until: ClusterTime,
}

/// Findings for one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableReport {
    /// Stored rows.
    pub rows: u64,
    /// Rows of documents missing in the table.
    pub missing: u64,
    /// Rows without a document.
    pub left_over: u64,
    /// Duplicate rows.
    pub repeated: u64,
    /// Different rows, by the first different column.
    pub cells: BTreeMap<String, u64>,
}

/// A different row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedDifference {
    pub table: String,
    pub key: String,
    /// Numbers in arrays, text in maps.
    pub positions: Vec<serde_json::Value>,
    pub fault: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub column: Option<String>,
    /// The document's value, if values are shown.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stored: Option<String>,
    /// Description without values.
    pub text: String,
}

fn position(position: &RowPosition) -> serde_json::Value {
    match position {
        RowPosition::Index(index) => (*index).into(),
        RowPosition::Key(key) => key.as_str().into(),
    }
}

impl NamedDifference {
    fn new(layout: &Layout, difference: &Difference) -> NamedDifference {
        let table = layout.table(difference.table);
        let (fault, column) = match difference.fault {
            Fault::Missing => ("missing", None),
            Fault::LeftOver => ("left over", None),
            Fault::Repeated => ("repeated", None),
            Fault::Cell(column) => ("cell", Some(table.columns[column.0].name.clone())),
        };
        NamedDifference {
            table: table.name.clone(),
            key: difference.key.clone(),
            positions: difference.positions.iter().map(position).collect(),
            fault: fault.to_owned(),
            column,
            expected: difference.values.as_ref().map(|values| values.document.clone()),
            stored: difference.values.as_ref().map(|values| values.stored.clone()),
            text: Difference { values: None, ..difference.clone() }.describe(layout),
        }
    }

    /// Description for people, with both values if they are shown.
    pub fn described(&self) -> String {
        match (&self.expected, &self.stored) {
            (Some(expected), Some(stored)) => {
                format!("{}: {expected:?} in the document, {stored:?} in the table", self.text)
            }
            _ => self.text.clone(),
        }
    }
}

impl AuditReport {
    /// Whether everything compared is equal.
    pub fn is_equal(&self) -> bool {
        self.differing() == 0
    }

    /// The report without document contents, which are only shown on request.
    pub fn without_values(&self) -> AuditReport {
        let mut report = self.clone();
        for difference in &mut report.differences {
            (difference.expected, difference.stored) = (None, None);
        }
        report
    }

    /// Number of keys with differences.
    pub fn differing(&self) -> u64 {
        self.different + self.only_in_mongodb + self.only_in_postgresql
    }

    /// Adds stored rows, by table.
    pub fn add_stored(&mut self, layout: &Layout, stored: &[u64]) {
        for (table, rows) in layout.tables.iter().zip(stored) {
            self.table(&table.name).rows += rows;
        }
    }

    /// Adds final differences; at most `named` are named in all.
    pub fn add_differences(&mut self, layout: &Layout, audited: &Audited, named: usize) {
        for key in &audited.differing {
            *match key.stand {
                Stand::Different => &mut self.different,
                Stand::OnlyDocument => &mut self.only_in_mongodb,
                Stand::OnlyRows => &mut self.only_in_postgresql,
            } += 1;
        }
        let Verdict { differences, more, faults, .. } = &audited.verdict;
        for ((table, fault), count) in faults {
            let of = layout.table(*table);
            let counts = self.table(&of.name);
            match fault {
                Fault::Missing => counts.missing += count,
                Fault::LeftOver => counts.left_over += count,
                Fault::Repeated => counts.repeated += count,
                Fault::Cell(column) => {
                    *counts.cells.entry(of.columns[column.0].name.clone()).or_default() += count;
                }
            }
        }
        self.more += more;
        self.name(differences.iter().map(|each| NamedDifference::new(layout, each)), named);
    }

    /// Adds documents that cannot be rebuilt from equal rows: a bug in gizer.
    pub fn add_not_rebuilt(&mut self, layout: &Layout, not_rebuilt: &[NotRebuilt], named: usize) {
        self.different += not_rebuilt.len() as u64;
        let table = &layout.tables[0].name;
        let differences = not_rebuilt.iter().map(|each| NamedDifference {
            table: table.clone(),
            key: each.key.clone(),
            positions: Vec::new(),
            fault: "rebuilt".to_owned(),
            // A key of a map may be long.
            column: Some(shortened(&each.path).into_owned()),
            expected: None,
            stored: None,
            text: format!(
                "{table}, key {}: the document cannot be rebuilt from its rows, first at {:?}: a bug in gizer, which no repair fixes",
                each.key,
                shortened(&each.path)
            ),
        });
        self.name(differences, named);
    }

    /// Notes that a part of the tables, but for differences, equals the documents at this time.
    pub fn prove_at(&mut self, time: ClusterTime) {
        let proven = self.proven.get_or_insert(ProvenSpan { from: time, until: time });
        proven.from = proven.from.min(time);
        proven.until = proven.until.max(time);
    }

    /// Adds other findings; at most `named` differences are named in all.
    pub fn add(&mut self, other: AuditReport, named: usize) {
        self.documents += other.documents;
        self.rows += other.rows;
        self.equal += other.equal;
        self.different += other.different;
        self.only_in_mongodb += other.only_in_mongodb;
        self.only_in_postgresql += other.only_in_postgresql;
        self.rejected += other.rejected;
        self.not_compared += other.not_compared;
        self.repaired += other.repaired;
        self.untold.extend(other.untold);
        for (name, table) in other.tables {
            let TableReport { rows, missing, left_over, repeated, cells } = table;
            let own = self.table(&name);
            own.rows += rows;
            own.missing += missing;
            own.left_over += left_over;
            own.repeated += repeated;
            for (column, count) in cells {
                *own.cells.entry(column).or_default() += count;
            }
        }
        self.more += other.more;
        self.name(other.differences.into_iter(), named);
        if let Some(ProvenSpan { from, until }) = other.proven {
            self.prove_at(from);
            self.prove_at(until);
        }
    }

    /// Names differences one by one up to `named` in all, and counts those beyond.
    fn name(&mut self, differences: impl ExactSizeIterator<Item = NamedDifference>, named: usize) {
        let room = named.saturating_sub(self.differences.len());
        self.more += differences.len().saturating_sub(room) as u64;
        self.differences.extend(differences.take(room));
    }

    fn table(&mut self, name: &str) -> &mut TableReport {
        self.tables.entry(name.to_owned()).or_default()
    }
}

/// The form of times in state tables.
mod time_text {
    use gizer_flatten::change::ClusterTime;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(time: &ClusterTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ClusterTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::custom("expected Timestamp(<seconds>, <increment>)"))
    }
}
