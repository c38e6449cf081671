//! The walk through a layout and through what was seen in `_extra`, at once.

use super::super::DocumentSeen;
use super::super::together::{Names, Values};
use super::super::types_seen::TypesSeen;
use crate::layout::{ColumnId, DocumentPlan, FieldPlan, KeySource, Layout, PathId, Plan, TableId};
use crate::raw::Kind;

/// A step through a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SchemaStep {
    Field(String),
    /// To what is in an array or a map.
    Inside,
}

/// A path with something in `_extra`.
pub(super) struct Place<'s> {
    pub(super) table: TableId,
    /// Field names from the root.
    pub(super) path: Vec<String>,
    /// Whether it is that of the entries of the map with this path.
    pub(super) is_entry: bool,
    /// Where it is in the schema; of an unknown field the document that it is in.
    pub(super) steps: Vec<SchemaStep>,
    pub(super) seen: PlaceSeen<'s>,
}

/// What is there.
pub(super) enum PlaceSeen<'s> {
    /// A field that the schema does not know, the last name of the path.
    Unknown { values: Values<'s> },
    /// Values that do not fit a column.
    Column { column: ColumnId, values: Values<'s> },
    /// Values at the path of a document, an array or a map that are none.
    OfOtherType,
    /// Fields of a document that are not known by their names.
    TooManyNames { documents: u64 },
}

impl Place<'_> {
    /// Whether there is anything but null.
    pub(super) fn has_values(&self) -> bool {
        match &self.seen {
            PlaceSeen::Unknown { values } | PlaceSeen::Column { values, .. } => values_of(&values.types) > 0,
            PlaceSeen::OfOtherType | PlaceSeen::TooManyNames { .. } => true,
        }
    }

    /// Whether the schema has something at the path.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.seen, PlaceSeen::Unknown { .. } | PlaceSeen::TooManyNames { .. })
    }

    /// The path as [`PathInfo::dotted`](crate::PathInfo::dotted) has it.
    pub(super) fn dotted(&self) -> String {
        self.path.join(".") + if self.is_entry { "{}" } else { "" }
    }
}

/// How many values there are, nulls left out.
pub(super) fn values_of(types: &TypesSeen) -> u64 {
    types.all() - types.count(Kind::Null) - types.count(Kind::Undefined)
}

/// All places with something in `_extra`, in path order.
pub(super) fn places<'s>(layout: &Layout, root: &'s DocumentSeen) -> Vec<Place<'s>> {
    let mut walk = PlaceWalk { layout, steps: Vec::new(), found: Vec::new() };
    walk.document(&layout.document, TableId(0), None, &Names::of(&[root]));
    walk.found
}

struct PlaceWalk<'l, 's> {
    layout: &'l Layout,
    steps: Vec<SchemaStep>,
    found: Vec<Place<'s>>,
}

impl<'s> PlaceWalk<'_, 's> {
    fn document(&mut self, plan: &DocumentPlan, table: TableId, path: Option<PathId>, names: &Names<'s>) {
        let fields = path.map(|path| self.layout.path(path).fields.clone()).unwrap_or_default();
        for (name, values) in &names.known {
            let known = plan.fields.binary_search_by(|field| field.name.as_str().cmp(name));
            let values = Values::of(values);
            if let Ok(at) = known {
                let FieldPlan { path, plan, .. } = &plan.fields[at];
                self.steps.push(SchemaStep::Field((*name).to_owned()));
                self.value(plan, table, *path, values);
                self.steps.pop();
            } else if path.is_some() || *name != KeySource::UnderscoreId.field() {
                // With an `_id` a document would have another key.
                let path = fields.iter().cloned().chain([(*name).to_owned()]).collect();
                self.found(table, path, false, PlaceSeen::Unknown { values });
            }
        }
        if names.beyond_limit + names.folded_entries() > 0 {
            self.found(table, fields, false, PlaceSeen::TooManyNames { documents: names.filled });
        }
    }

    fn value(&mut self, plan: &Plan, table: TableId, path: PathId, values: Values<'s>) {
        match plan {
            Plan::Column(column) => self.at(table, path, PlaceSeen::Column { column: *column, values }),
            Plan::Document(document) => {
                self.other_types(table, path, &values, Kind::Document);
                self.document(document, table, Some(path), &Names::of(&values.documents));
            }
            Plan::Table { table: inner, element } => {
                let path = self.layout.table(*inner).path.unwrap_or(path);
                self.other_types(table, path, &values, Kind::Array);
                if let Some(elements) = values.elements() {
                    self.inside(element, *inner, path, elements);
                }
            }
            Plan::Map { table: inner, entries, value } => {
                let path = self.layout.table(*inner).path.unwrap_or(path);
                self.other_types(table, path, &values, Kind::Document);
                // Around a row each map has one entry.
                self.inside(value, *inner, *entries, Names::of(&values.documents).values());
            }
            Plan::Ignored | Plan::ObjectIdPair { .. } => {}
        }
    }

    fn inside(&mut self, plan: &Plan, table: TableId, path: PathId, values: Values<'s>) {
        self.steps.push(SchemaStep::Inside);
        self.value(plan, table, path, values);
        self.steps.pop();
    }

    /// Notes values that are neither null nor of this type, which is that of what is around rows.
    fn other_types(&mut self, table: TableId, path: PathId, values: &Values<'s>, kind: Kind) {
        if values_of(&values.types) > values.types.count(kind) {
            self.at(table, path, PlaceSeen::OfOtherType);
        }
    }

    fn at(&mut self, table: TableId, path: PathId, seen: PlaceSeen<'s>) {
        let path = self.layout.path(path);
        self.found(table, path.fields.clone(), path.is_entry, seen);
    }

    fn found(&mut self, table: TableId, path: Vec<String>, is_entry: bool, seen: PlaceSeen<'s>) {
        self.found.push(Place { table, path, is_entry, steps: self.steps.clone(), seen });
    }
}
