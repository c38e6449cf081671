//! A layout, compiled for walking documents: every field name leads to an action.

use std::collections::HashMap;

use gizer_schema::field_index::{FieldIndex, Walk};
use gizer_schema::{ColumnId, ColumnType, DocumentPlan, Layout, PathId, Plan};

/// Index of a node: one document of the plan.
pub(crate) type NodeId = usize;

/// What to do with the value of a field.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// Put it into the current table.
    Place(Placement),
    /// Its elements are rows of another table.
    Table { table: usize, element: Placement },
}

/// Where a value goes in the current table.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Placement {
    Column { column: ColumnId, ty: ColumnType },
    ObjectIdPair { oid: ColumnId, bsontype: ColumnId, node: NodeId },
    Document { node: NodeId },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) path: PathId,
    pub(crate) action: Action,
}

/// The known fields of one document of the plan.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    names: FieldIndex,
    fields: Vec<Field>,
    /// Dotted path of the document, with a dot at its end unless empty.
    prefix: String,
    unknown: HashMap<Box<[u8]>, u64>,
}

impl Node {
    /// The field with this name; counts names that are not known.
    pub(crate) fn find(&mut self, walk: &mut Walk, name: &[u8]) -> Option<Field> {
        if let Some(found) = self.names.find(walk, name) {
            return Some(self.fields[found]);
        }
        if let Some(count) = self.unknown.get_mut(name) {
            *count += 1;
        } else {
            self.unknown.insert(name.into(), 1);
        }
        None
    }

    /// Takes out the counts of unknown names, with their whole paths.
    pub(crate) fn drain_unknown(&mut self) -> impl Iterator<Item = (String, u64)> {
        let prefix = &self.prefix;
        self.unknown.drain().map(move |(name, count)| (format!("{prefix}{}", String::from_utf8_lossy(&name)), count))
    }
}

/// All nodes; `[0]` is the root document.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) nodes: Vec<Node>,
}

impl Program {
    pub(crate) fn compile(layout: &Layout) -> Program {
        let mut program = Program { nodes: Vec::new() };
        program.document(layout, 0, &layout.document, String::new());
        program
    }

    fn document(&mut self, layout: &Layout, table: usize, plan: &DocumentPlan, prefix: String) -> NodeId {
        let id = self.nodes.len();
        self.nodes.push(Node {
            names: plan.fields.iter().map(|field| field.name.as_bytes()).collect(),
            fields: Vec::with_capacity(plan.fields.len()),
            prefix,
            unknown: HashMap::new(),
        });
        for field in &plan.fields {
            let prefix = format!("{}.", layout.path(field.path).dotted());
            let action = self.action(layout, table, &field.plan, prefix);
            self.nodes[id].fields.push(Field { path: field.path, action });
        }
        id
    }

    fn action(&mut self, layout: &Layout, table: usize, plan: &Plan, prefix: String) -> Action {
        match plan {
            Plan::Table { table, element } => {
                Action::Table { table: table.0, element: self.placement(layout, table.0, element, prefix) }
            }
            plan => Action::Place(self.placement(layout, table, plan, prefix)),
        }
    }

    fn placement(&mut self, layout: &Layout, table: usize, plan: &Plan, prefix: String) -> Placement {
        match plan {
            Plan::Column(column) => {
                Placement::Column { column: *column, ty: layout.tables[table].columns[column.0].ty }
            }
            Plan::ObjectIdPair { oid, bsontype, fields } => Placement::ObjectIdPair {
                oid: *oid,
                bsontype: *bsontype,
                node: self.document(layout, table, fields, prefix),
            },
            Plan::Document(document) => Placement::Document { node: self.document(layout, table, document, prefix) },
            Plan::Table { .. } => unreachable!("an array directly in an array is one JSON column"),
        }
    }
}
