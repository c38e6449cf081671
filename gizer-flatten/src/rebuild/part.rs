//! What `_extra` holds, at its place in the document: evidence for a schema that grows.
//!
//! ```text
//!   {"/note": "x"} of a row of posts.comments ──▶ {comments: [{note: "x"}]}, path comments.note
//! ```
//!
//! Only what a larger schema could have a place for is evidence. Left out are marks of null and of what is empty, `undefined`,
//! documents kept whole, entries of maps whose keys are too long, and numbers that are in their column but for their type.

use gizer_schema::raw::{Element, Kind};
use gizer_schema::{ColumnId, Dialect, DocumentPlan, Layout, Plan, TableId};
use serde_json::Value as Json;

use super::value::{BuiltFields, BuiltValue};
use super::{RebuildError, extended, inner_first, names_of_pointer, set};
use crate::column_type::fit;

/// The part of a document that a row's `_extra` holds, at its place in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraPart {
    /// BSON of a whole document, with nothing else in it. Each array around the row has one element, each map one entry, named
    /// `""`; no field at all if `_extra` holds no evidence.
    pub document: Vec<u8>,
    /// Field names from the root of each value, each path once, as those of [`PathInfo`](gizer_schema::PathInfo).
    pub paths: Vec<Vec<String>>,
}

/// The part of a document that the `_extra` of a row of this table holds.
///
/// # Errors
/// [`RebuildError::Extra`] if it is not what gizer writes with this layout; [`RebuildError::Classic`].
pub fn extra_part(layout: &Layout, table: TableId, extra: &Json) -> Result<ExtraPart, RebuildError> {
    if layout.dialect == Dialect::Classic {
        return Err(RebuildError::Classic);
    }
    let name = &layout.table(table).name;
    let wrong =
        |expected, pointer: &str| RebuildError::Extra { table: name.clone(), expected, pointer: pointer.to_owned() };
    let entries = extra.as_object().ok_or_else(|| wrong("an object", ""))?;
    let (steps, row) = steps_to(layout, table).ok_or_else(|| wrong("a row of the layout", ""))?;
    let fields = layout.table(table).path.map(|path| layout.path(path).fields.as_slice()).unwrap_or_default();
    let mut value = BuiltValue::Document(BuiltFields::default());
    let mut paths = Vec::new();
    for (pointer, json) in inner_first(entries) {
        let kept = extended::value(json).ok_or_else(|| wrong("Extended JSON", pointer))?;
        let names: Vec<String> = names_of_pointer(pointer).collect();
        let place =
            place_at(row, pointer, &names).ok_or_else(|| wrong("a pointer into the row's documents", pointer))?;
        if !is_evidence(layout, table, place, &kept).ok_or_else(|| wrong("a BSON value", pointer))? {
            continue;
        }
        if !set(&mut value, pointer, kept) {
            return Err(wrong("a pointer into the row's documents", pointer));
        }
        paths.push(fields.iter().cloned().chain(names).collect::<Vec<_>>());
    }
    paths.sort();
    paths.dedup();
    if paths.is_empty() {
        value = BuiltValue::Document(BuiltFields::default());
    } else {
        value = steps.into_iter().rev().fold(value, |value, step| step.around(value));
    }
    match value.encode() {
        Some((Kind::Document, document)) => Ok(ExtraPart { document, paths }),
        _ => Err(wrong("values of a document", "")),
    }
}

/// A step from a document to what is in it.
#[derive(Debug, Clone, Copy)]
enum PartStep<'l> {
    Field(&'l str),
    Element,
    Entry,
}

impl PartStep<'_> {
    /// The value in what it is in.
    fn around(self, value: BuiltValue) -> BuiltValue {
        match self {
            PartStep::Field(name) => BuiltValue::Document(BuiltFields(vec![(name.to_owned(), value)])),
            PartStep::Element => BuiltValue::Array(vec![value]),
            PartStep::Entry => BuiltValue::Document(BuiltFields(vec![(String::new(), value)])),
        }
    }
}

/// What the plan has at a pointer.
#[derive(Debug, Clone, Copy)]
enum PartPlace<'l> {
    /// The document of the row.
    Row(&'l DocumentPlan),
    Known(&'l Plan),
    /// A field of which it does not know.
    Unknown,
}

/// How a row of the table is reached from its document, and the plan of the row.
fn steps_to(layout: &Layout, table: TableId) -> Option<(Vec<PartStep<'_>>, PartPlace<'_>)> {
    let mut tables = Vec::new();
    let mut outer = Some(table);
    while let Some(table) = outer {
        outer = layout.table(table).parent;
        tables.push(table);
    }
    let mut steps = Vec::new();
    let mut place = PartPlace::Row(&layout.document);
    let mut known = 0;
    for table in tables.into_iter().rev() {
        // The root table has no path.
        let Some(path) = layout.table(table).path else { continue };
        let fields = &layout.path(path).fields;
        for name in fields.get(known..)? {
            // An array directly in an array has no name in the document.
            if let PartPlace::Known(Plan::Table { .. } | Plan::Map { .. }) = place {
                break;
            }
            place = inside(place, name)?;
            steps.push(PartStep::Field(name));
        }
        known = fields.len();
        let PartPlace::Known(plan) = place else { return None };
        match plan {
            Plan::Table { table: own, element } if *own == table => {
                steps.push(PartStep::Element);
                place = PartPlace::Known(element);
            }
            Plan::Map { table: own, value, .. } if *own == table => {
                steps.push(PartStep::Entry);
                place = PartPlace::Known(value);
            }
            _ => return None,
        }
    }
    Some((steps, place))
}

/// What is at these names of the row's documents; `None` if gizer keeps nothing there.
fn place_at<'l>(row: PartPlace<'l>, pointer: &str, names: &[String]) -> Option<PartPlace<'l>> {
    if pointer.is_empty() != names.is_empty() {
        return None;
    }
    names.iter().try_fold(row, |place, name| inside(place, name))
}

fn inside<'l>(place: PartPlace<'l>, name: &str) -> Option<PartPlace<'l>> {
    let fields = match place {
        PartPlace::Row(document) | PartPlace::Known(Plan::Document(document)) => &document.fields,
        // An entry with a key that is too long.
        PartPlace::Known(Plan::Map { .. }) => return Some(PartPlace::Known(&Plan::Ignored)),
        PartPlace::Known(_) | PartPlace::Unknown => return None,
    };
    let found = fields.binary_search_by(|field| field.name.as_str().cmp(name));
    Some(found.map_or(PartPlace::Unknown, |at| PartPlace::Known(&fields[at].plan)))
}

/// Whether the value says that a place is missing, or too narrow; `None` if it is no BSON.
fn is_evidence(layout: &Layout, table: TableId, place: PartPlace<'_>, kept: &BuiltValue) -> Option<bool> {
    let kind = match kept {
        BuiltValue::Raw(kind, _) => *kind,
        BuiltValue::Document(_) => Kind::Document,
        BuiltValue::Array(_) => Kind::Array,
    };
    let is_null = matches!(kind, Kind::Null | Kind::Undefined);
    Some(match place {
        PartPlace::Unknown => true,
        _ if is_null => false,
        PartPlace::Known(Plan::Column(column)) => !fits_column(layout, table, *column, kept)?,
        PartPlace::Row(_) | PartPlace::Known(Plan::Document(_) | Plan::Map { .. }) => kind != Kind::Document,
        PartPlace::Known(Plan::Table { .. }) => kind != Kind::Array,
        PartPlace::Known(Plan::Ignored | Plan::ObjectIdPair { .. }) => false,
    })
}

/// Whether the column holds the value, which is in `_extra` for its type then.
fn fits_column(layout: &Layout, table: TableId, column: ColumnId, kept: &BuiltValue) -> Option<bool> {
    let (kind, bytes) = kept.encode()?;
    let element = Element { name: b"", kind, bytes: &bytes };
    let ty = layout.table(table).columns.get(column.0)?.ty;
    fit(ty, &element).ok().map(|cell| cell.is_ok())
}
