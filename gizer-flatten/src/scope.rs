//! Finds the tables that an update can change, from the paths of its edits alone.
//!
//! # Why it is exact
//! A row depends only on the value at its place: the root row on the document, a child row on its
//! element; also on the `_id`, which never changes, and on array indexes, which are the place
//! itself. An edit changes what is above, at or below its path. So a row can only change
//!
//! * if it is **on the way**: its place is above the edit's. Values below its place may be part of
//!   it without a column: the mark of an empty array in `_extra`, a value missing in the schema, a
//!   document kept whole because of a duplicate name, an entry of a map whose key is too long. All
//!   these belong to rows on the way, so the tables of all arrays and maps on the path are affected,
//!   and the root table always is;
//! * or if it is **at or below the end**: the tables of all arrays and maps that the edit sets or cuts.
//!
//! A row comes and goes with its element: by an edit of the element or above it, or by one that
//! fills an array with nulls on its way to an element, whose table is on the way.
//!
//! A map is like an array whose indexes are names.
//!
//! Arrays without a table, and names missing in the schema, are values of the row that holds them.
//! Where a path continues differently from the schema (a field of an array, an element of a
//! document), the schema's value there may become null ([`Edits::Diff`]): this counts as the end.

use gizer_schema::{DocumentPlan, Layout, Plan, TableId};

use crate::change::{Edits, Step};

/// Tables whose rows of a document may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// These, and no other.
    Tables(TableSet),
}

/// Some of the tables of a layout.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableSet {
    /// The first 64 tables, one bit each, enough for most collections.
    first: u64,
    /// Further tables, 64 per word.
    more: Vec<u64>,
}

impl Scope {
    /// The tables that these edits can change, including the root table.
    pub fn of(layout: &Layout, edits: &Edits) -> Scope {
        let Some(paths) = edits.paths() else { return Scope::All };
        let mut tables = TableSet::default();
        tables.insert(TableId(0));
        for path in paths {
            let is_key = |name: &String| name == layout.key.source.field();
            match path.first() {
                Some(Step::Field(name)) if !is_key(name) => tables.add_document(&layout.document, path),
                Some(Step::FieldOrIndex { .. }) => tables.add_document(&layout.document, path),
                // The key never changes and the document is no array: this edit is not understood.
                _ => return Scope::All,
            }
        }
        if tables.len() == layout.tables.len() { Scope::All } else { Scope::Tables(tables) }
    }

    /// Whether rows of this table can have changed.
    pub fn contains(&self, table: TableId) -> bool {
        match self {
            Scope::All => true,
            Scope::Tables(tables) => tables.contains(table),
        }
    }

    /// Adds another scope.
    pub fn add(&mut self, other: &Scope) {
        match (&mut *self, other) {
            (Scope::All, _) => {}
            (Scope::Tables(tables), Scope::Tables(other)) => tables.add(other),
            (Scope::Tables(_), Scope::All) => *self = Scope::All,
        }
    }

    /// The part of it within these tables.
    #[must_use]
    pub fn within(&self, tables: &TableSet) -> Scope {
        Scope::Tables(match self {
            Scope::All => tables.clone(),
            Scope::Tables(own) => TableSet {
                first: own.first & tables.first,
                more: own.more.iter().zip(&tables.more).map(|(own, other)| own & other).collect(),
            },
        })
    }
}

impl TableSet {
    /// Adds a table.
    pub fn insert(&mut self, TableId(at): TableId) {
        match (at / 64).checked_sub(1) {
            None => self.first |= 1 << at,
            Some(word) => {
                self.more.resize(self.more.len().max(word + 1), 0);
                self.more[word] |= 1 << (at % 64);
            }
        }
    }

    /// Whether it has this table.
    pub fn contains(&self, TableId(at): TableId) -> bool {
        let word = match (at / 64).checked_sub(1) {
            None => self.first,
            Some(word) => self.more.get(word).copied().unwrap_or_default(),
        };
        word >> (at % 64) & 1 == 1
    }

    /// Number of tables.
    pub fn len(&self) -> usize {
        let words = std::iter::once(&self.first).chain(&self.more);
        words.map(|word| word.count_ones() as usize).sum()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn add(&mut self, other: &TableSet) {
        self.first |= other.first;
        self.more.resize(self.more.len().max(other.more.len()), 0);
        for (word, other) in self.more.iter_mut().zip(&other.more) {
            *word |= other;
        }
    }

    /// Adds what an edit affects whose path continues from a document of the current row.
    fn add_document(&mut self, document: &DocumentPlan, path: &[Step]) {
        let name = match path.first() {
            Some(Step::Field(name) | Step::FieldOrIndex { name, .. }) => name.as_bytes(),
            Some(Step::Index(_)) | None => return self.add_fields(document),
        };
        // An unknown name is kept in the current row.
        if let Ok(field) = document.fields.binary_search_by(|field| field.name.as_bytes().cmp(name)) {
            self.add_value(&document.fields[field].plan, &path[1..]);
        }
    }

    fn add_value(&mut self, plan: &Plan, path: &[Step]) {
        match (plan, path) {
            (Plan::Column(_) | Plan::ObjectIdPair { .. } | Plan::Ignored, _) => {}
            (Plan::Document(document), _) => self.add_document(document, path),
            (Plan::Table { table, element }, [Step::Index(_) | Step::FieldOrIndex { .. }, rest @ ..]) => {
                self.insert(*table);
                self.add_value(element, rest);
            }
            (Plan::Map { table, value, .. }, [Step::Field(_) | Step::FieldOrIndex { .. }, rest @ ..]) => {
                self.insert(*table);
                self.add_value(value, rest);
            }
            (Plan::Table { .. } | Plan::Map { .. }, _) => self.add_all(plan),
        }
    }

    /// Adds the tables of all arrays and maps in a value.
    fn add_all(&mut self, plan: &Plan) {
        match plan {
            Plan::Column(_) | Plan::ObjectIdPair { .. } | Plan::Ignored => {}
            Plan::Document(document) => self.add_fields(document),
            Plan::Table { table, element: inside } | Plan::Map { table, value: inside, .. } => {
                self.insert(*table);
                self.add_all(inside);
            }
        }
    }

    fn add_fields(&mut self, document: &DocumentPlan) {
        document.fields.iter().for_each(|field| self.add_all(&field.plan));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Edit, EditAction};
    use gizer_schema::file;

    const ORDERS: &str = r#"{"$gizer": 1, "fields": {"_id": "INT", "state": "STRING", "raw": {"$as": "json"},
        "tags": {"$as": "array", "$type": "STRING"}, "3": "INT", "gone": {"$as": "ignore"},
        "address": {"city": "STRING", "notes": [{"text": "STRING"}]},
        "items": [{"qty": "INT", "size": {"x": "INT"}, "parts": [{"n": "INT", "marks": ["INT"]}]}],
        "matrix": [{"$as": "table", "$items": "INT"}], "events": [{"at": "TIMESTAMP"}]}}"#;

    fn orders() -> Layout {
        Layout::new(&file::parse("orders", ORDERS).unwrap()).unwrap()
    }

    fn step(name: &str) -> Step {
        name.parse().map_or_else(|_| Step::Field(name.to_owned()), Step::Index)
    }

    fn edit(path: &str, action: EditAction) -> Edit {
        Edit { path: path.split('.').filter(|step| !step.is_empty()).map(step).collect(), action }
    }

    /// The names of the tables that can have changed, or `all`.
    fn affected(layout: &Layout, edits: &Edits) -> String {
        let scope = Scope::of(layout, edits);
        let within = |(at, _): &(usize, &gizer_schema::Table)| scope.contains(TableId(*at));
        let names = layout.tables.iter().enumerate().filter(within).map(|(_, table)| table.name.as_str());
        if scope == Scope::All { "all".to_owned() } else { names.collect::<Vec<_>>().join(" ") }
    }

    #[test]
    fn the_rows_on_the_way_and_those_below_its_end() {
        let orders = orders();
        for (path, expected) in [
            ("state", "orders"),
            ("raw", "orders"),
            ("raw.items.3.parts", "orders"),
            ("tags", "orders"),
            ("tags.3", "orders"),
            ("gone.deep", "orders"),
            ("unknown.items.3", "orders"),
            ("address.city", "orders"),
            ("address.unknown", "orders"),
            ("address", "orders order_address_notes"),
            ("address.notes.0.text", "orders order_address_notes"),
            ("items.3.qty", "orders order_items"),
            ("items.3.size", "orders order_items"),
            ("items.3.unknown", "orders order_items"),
            ("items.3.parts.1.n", "orders order_items order_item_parts"),
            ("items.3.parts.1.marks.2", "orders order_items order_item_parts order_item_part_marks"),
            ("items.3.parts.1", "orders order_items order_item_parts order_item_part_marks"),
            ("items.3.parts", "orders order_items order_item_parts order_item_part_marks"),
            ("items.3", "orders order_items order_item_parts order_item_part_marks"),
            ("items", "orders order_items order_item_parts order_item_part_marks"),
            ("matrix", "orders order_matrix order_matrix_item"),
            ("matrix.1", "orders order_matrix order_matrix_item"),
            // What the schema has otherwise: an array there would be gone.
            ("items.qty", "orders order_items order_item_parts order_item_part_marks"),
            ("address.3", "orders order_address_notes"),
            ("_id", "all"),
            ("_id.x", "all"),
            ("", "all"),
        ] {
            let edit = edit(path, EditAction::Unset);
            assert_eq!(affected(&orders, &Edits::Paths(vec![edit.path.clone()])), expected, "{path}");
            assert_eq!(affected(&orders, &Edits::Diff(vec![edit])), expected, "{path}");
        }
        let edits = vec![edit("items.3.qty", EditAction::Unset), edit("events", EditAction::Resize(2))];
        assert_eq!(affected(&orders, &Edits::Diff(edits)), "orders order_events order_items");
        assert_eq!(affected(&orders, &Edits::Diff(vec![])), "orders");
        assert_eq!(affected(&orders, &Edits::Unknown), "all");
    }

    #[test]
    fn digits_are_a_place_in_an_array_and_else_a_name() {
        let orders = orders();
        let digits = |name: &str| Step::FieldOrIndex { name: name.to_owned(), index: name.parse().unwrap() };
        for (path, expected) in [
            (vec![step("items"), digits("03"), step("qty")], "orders order_items"),
            (vec![step("address"), digits("3"), step("notes")], "orders"),
            (vec![digits("3")], "orders"),
            (
                vec![step("items"), step("99999999999"), step("qty")],
                "orders order_items order_item_parts order_item_part_marks",
            ),
        ] {
            let edits = vec![Edit { path, action: EditAction::Unset }];
            assert_eq!(affected(&orders, &Edits::Modifiers(edits.clone())), expected, "{edits:?}");
        }
    }

    #[test]
    fn scopes_are_put_together() {
        let orders = orders();
        let of = |path: &str| Scope::of(&orders, &Edits::Diff(vec![edit(path, EditAction::Unset)]));
        let mut scope = of("state");
        scope.add(&of("events.0.at"));
        assert_eq!(scope, of("events"));
        scope.add(&Scope::All);
        assert_eq!(scope, Scope::All);
        scope.add(&of("state"));
        assert_eq!(scope, Scope::All, "nothing is taken away");
        let single = Layout::new(&file::parse("c", r#"{"_id": "INT", "n": "INT"}"#).unwrap()).unwrap();
        assert_eq!(Scope::of(&single, &Edits::Diff(vec![])), Scope::All, "there is but one");
    }

    #[test]
    fn there_may_be_more_than_64_tables() {
        let mut set = TableSet::default();
        let ids = [0, 1, 63, 64, 65, 127, 128, 300];
        ids.iter().for_each(|id| set.insert(TableId(*id)));
        assert_eq!((0..400).filter(|id| set.contains(TableId(*id))).collect::<Vec<_>>(), ids);
        let mut other = TableSet::default();
        other.insert(TableId(2));
        assert!(!other.is_empty() && TableSet::default().is_empty());
        other.add(&set);
        let both = Scope::Tables(other.clone()).within(&set);
        assert_eq!((both.contains(TableId(300)), both.contains(TableId(2))), (true, false));
        assert_eq!((both, Scope::All.within(&set)), (Scope::Tables(set.clone()), Scope::Tables(set)));
        assert_eq!((other.len(), other.contains(TableId(300)), other.contains(TableId(2))), (9, true, true));
    }
}
