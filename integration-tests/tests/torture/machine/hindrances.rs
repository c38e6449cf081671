//! What people have done to the tables: what keeps a collection from being loaded, or some documents out.

use std::collections::BTreeSet;

use bson::{Bson, Document};

use crate::world::World;

/// Tables with a trigger of the user's, which a load cannot replace.
const TRIGGERS: &str = "SELECT DISTINCT c.relname AS name FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
    WHERE NOT t.tgisinternal AND c.relnamespace = 'public'::regnamespace";

/// Constraints of the user's on the table `things`.
const CONSTRAINTS: &str = "SELECT c.conname AS name FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid \
    WHERE t.relname = 'things' AND t.relnamespace = 'public'::regnamespace AND c.conname LIKE 'people%'";

/// What stands between some documents and their rows.
pub(super) struct Hindrances {
    unloadable: BTreeSet<String>,
    constraints: BTreeSet<String>,
}

impl Hindrances {
    pub(super) async fn read(world: &World<'_>) -> Self {
        let names = async |sql: &str| {
            let rows = world.rows(sql).await;
            rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
        };
        Self { unloadable: names(TRIGGERS).await, constraints: names(CONSTRAINTS).await }
    }

    /// Whether no load can help these collections until a person does.
    pub(super) fn explain(&self, missing: &BTreeSet<String>) -> bool {
        missing.is_subset(&self.unloadable)
    }

    /// Whether anything stays missing, should a load of it be due.
    pub(super) fn keep_any_missing(&self) -> bool {
        !self.unloadable.is_empty()
    }

    /// Whether a constraint refuses the rows of a document, by what the document says.
    pub(super) fn refuse(&self, collection: &str, document: &Document) -> bool {
        let has = |name: &str| self.constraints.contains(name);
        let is_large = number(document.get("count")).is_some_and(|count| count >= 900.0);
        // A name that does not fit its column is NULL there.
        let has_name = matches!(document.get("name"), Some(Bson::String(name)) if !name.contains('\0'));
        collection == "things" && ((has("people_small") && is_large) || (has("people_name") && !has_name))
    }
}

fn number(value: Option<&Bson>) -> Option<f64> {
    match value? {
        Bson::Int32(value) => Some(f64::from(*value)),
        Bson::Int64(value) => Some(*value as f64),
        Bson::Double(value) => Some(*value),
        Bson::Decimal128(value) => value.to_string().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn documents_that_a_constraint_refuses_are_known() {
        let with = |constraint: &str| Hindrances {
            unloadable: BTreeSet::new(),
            constraints: BTreeSet::from([constraint.to_owned()]),
        };
        let (small, name) = (with("people_small"), with("people_name"));
        let document = doc! { "_id": 1, "count": 899, "name": "Ann" };
        assert!(!small.refuse("things", &document) && !name.refuse("things", &document));
        assert!(small.refuse("things", &doc! { "count": 900_i64 }));
        assert!(name.refuse("things", &doc! { "name": 5 }) && name.refuse("things", &doc! {}));
        assert!(!name.refuse("others", &doc! {}));
    }
}
