//! What is stored nowhere, or not where the schema says: rejected documents, and values without a place.

use std::collections::BTreeMap;

use gizer_pg::state::{self, RejectReasons, UnfitCount, UnfitRow};
use gizer_pg::{PgError, Session};
use serde_json::{Value, json};

use crate::ui::report::{self, counted, thousands};

/// Lines of one kind that a person is shown.
const MAX_LINES: usize = 10;

/// Paths that are named in one line.
const MAX_NAMED_PATHS: usize = 5;

/// What is stored nowhere, or not where the schema says, by collection.
#[derive(Debug, Default)]
pub(crate) struct Misplaced {
    unfit: BTreeMap<String, Vec<UnfitRow>>,
    rejects: BTreeMap<String, RejectReasons>,
}

impl Misplaced {
    /// Reads it from the state tables.
    pub(crate) async fn read(session: &Session) -> Result<Misplaced, PgError> {
        let (unfit, rejects) = (state::read_unfit(session).await?, state::read_reject_reasons(session).await?);
        Ok(Misplaced { unfit, rejects })
    }

    /// Keeps what is of these collections.
    pub(crate) fn retain(&mut self, collections: &[String]) {
        self.unfit.retain(|name, _| collections.contains(name));
        self.rejects.retain(|name, _| collections.contains(name));
    }

    /// Why documents have no rows; nothing if all have.
    pub(crate) fn rejects_text(&self) -> String {
        let all = self.rejects.iter().flat_map(|(name, reasons)| reasons.iter().map(move |reason| (name, reason)));
        let rows: Vec<Vec<String>> =
            all.map(|(name, (reason, count))| vec![name.clone(), reason.clone(), thousands(*count)]).collect();
        section("documents rejected", &["collection", "reason", "documents"], &["documents"], rows)
    }

    /// What came that the schemas have no place for; nothing if all had one.
    pub(crate) fn unfit_text(&self) -> String {
        let mut all: Vec<(&String, &UnfitRow)> =
            self.unfit.iter().flat_map(|(name, rows)| rows.iter().map(move |row| (name, row))).collect();
        all.sort_by_key(|(_, row)| (row.what.is_none(), std::cmp::Reverse(row.count)));
        let row = |(name, row): &(&String, &UnfitRow)| {
            let [path, came, expected] = match &row.what {
                Some(UnfitCount { path, came, expected, .. }) => {
                    let expected = expected.clone().unwrap_or_else(|| "unknown field".to_owned());
                    [path.clone(), came.clone(), expected]
                }
                None => ["all other paths".to_owned(), String::new(), String::new()],
            };
            let (documents, times) = (thousands(row.documents), thousands(row.count));
            vec![(*name).clone(), path, came, expected, documents, times, row.first_at.clone()]
        };
        let header = ["collection", "path", "came", "expected", "documents", "times", "since"];
        let rows = all.iter().map(row).collect();
        section("without a place in the schema, since the last load", &header, &["documents", "times"], rows)
    }

    pub(crate) fn rejects_json(&self, collection: &str) -> Value {
        let reasons = self.rejects.get(collection).into_iter().flatten();
        reasons.map(|(reason, count)| json!({"reason": reason, "documents": count})).collect()
    }

    pub(crate) fn unfit_json(&self, collection: &str) -> Value {
        let row = |row: &UnfitRow| {
            let what = row.what.as_ref();
            json!({
                "path": what.map(|what| &what.path), "came": what.map(|what| &what.came),
                "expected": what.and_then(|what| what.expected.as_ref()), "count": row.count, "documents": row.documents,
                "first_at": row.first_at, "last_at": row.last_at,
            })
        };
        self.unfit.get(collection).into_iter().flatten().map(row).collect()
    }

    /// What came without a place, in a line for each collection.
    pub(crate) fn in_lines(&self) -> impl Iterator<Item = (String, String)> {
        self.unfit.iter().map(|(name, rows)| {
            let named = rows.iter().filter_map(|row| row.what.as_ref());
            let path = |what: &UnfitCount| format!("{} ({})", what.path, what.came);
            let mut paths: Vec<String> = named.take(MAX_NAMED_PATHS).map(path).collect();
            if let Some(more @ 1..) = rows.len().checked_sub(paths.len()) {
                paths.push(format!("{} more", thousands(more as u64)));
            }
            let first = rows.iter().map(|row| row.first_at.as_str()).min().unwrap_or_default();
            let values = counted(rows.iter().map(|row| row.count).sum(), "value", "values");
            (name.clone(), format!("since {first} {values} came without a place in the schema: {}", paths.join(", ")))
        })
    }
}

/// A table under a title, of the first rows; nothing if there are none.
pub(super) fn section(title: &str, header: &[&str], numbers: &[&str], mut rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let more = match rows.len().saturating_sub(MAX_LINES) {
        0 => String::new(),
        more => format!(" … and {}; --format json has all\n", counted(more as u64, "more", "more")),
    };
    rows.truncate(MAX_LINES);
    format!("\n{title}\n{}{more}", report::table(header, numbers, rows))
}
