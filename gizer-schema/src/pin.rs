//! Names that stay: what a path was once called, it is called in every later schema file.
//!
//! The mapping gives a name that two paths want to the first of them in path order, and a hash to the other. A field that
//! appears later can come first in that order, and would take a column's name away. So names that are not the plain
//! ones, and those that a new schema would change, are written into the schema file.

use std::collections::HashMap;

use crate::layout::{ColumnSource, Container, Layout, LayoutError, PathInfo, TableId};
use crate::model::{Field, Fields, Node, Schema};
use crate::names::{hashed, short_hash};

/// What a name is of: a path's table or its column. The root table has the empty path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Named {
    Table(Vec<String>),
    /// In the table of a path, that of another one; of the values of a map those of its own. What goes into another table gets a
    /// new column.
    Column {
        table: Vec<String>,
        path: Vec<String>,
        is_entry: bool,
    },
}

/// Writes names into `schema`: those that `previous` has for the same paths, where the mapping would change them now,
/// and those that are hashed. Where both layouts cannot be had, nothing is changed.
///
/// # Errors
/// [`LayoutError`] if no tables follow from the schema, before or after.
pub fn pin_names(schema: &mut Schema, previous: Option<&Layout>) -> Result<(), LayoutError> {
    let now = names_of(&Layout::new(schema)?);
    let before = previous.map(names_of).unwrap_or_default();
    let mut pinned = HashMap::new();
    for (named, name) in now {
        match before.get(&named) {
            Some(old) if *old != name => drop(pinned.insert(named, old.clone())),
            _ if is_hashed(&name, &named, &schema.collection) => drop(pinned.insert(named, name)),
            _ => {}
        }
    }
    pin(schema, &pinned);
    Layout::new(schema).map(drop)
}

/// Most names that are tried for one table.
const MAX_TRIES: usize = 100;

/// Gives each table that is taken another name, hashed from its collection and path, and writes it into `schema`.
///
/// `is_taken` says so of a table, whose name may be another collection's.
///
/// # Errors
/// [`LayoutError`] if no tables follow from the schema, before or after; [`LayoutError::NameTaken`] if every name is taken.
pub fn rename_taken_tables(
    schema: &mut Schema,
    is_taken: impl Fn(&Layout, TableId) -> bool,
) -> Result<(), LayoutError> {
    let first = Layout::new(schema)?;
    let mut layout = first.clone();
    for tries in 0..MAX_TRIES {
        let mut pinned = HashMap::new();
        for id in (0..layout.tables.len()).map(TableId) {
            if is_taken(&layout, id) {
                let path = table_path(&layout, id);
                let salted = format!("{}\0{}{}", schema.collection, path.join("\0"), "\0".repeat(tries));
                pinned.insert(Named::Table(path), hashed(&first.table(id).name.replace('\0', ""), &salted));
            }
        }
        if pinned.is_empty() {
            return Ok(());
        }
        pin(schema, &pinned);
        layout = Layout::new(schema)?;
    }
    let (collection, name) = (schema.collection.clone(), layout.tables[0].name.clone());
    Err(LayoutError::NameTaken { collection, name, path: "its tables".to_owned() })
}

fn pin(schema: &mut Schema, pinned: &HashMap<Named, String>) {
    if let Some(name) = pinned.get(&Named::Table(Vec::new())) {
        schema.table = Some(name.clone());
    }
    pin_fields(&mut schema.fields, &[], &mut Vec::new(), pinned);
}

fn table_path(layout: &Layout, id: TableId) -> Vec<String> {
    layout.table(id).path.map(|path| layout.path(path).fields.clone()).unwrap_or_default()
}

fn names_of(layout: &Layout) -> HashMap<Named, String> {
    let mut names = HashMap::new();
    for (id, table) in layout.tables.iter().enumerate() {
        names.insert(Named::Table(table_path(layout, TableId(id))), table.name.clone());
        for column in &table.columns {
            if let ColumnSource::Field(path) = column.source {
                let PathInfo { fields, is_entry, .. } = layout.path(path);
                let (table, path, is_entry) = (table_path(layout, TableId(id)), fields.clone(), *is_entry);
                names.insert(Named::Column { table, path, is_entry }, column.name.clone());
            }
        }
    }
    names
}

fn is_hashed(name: &str, named: &Named, collection: &str) -> bool {
    let identity = match named {
        Named::Table(path) => format!("{collection}\0{}", path.join("\0")),
        Named::Column { path, .. } => path.join("\0"),
    };
    name.ends_with(&format!("_{}", short_hash(&identity)))
}

fn pin_fields(fields: &mut Fields, table: &[String], path: &mut Vec<String>, pinned: &HashMap<Named, String>) {
    for (name, field) in fields {
        path.push(name.clone());
        pin_field(field, None, table, path, pinned);
        path.pop();
    }
}

/// `inside` is what the field is an element or an entry of.
fn pin_field(
    field: &mut Field,
    inside: Option<Container>,
    table: &[String],
    path: &mut Vec<String>,
    pinned: &HashMap<Named, String>,
) {
    match (&mut field.node, inside) {
        (Node::Document(inner), _) => pin_fields(inner, table, path, pinned),
        (Node::Ignored, _) => {}
        (Node::Scalar(_) | Node::List(_), _) | (Node::Array(_), Some(_)) => {
            let is_entry = inside == Some(Container::Map);
            let named = Named::Column { table: table.to_vec(), path: path.clone(), is_entry };
            if let Some(name) = pinned.get(&named) {
                field.name = Some(name.clone());
            }
        }
        (Node::Array(inner) | Node::NestedTable(inner), _) => {
            pin_table(&mut field.name, inner, Container::Array, inside, path, pinned);
        }
        (Node::Map(inner), _) => pin_table(&mut field.name, inner, Container::Map, inside, path, pinned),
    }
}

/// Pins the name of an array's or a map's table, and what is inside of it.
fn pin_table(
    name: &mut Option<String>,
    inner: &mut Field,
    container: Container,
    inside: Option<Container>,
    path: &mut Vec<String>,
    pinned: &HashMap<Named, String>,
) {
    path.extend(inside.map(|inside| inside.name_of_inner_table().to_owned()));
    if let Some(pinned) = pinned.get(&Named::Table(path.clone())) {
        *name = Some(pinned.clone());
    }
    // An element or an entry goes by the path of what it is in.
    pin_field(inner, Some(container), &path.clone(), path, pinned);
    if inside.is_some() {
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    fn schema(fields: &str) -> Schema {
        file::parse("posts", &format!("{{\"$gizer\": 1, \"fields\": {fields}}}")).unwrap()
    }

    fn columns(schema: &Schema) -> HashMap<Named, String> {
        names_of(&Layout::new(schema).unwrap())
    }

    #[test]
    fn a_later_field_never_renames_an_old_column() {
        let mut first = schema(r#"{"_id": "INT", "a_b": "INT", "x": [{"y": ["INT"]}], "posts": {"x": ["INT"]}}"#);
        pin_names(&mut first, None).unwrap();
        let before = Layout::new(&first).unwrap();
        // `a.b` comes before `a_b` in path order, `_x` before `x`.
        let mut second = schema(
            r#"{"_id": "INT", "_x": [{"y": ["INT"]}], "a": {"b": "INT"}, "a_b": "INT", "x": [{"y": ["INT"]}],
                "posts": {"x": ["INT"]}}"#,
        );
        pin_names(&mut second, Some(&before)).unwrap();
        let after = columns(&second);
        for (named, name) in names_of(&before) {
            assert_eq!(after[&named], name, "{named:?}");
        }
        assert_eq!(file::parse("posts", &file::write(&second)).unwrap(), second);
    }

    /// A column of another table is another one, even if its path is the same.
    #[test]
    fn what_becomes_a_map_or_none_any_more_gets_plain_names() {
        let map = |values: &str| format!(r#"{{"$as": "map", "$values": {values}}}"#);
        let forms = [
            "\"JSON\"".to_owned(),
            r#"{"n": "INT"}"#.to_owned(),
            r#"["INT"]"#.to_owned(),
            map("\"INT\""),
            map(r#"{"n": "INT"}"#),
        ];
        let of = |form: &str| schema(&format!(r#"{{"_id": "INT", "m": {form}, "o": {form}}}"#));
        for (old, new) in forms.iter().flat_map(|old| forms.iter().map(move |new| (old, new))) {
            let mut later = of(new);
            pin_names(&mut later, Some(&Layout::new(&of(old)).unwrap())).unwrap();
            assert_eq!(later, of(new), "{old} to {new}");
        }
    }

    #[test]
    fn plain_names_are_not_written() {
        let mut plain = schema(r#"{"_id": "INT", "a": {"b": "INT"}, "l": [{"m": ["INT"]}]}"#);
        let copy = plain.clone();
        pin_names(&mut plain, None).unwrap();
        assert_eq!(plain, copy);
        let mut hashed = schema(r#"{"_id": "INT", "a": {"b": "INT"}, "a_b": "INT"}"#);
        pin_names(&mut hashed, None).unwrap();
        assert!(hashed.fields["a_b"].name.as_deref().unwrap().starts_with("a_b_"));
    }

    #[test]
    fn a_taken_table_gets_a_stable_name_that_stays() {
        let fields = r#"{"_id": "INT", "l": [{"m": ["INT"]}]}"#;
        let is_taken = |layout: &Layout, id| ["posts", "post_l"].contains(&layout.table(id).name.as_str());
        let mut renamed = schema(fields);
        rename_taken_tables(&mut renamed, is_taken).unwrap();
        let names: Vec<String> = Layout::new(&renamed).unwrap().tables.into_iter().map(|table| table.name).collect();
        assert_eq!(names, ["posts_607eb88b", "post_l_e2600f34", "post_l_m"]);
        assert_eq!(file::parse("posts", &file::write(&renamed)).unwrap(), renamed);
        // Nobody else has the names any more.
        let mut later = schema(r#"{"_id": "INT", "a": "INT", "l": [{"m": ["INT"]}]}"#);
        pin_names(&mut later, Some(&Layout::new(&renamed).unwrap())).unwrap();
        assert_eq!((&later.table, &later.fields["l"]), (&renamed.table, &renamed.fields["l"]));
        // A name that is taken as well is salted.
        let first = |layout: &Layout, id| is_taken(layout, id) || layout.table(id).name == names[1];
        let mut salted = schema(fields);
        rename_taken_tables(&mut salted, first).unwrap();
        let name = salted.fields["l"].name.clone().unwrap();
        assert!(name.starts_with("post_l_") && name != names[1], "{name}");
        rename_taken_tables(&mut salted, |_, _| true).unwrap_err();
    }
}
