//! What a later layout of a collection has beyond an earlier one: what evolving adds in place.

use std::collections::BTreeMap;

use super::{ColumnId, DocumentPlan, Layout, Plan, Table, TableId};

/// What a layout adds to an earlier one of the same collection. All numbers are those of the later layout: tables are in the
/// order of their paths, and new ones come between old ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Growth {
    /// New columns of tables that were there before.
    pub columns: Vec<(TableId, ColumnId)>,
    /// New tables, parents before their children.
    pub tables: Vec<TableId>,
    /// Columns that were there before and have another type now.
    pub retyped: Vec<(TableId, ColumnId)>,
    /// Fields that had no place and have one now: the table whose rows hold them in `_extra` so far, and the field's names
    /// relative to the row. What is below a new field is not named.
    pub fields: Vec<(TableId, Vec<String>)>,
}

/// Something of the earlier layout is not in the later one, which is no growth of it then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} of the earlier schema is missing in the later one")]
pub struct NoGrowth {
    /// A table, or a table and its column.
    pub what: String,
}

impl Growth {
    /// What `after` adds to `before`. Tables and columns are the same if they have the same name.
    ///
    /// # Errors
    /// [`NoGrowth`] if a table or a column of `before` is not in `after`.
    pub fn between(before: &Layout, after: &Layout) -> Result<Growth, NoGrowth> {
        let mut growth = Growth::default();
        let earlier: BTreeMap<&str, &Table> = before.tables.iter().map(|table| (table.name.as_str(), table)).collect();
        for (id, table) in after.tables.iter().enumerate() {
            match earlier.get(table.name.as_str()) {
                Some(old) => growth.table(TableId(id), old, table)?,
                None => growth.tables.push(TableId(id)),
            }
        }
        if let Some(gone) = before.tables.iter().find(|old| after.tables.iter().all(|new| new.name != old.name)) {
            return Err(NoGrowth { what: gone.name.clone() });
        }
        growth.fields(TableId(0), &before.document, &after.document, &mut Vec::new());
        Ok(growth)
    }

    /// Whether the later layout is the earlier one.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.tables.is_empty() && self.retyped.is_empty() && self.fields.is_empty()
    }

    /// The tables whose rows may hold what has a place now, each once with its fields.
    pub fn by_table(&self) -> BTreeMap<TableId, Vec<&[String]>> {
        let mut tables: BTreeMap<TableId, Vec<&[String]>> = BTreeMap::new();
        for (table, field) in &self.fields {
            tables.entry(*table).or_default().push(field);
        }
        tables
    }

    fn table(&mut self, id: TableId, old: &Table, new: &Table) -> Result<(), NoGrowth> {
        for (at, column) in new.columns.iter().enumerate() {
            match old.columns.iter().find(|old| old.name == column.name) {
                None => self.columns.push((id, ColumnId(at))),
                Some(old) if old.ty != column.ty => self.retyped.push((id, ColumnId(at))),
                Some(_) => {}
            }
        }
        match old.columns.iter().find(|old| new.columns.iter().all(|new| new.name != old.name)) {
            Some(gone) => Err(NoGrowth { what: format!("{}.{}", old.name, gone.name) }),
            None => Ok(()),
        }
    }

    fn fields(&mut self, table: TableId, before: &DocumentPlan, after: &DocumentPlan, within: &mut Vec<String>) {
        for field in &after.fields {
            within.push(field.name.clone());
            match before.fields.binary_search_by(|old| old.name.cmp(&field.name)) {
                Ok(at) => self.plan(table, &before.fields[at].plan, &field.plan, within),
                Err(_) => self.fields.push((table, within.clone())),
            }
            within.pop();
        }
    }

    fn plan(&mut self, table: TableId, before: &Plan, after: &Plan, within: &mut Vec<String>) {
        match (before, after) {
            (Plan::Document(before), Plan::Document(after)) => self.fields(table, before, after, within),
            (Plan::Table { element: before, .. }, Plan::Table { table, element })
            | (Plan::Map { value: before, .. }, Plan::Map { table, value: element, .. }) => {
                // An element is the root of its own row.
                self.plan(*table, before, element, &mut Vec::new());
            }
            (Plan::Column(_), Plan::Column(column)) if self.retyped.contains(&(table, *column)) => {
                self.fields.push((table, within.clone()));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    fn layout(fields: &str) -> Layout {
        let text = format!(r#"{{"$gizer": 1, "fields": {{"_id": "INT", {fields}}}}}"#);
        Layout::new(&file::parse("posts", &text).unwrap()).unwrap()
    }

    /// Names of what is new, in the later layout.
    fn grown(before: &str, after: &str) -> (Vec<String>, Vec<String>) {
        let (before, after) = (layout(before), layout(after));
        let growth = Growth::between(&before, &after).unwrap();
        let column = |(table, column): &(TableId, ColumnId)| {
            let table = after.table(*table);
            format!("{}.{}", table.name, table.columns[column.0].name)
        };
        let tables = growth.tables.iter().map(|id| after.table(*id).name.clone());
        let fields = growth.fields.iter().map(|(id, field)| format!("{} /{}", after.table(*id).name, field.join("/")));
        let new = growth.columns.iter().map(column).chain(tables);
        (new.collect(), fields.collect())
    }

    #[test]
    fn new_columns_and_tables_are_named_with_where_their_values_are() {
        let before = r#""d": {"x": "INT"}, "l": [{"x": "INT"}], "m": {"$as": "map", "$values": "INT"}"#;
        let after = r#""a": "INT", "d": {"x": "INT", "y": {"z": "INT"}}, "e": ["INT"],
            "l": [{"x": "INT", "y": "INT", "t": [{"u": "INT"}]}], "m": {"$as": "map", "$values": "INT"}"#;
        let (new, fields) = grown(before, after);
        assert_eq!(new, ["posts.a", "posts.d_y_z", "post_l.y", "post_e", "post_l_t"]);
        assert_eq!(fields, ["posts /a", "posts /d/y", "posts /e", "post_l /t", "post_l /y"]);
        assert_eq!(grown(before, before), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_column_of_another_type_is_told_and_what_is_gone_is_refused() {
        let (before, after) = (layout(r#""a": "INT", "l": ["INT"]"#), layout(r#""a": "BIGINT", "l": ["DECIMAL"]"#));
        let growth = Growth::between(&before, &after).unwrap();
        assert_eq!(growth.retyped.len(), 2);
        assert_eq!(growth.fields, [(TableId(0), vec!["a".to_owned()]), (TableId(1), Vec::new())]);
        assert!(Growth::between(&after, &layout(r#""a": "BIGINT""#)).is_err());
        assert!(Growth::between(&after, &layout(r#""l": ["DECIMAL"]"#)).is_err());
    }
}
