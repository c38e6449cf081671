//! What holds of all differences between schemas.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "generated/mod.rs"]
mod generated;

use generated::schema;
use gizer_schema::diff::{
    ColumnChange, PathChange, PathChangeKind, PathStep, SchemaDiff, TableChange, compare_tables, shapes,
};
use gizer_schema::{Field, Fields, Layout, Node, ScalarType, Schema};
use proptest::prelude::*;

/// Schemas of which tables follow.
fn usable() -> impl Strategy<Value = Schema> {
    schema().prop_filter("no tables follow", |schema| Layout::new(schema).is_ok())
}

/// In an order that does not depend on which of the two is new.
fn sorted(mut diff: SchemaDiff) -> (SchemaDiff, Vec<String>) {
    let table = |change: &mut TableChange| {
        if let TableChange::Changed { columns, .. } = change {
            columns.sort_by_key(|column| format!("{column:?}"));
        }
        format!("{change:?}")
    };
    let mut tables: Vec<String> = diff.tables.iter_mut().map(table).collect();
    tables.sort();
    diff.tables.clear();
    (diff, tables)
}

/// The same from the new to the old.
fn mirrored(diff: SchemaDiff) -> SchemaDiff {
    let path = |change: PathChange| {
        let kind = match change.kind {
            PathChangeKind::Added(said) => PathChangeKind::Removed(said),
            PathChangeKind::Removed(said) => PathChangeKind::Added(said),
            PathChangeKind::Changed(from, to) => PathChangeKind::Changed(to, from),
            PathChangeKind::Named(from, to) => PathChangeKind::Named(to, from),
        };
        PathChange { kind, ..change }
    };
    let column = |change: ColumnChange| match change {
        ColumnChange::Added(column) => ColumnChange::Removed(column),
        ColumnChange::Removed(column) => ColumnChange::Added(column),
        ColumnChange::Changed(old, new) => ColumnChange::Changed(new, old),
    };
    let table = |change: TableChange| match change {
        TableChange::Made(table) => TableChange::Dropped(table),
        TableChange::Dropped(table) => TableChange::Made(table),
        TableChange::Changed { old, new, columns, key } => {
            let columns = columns.into_iter().map(column).collect();
            TableChange::Changed { old: new, new: old, columns, key }
        }
    };
    SchemaDiff {
        collection: diff.collection.map(|(from, to)| (to, from)),
        dialect: diff.dialect.map(|(from, to)| (to, from)),
        paths: diff.paths.into_iter().map(path).collect(),
        tables: diff.tables.into_iter().map(table).collect(),
        kept_differently: diff.kept_differently,
    }
}

/// Every path of a field whose change can be told, with the field.
fn leaves<'f>(fields: &'f mut Fields, path: &[PathStep], found: &mut Vec<(Vec<PathStep>, &'f mut Field)>) {
    for (name, field) in fields {
        let path: Vec<PathStep> = path.iter().cloned().chain([PathStep::Field(name.clone())]).collect();
        leaf(field, path, found);
    }
}

fn leaf<'f>(field: &'f mut Field, path: Vec<PathStep>, found: &mut Vec<(Vec<PathStep>, &'f mut Field)>) {
    let has_more = match &field.node {
        node if node.is_object_id_pair() => false,
        Node::Document(fields) => !fields.is_empty(),
        Node::Array(_) | Node::NestedTable(_) => true,
        _ => false,
    };
    if !has_more {
        return found.push((path, field));
    }
    match &mut field.node {
        Node::Document(fields) => leaves(fields, &path, found),
        Node::Array(element) | Node::NestedTable(element) => {
            leaf(element, path.into_iter().chain([PathStep::Element]).collect(), found);
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn nothing_differs_from_itself(schema in usable()) {
        let diff = SchemaDiff::between(&schema, &schema).unwrap();
        prop_assert!(diff.is_empty() && !diff.load_due(), "{:?}", diff);
    }

    #[test]
    fn the_other_way_round_is_the_mirror(old in usable(), new in usable()) {
        let there = SchemaDiff::between(&old, &new).unwrap();
        let back = SchemaDiff::between(&new, &old).unwrap();
        prop_assert_eq!(sorted(mirrored(there.clone())), sorted(back));
        prop_assert_eq!(mirrored(mirrored(there.clone())), there);
    }

    #[test]
    fn what_differs_is_told(old in usable(), new in usable()) {
        let diff = SchemaDiff::between(&old, &new).unwrap();
        // The oracle: the files without what inference has seen.
        let plain = |schema: &Schema| without_seen(schema.clone());
        let (one, other) = (plain(&old), plain(&new));
        prop_assert_eq!(diff.is_empty(), one == other, "{:?}", diff);
        let tables = compare_tables(&shapes(&Layout::new(&old).unwrap()), &shapes(&Layout::new(&new).unwrap()));
        prop_assert_eq!(diff.tables, tables);
    }

    #[test]
    fn a_change_of_one_field_is_named(old in usable(), which in any::<prop::sample::Index>(), to in 0..4usize) {
        let mut new = old.clone();
        let mut all = Vec::new();
        leaves(&mut new.fields, &[], &mut all);
        let (path, field) = all.swap_remove(which.index(all.len()));
        let node = [Node::Scalar(ScalarType::String), Node::Scalar(ScalarType::BigInt), Node::Document(Fields::new()),
                    Node::Array(Box::new(ScalarType::Boolean.into()))][to].clone();
        prop_assume!(field.node != node);
        field.node = node;
        prop_assume!(Layout::new(&new).is_ok());
        let diff = SchemaDiff::between(&old, &new).unwrap();
        prop_assert_eq!(diff.paths.len(), 1, "{:?}", diff);
        prop_assert_eq!(&diff.paths[0].path.0, &path);
        prop_assert!(matches!(diff.paths[0].kind, PathChangeKind::Changed(..)));
    }

    #[test]
    fn a_field_that_comes_or_goes_is_named(old in usable()) {
        let mut new = old.clone();
        new.fields.insert("zz".to_owned(), ScalarType::Int.into());
        let diff = SchemaDiff::between(&old, &new).unwrap();
        prop_assert_eq!(diff.paths.len(), 1);
        prop_assert_eq!(diff.paths[0].path.to_string(), "zz");
        prop_assert!(diff.load_due() && matches!(diff.paths[0].kind, PathChangeKind::Added(_)));
    }
}

fn without_seen(mut schema: Schema) -> Schema {
    fn clear(field: &mut Field) {
        field.seen.clear();
        match &mut field.node {
            Node::Document(fields) => fields.values_mut().for_each(clear),
            Node::Array(element) | Node::NestedTable(element) => clear(element),
            _ => {}
        }
    }
    schema.fields.values_mut().for_each(clear);
    schema
}
