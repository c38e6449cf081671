//! What two schemas of a collection differ in: by paths, and by the tables and columns that follow.
//!
//! ```text
//!   old Schema ─┬─ paths: added, removed, of another type or policy, named otherwise
//!   new Schema ─┤
//!               └─ Layout ─▶ TableShape ─┬─ tables: made, dropped, renamed; columns
//!        tables in PostgreSQL ─▶ TableShape ─┘
//! ```
//!
//! Everything is said from the old to the new: what is added is in the new one only. What inference has seen (`$seen`) is for
//! people, and no difference.

mod tables;

pub use tables::{ColumnChange, ColumnShape, TableChange, TableShape, compare_tables, shapes};

use std::fmt;

use strum::IntoStaticStr;

use crate::column_type::ScalarType;
use crate::layout::{Layout, LayoutError};
use crate::model::{Dialect, Field, Fields, Node, Schema};

/// All that differs between two schemas of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaDiff {
    /// The names of the collections, if they differ.
    pub collection: Option<(String, String)>,
    /// The dialects, if they differ; whether numbers keep their exact types is of the dialect.
    pub dialect: Option<(Dialect, Dialect)>,
    /// Differences by path, in path order. Of a sub-tree that is in one schema only, the top.
    pub paths: Vec<PathChange>,
    /// Differences by table: those of the new schema in their order, then those that it no longer has.
    pub tables: Vec<TableChange>,
    /// Whether one schema keeps values that the other ignores: there the path is not known, so that it is in `_extra`.
    pub kept_differently: bool,
}

impl SchemaDiff {
    /// Compares two schemas.
    ///
    /// # Errors
    /// [`LayoutError`] if no tables follow from one of them.
    pub fn between(old: &Schema, new: &Schema) -> Result<SchemaDiff, LayoutError> {
        let tables = compare_tables(&shapes(&Layout::new(old)?), &shapes(&Layout::new(new)?));
        let mut walk =
            SchemaWalk { old: old.dialect, new: new.dialect, path: Vec::new(), changes: Vec::new(), kept: false };
        walk.fields(&old.fields, &new.fields);
        Ok(SchemaDiff {
            collection: (old.collection != new.collection).then(|| (old.collection.clone(), new.collection.clone())),
            dialect: (old.dialect != new.dialect).then_some((old.dialect, new.dialect)),
            paths: walk.changes,
            tables,
            kept_differently: walk.kept,
        })
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.collection.is_none() && self.dialect.is_none() && self.paths.is_empty() && self.tables.is_empty()
    }

    /// Whether tables that were loaded by the old schema do not hold what a load by the new one would give.
    pub fn load_due(&self) -> bool {
        self.collection.is_some() || self.dialect.is_some() || !self.tables.is_empty() || self.kept_differently
    }
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathStep {
    /// Into the field of this name.
    Field(String),
    /// Into the elements of an array.
    Element,
    /// Into the entries of a map.
    Entry,
}

/// A path of a schema: `comments[].items[].data` or `tiers{}.name` as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaPath(pub Vec<PathStep>);

impl fmt::Display for SchemaPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Element => f.write_str("[]")?,
                PathStep::Entry => f.write_str("{}")?,
                PathStep::Field(name) if i == 0 => f.write_str(name)?,
                PathStep::Field(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

/// What becomes of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum PathPolicy {
    /// One column of its type.
    Column,
    /// A nested document: columns of the same table.
    Columns,
    /// Rows of a child table.
    Table,
    /// Rows of a child table, whose keys are the names of the entries.
    Map,
    /// One column, a PostgreSQL array.
    Array,
    /// One column of JSON.
    Json,
    /// Not copied.
    Ignore,
}

impl PathPolicy {
    /// Its name: that of `$as` where it has one.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What a schema says of one path, without what is inside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathShape {
    /// What becomes of it.
    pub policy: PathPolicy,
    /// The type of the value, or of an array's elements where that is in the same column.
    pub scalar: Option<ScalarType>,
}

impl fmt::Display for PathShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.policy, self.scalar) {
            (PathPolicy::Column, Some(scalar)) => write!(f, "{scalar}"),
            (PathPolicy::Array, Some(scalar)) => write!(f, "array of {scalar}"),
            (PathPolicy::Json, None) => f.write_str("array as json"),
            (policy, _) => f.write_str(policy.name()),
        }
    }
}

fn said(node: &Node, dialect: Dialect, in_array: bool) -> PathShape {
    let (policy, scalar) = match node {
        Node::Scalar(ScalarType::Json) => (PathPolicy::Json, Some(ScalarType::Json)),
        Node::Scalar(scalar) => (PathPolicy::Column, Some(*scalar)),
        // One value in two columns.
        pair if dialect == Dialect::Classic && pair.is_object_id_pair() => {
            (PathPolicy::Column, Some(ScalarType::ObjectId))
        }
        Node::Document(_) => (PathPolicy::Columns, None),
        Node::Array(_) if in_array => (PathPolicy::Json, None),
        Node::Array(_) | Node::NestedTable(_) => (PathPolicy::Table, None),
        Node::Map(_) => (PathPolicy::Map, None),
        Node::List(scalar) => (PathPolicy::Array, Some(*scalar)),
        Node::Ignored => (PathPolicy::Ignore, None),
    };
    PathShape { policy, scalar }
}

/// A difference at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// Where.
    pub path: SchemaPath,
    /// What.
    pub kind: PathChangeKind,
}

/// What differs at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathChangeKind {
    /// It is in the new schema only.
    Added(PathShape),
    /// It is in the old schema only.
    Removed(PathShape),
    /// It has another type, or another policy.
    Changed(PathShape, PathShape),
    /// Its column or table has another chosen name.
    Named(Option<String>, Option<String>),
}

/// Both schemas at once, from the root.
struct SchemaWalk {
    old: Dialect,
    new: Dialect,
    path: Vec<PathStep>,
    changes: Vec<PathChange>,
    kept: bool,
}

impl SchemaWalk {
    fn fields(&mut self, old: &Fields, new: &Fields) {
        let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            self.path.push(PathStep::Field(name.clone()));
            match (old.get(name), new.get(name)) {
                (Some(old), Some(new)) => self.field(old, new, false),
                (Some(old), None) => self.one(old, self.old, PathChangeKind::Removed),
                (None, Some(new)) => self.one(new, self.new, PathChangeKind::Added),
                (None, None) => {}
            }
            self.path.pop();
        }
    }

    /// A field of one schema only.
    fn one(&mut self, field: &Field, dialect: Dialect, kind: fn(PathShape) -> PathChangeKind) {
        // Unknown to gizer's dialect it is kept in `_extra`; the classic one has nowhere to keep it.
        self.kept |= dialect != Dialect::Classic && ignores(&field.node);
        self.change(kind(said(&field.node, dialect, false)));
    }

    fn field(&mut self, old: &Field, new: &Field, in_array: bool) {
        if old.name != new.name {
            self.change(PathChangeKind::Named(old.name.clone(), new.name.clone()));
        }
        let (was, is) = (said(&old.node, self.old, in_array), said(&new.node, self.new, in_array));
        if was != is {
            return self.change(PathChangeKind::Changed(was, is));
        }
        match (&old.node, &new.node) {
            (Node::Document(old), Node::Document(new)) => self.fields(old, new),
            (Node::Array(old), Node::Array(new)) | (Node::NestedTable(old), Node::NestedTable(new)) => {
                self.inside(PathStep::Element, old, new);
            }
            (Node::Map(old), Node::Map(new)) => self.inside(PathStep::Entry, old, new),
            _ => {}
        }
    }

    fn inside(&mut self, step: PathStep, old: &Field, new: &Field) {
        self.path.push(step);
        self.field(old, new, true);
        self.path.pop();
    }

    fn change(&mut self, kind: PathChangeKind) {
        self.changes.push(PathChange { path: SchemaPath(self.path.clone()), kind });
    }
}

fn ignores(node: &Node) -> bool {
    match node {
        Node::Ignored => true,
        Node::Document(fields) => fields.values().any(|field| ignores(&field.node)),
        // Elements of an array without a column have a table whose making is named.
        _ => false,
    }
}

#[cfg(test)]
mod tests;
