//! A layout compiled for walking documents: every field name leads to an action.

use std::collections::HashMap;

use gizer_schema::field_index::{FieldIndex, Walk};
use gizer_schema::raw::{Element, Kind};
use gizer_schema::{ColumnId, ColumnType, DocumentPlan, Layout, PathId, Plan};

use crate::extra::push_escaped;
use crate::tally::Times;

/// Index of a node: one document of the plan.
pub(crate) type NodeId = usize;

/// Index of an action.
pub(crate) type ActionId = usize;

/// What to do with a value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum FieldAction {
    /// Put it into a column of the current row.
    Column { column: ColumnId, ty: ColumnType },
    /// Put an ObjectId into two columns of the current row, or a document `{oid, bsontype}`.
    ObjectIdPair { oid: ColumnId, bsontype: ColumnId, node: NodeId },
    /// Walk its fields, in the current row.
    Document { node: NodeId },
    /// Its elements are rows of another table.
    Table { table: usize, element: ActionId },
    /// Its entries are rows of another table.
    Map(MapAction),
    /// Leave it out.
    Ignore,
}

/// What happens to the entries of a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MapAction {
    pub(crate) table: usize,
    /// Their path.
    pub(crate) entries: PathId,
    pub(crate) value: ActionId,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanField {
    pub(crate) path: PathId,
    pub(crate) action: ActionId,
}

/// Where a value came from, for `_extra`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ValueOrigin {
    /// A field of a document.
    Field { node: NodeId, field: usize },
    /// It is the element that the row stands for.
    Element,
}

/// Where a name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FoundField {
    /// To this field of the node.
    Known(usize),
    /// Nowhere.
    Unknown,
    /// To where it led earlier in this document, or nowhere again.
    Again(Option<PathId>),
}

/// The known fields of one document of the plan.
#[derive(Debug, Clone)]
pub(crate) struct PlanNode {
    names: FieldIndex,
    pub(crate) fields: Vec<PlanField>,
    /// For each field, the last document with it.
    last_in: Vec<u64>,
    /// JSON Pointer of the document, relative to its row.
    pub(crate) pointer: String,
    /// JSON Pointers of the fields, relative to their row.
    pub(crate) pointers: Vec<String>,
    /// Dotted path of the document, with a dot at its end unless empty.
    prefix: String,
    /// Unknown names seen.
    unknown: HashMap<Box<[u8]>, UnknownName>,
}

/// A name missing in the schema.
#[derive(Debug, Clone, Default)]
struct UnknownName {
    /// The last document, nested or not, with it.
    last_in: u64,
    /// Types of its values, usually one.
    kinds: Vec<UnknownKind>,
}

/// Values of one type under an unknown name.
#[derive(Debug, Clone)]
struct UnknownKind {
    kind: Kind,
    times: Times,
    /// The last document of the collection that had one.
    last_of: u64,
}

impl UnknownName {
    fn count(&mut self, kind: Kind, whole: u64) {
        match self.kinds.iter_mut().find(|known| known.kind == kind) {
            Some(known) => {
                known.times.count += 1;
                known.times.documents += u64::from(std::mem::replace(&mut known.last_of, whole) != whole);
            }
            None => self.kinds.push(UnknownKind { kind, times: Times::ONCE, last_of: whole }),
        }
    }
}

impl PlanNode {
    /// Where a field leads in a document of a whole document; counts unknown names.
    pub(crate) fn find(&mut self, walk: &mut Walk, field: &Element<'_>, document: u64, whole: u64) -> FoundField {
        if let Some(found) = self.names.find(walk, field.name) {
            let again = std::mem::replace(&mut self.last_in[found], document) == document;
            return if again { FoundField::Again(Some(self.fields[found].path)) } else { FoundField::Known(found) };
        }
        if let Some(unknown) = self.unknown.get_mut(field.name) {
            unknown.count(field.kind, whole);
            let again = std::mem::replace(&mut unknown.last_in, document) == document;
            return if again { FoundField::Again(None) } else { FoundField::Unknown };
        }
        let mut unknown = UnknownName { last_in: document, ..UnknownName::default() };
        unknown.count(field.kind, whole);
        self.unknown.insert(field.name.into(), unknown);
        FoundField::Unknown
    }

    /// Takes out the counts of unknown names, with their whole paths.
    pub(crate) fn drain_unknown(&mut self) -> impl Iterator<Item = (String, Kind, Times)> {
        let prefix = &self.prefix;
        let of = move |name: &[u8], unknown: UnknownName| {
            let path = format!("{prefix}{}", String::from_utf8_lossy(name));
            unknown.kinds.into_iter().map(move |of| (path.clone(), of.kind, of.times))
        };
        self.unknown.drain().flat_map(move |(name, unknown)| of(&name, unknown))
    }
}

/// All nodes and actions; node `[0]` is the root document.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) nodes: Vec<PlanNode>,
    pub(crate) actions: Vec<FieldAction>,
}

impl Program {
    /// The JSON Pointer of a value, relative to its row.
    pub(crate) fn pointer_of(&self, origin: ValueOrigin) -> &str {
        match origin {
            ValueOrigin::Field { node, field } => &self.nodes[node].pointers[field],
            ValueOrigin::Element => "",
        }
    }

    pub(crate) fn compile(layout: &Layout) -> Program {
        let mut program = Program { nodes: Vec::new(), actions: Vec::new() };
        program.document(layout, 0, &layout.document, String::new(), String::new());
        program
    }

    fn document(
        &mut self,
        layout: &Layout,
        table: usize,
        plan: &DocumentPlan,
        prefix: String,
        pointer: String,
    ) -> NodeId {
        let id = self.nodes.len();
        let pointers: Vec<String> = plan.fields.iter().map(|field| pointer_of(&pointer, &field.name)).collect();
        self.nodes.push(PlanNode {
            names: plan.fields.iter().map(|field| field.name.as_bytes()).collect(),
            fields: Vec::with_capacity(plan.fields.len()),
            last_in: vec![0; plan.fields.len()],
            pointer,
            pointers: pointers.clone(),
            prefix,
            unknown: HashMap::new(),
        });
        for (field, pointer) in plan.fields.iter().zip(pointers) {
            let prefix = format!("{}.", layout.path(field.path).dotted());
            let action = self.action(layout, table, &field.plan, prefix, pointer);
            self.nodes[id].fields.push(PlanField { path: field.path, action });
        }
        id
    }

    fn action(&mut self, layout: &Layout, table: usize, plan: &Plan, prefix: String, pointer: String) -> ActionId {
        let action = match plan {
            Plan::Column(column) => {
                FieldAction::Column { column: *column, ty: layout.tables[table].columns[column.0].ty }
            }
            Plan::ObjectIdPair { oid, bsontype, fields } => {
                let node = self.document(layout, table, fields, prefix, pointer);
                FieldAction::ObjectIdPair { oid: *oid, bsontype: *bsontype, node }
            }
            Plan::Document(document) => {
                FieldAction::Document { node: self.document(layout, table, document, prefix, pointer) }
            }
            Plan::Table { table, element } => {
                // An element is the root of its own row: its pointer is empty.
                let element = self.action(layout, table.0, element, prefix, String::new());
                FieldAction::Table { table: table.0, element }
            }
            Plan::Map { table, entries, value } => {
                let value = self.action(layout, table.0, value, prefix, String::new());
                FieldAction::Map(MapAction { table: table.0, entries: *entries, value })
            }
            Plan::Ignored => FieldAction::Ignore,
        };
        self.actions.push(action);
        self.actions.len() - 1
    }
}

fn pointer_of(document: &str, name: &str) -> String {
    let mut pointer = document.to_owned();
    push_escaped(&mut pointer, name);
    pointer
}
