//! Which unknown fields get a place, and the schema with it.

use super::super::narrow::{Limits, Measure, weight};
use super::super::resolve::{Finding, field_alone};
use super::super::together::Values;
use super::places::{Place, PlaceSeen, SchemaStep};
use super::widen::Widening;
use super::{Adopted, Evolution, EvolveRules, LeftBecause, LeftInExtra, Verdict};
use crate::column_type::ScalarType;
use crate::layout::{ColumnSource, Layout, TableId};
use crate::model::{Field, Fields, Node, Schema};
use crate::pin::pin_names;

/// An unknown field in enough documents.
pub(super) struct Candidate<'s> {
    table: TableId,
    /// Field names from the root, its own last.
    pub(super) path: Vec<String>,
    /// Where the document that it is in is in the schema.
    steps: Vec<SchemaStep>,
    pub(super) documents: u64,
    values: Values<'s>,
}

impl<'s> Candidate<'s> {
    pub(super) fn verdict(place: Place<'s>, documents: u64, rules: &EvolveRules) -> Verdict<'s> {
        let left = |place: &Place<'_>, why| Verdict::Left(LeftInExtra { path: place.dotted(), documents, why });
        if !place.has_values() {
            return left(&place, LeftBecause::OnlyNull);
        }
        if documents < rules.threshold {
            return left(&place, LeftBecause::TooFew { threshold: rules.threshold });
        }
        let Place { table, path, steps, seen, .. } = place;
        let PlaceSeen::Unknown { values } = seen else { return Verdict::Nothing };
        Verdict::Candidate(Box::new(Candidate { table, path, steps, documents, values }))
    }

    fn name(&self) -> &str {
        self.path.last().map(String::as_str).unwrap_or_default()
    }

    fn left(&self, why: LeftBecause) -> LeftInExtra {
        LeftInExtra { path: self.path.join("."), documents: self.documents, why }
    }

    fn adopted(&self, field: &Field, findings: &[Finding]) -> Adopted {
        let map = findings.iter().find_map(|finding| finding.map.filter(|_| finding.path == self.name()));
        Adopted {
            path: self.path.join("."),
            documents: self.documents,
            chosen: field.node.type_name(),
            seen: self.values.types.seen(),
            map: map.filter(|_| matches!(field.node, Node::Map(_))),
        }
    }
}

/// How much there is already of what has limits.
struct Room {
    tables: usize,
    /// Columns that hold fields, of each table.
    columns: Vec<usize>,
}

impl Room {
    fn of(layout: &Layout) -> Room {
        let is_field = |source: &ColumnSource| matches!(source, ColumnSource::Field(_));
        let columns = layout.tables.iter().map(|table| table.columns.iter().filter(|c| is_field(&c.source)).count());
        Room { tables: layout.tables.len(), columns: columns.collect() }
    }

    /// Takes what a field of this table needs.
    fn take(&mut self, table: TableId, field: &Field, limits: &Limits) -> Result<(), LeftBecause> {
        let tables = weight(field, &Measure::Tables).bytes();
        let columns = weight(field, &Measure::Columns).bytes();
        if tables > 0 && self.tables + tables > limits.tables {
            return Err(LeftBecause::TooManyTables);
        }
        if columns > 0 && self.columns[table.0] + columns > limits.columns {
            return Err(LeftBecause::TooManyColumns);
        }
        self.tables += tables;
        self.columns[table.0] += columns;
        Ok(())
    }
}

/// Gives candidates their places, one after the other.
pub(super) struct Adoption<'a> {
    layout: &'a Layout,
    rules: &'a EvolveRules,
    /// With the columns widened.
    before: Schema,
    left: Vec<LeftInExtra>,
}

impl<'a> Adoption<'a> {
    pub(super) fn new(
        schema: &Schema,
        layout: &'a Layout,
        rules: &'a EvolveRules,
        widenings: &[Widening],
        left: Vec<LeftInExtra>,
    ) -> Adoption<'a> {
        let mut before = schema.clone();
        for Widening { steps, widened } in widenings {
            if let Some(field) = field_at(&mut before.fields, steps) {
                field.node = Node::Scalar(widened.to);
            }
        }
        Adoption { layout, rules, before, left }
    }

    pub(super) fn adopt(mut self, candidates: &[Candidate<'_>]) -> Evolution {
        let (mut schema, mut adopted) = (self.before.clone(), Vec::new());
        let mut room = Room::of(self.layout);
        for candidate in candidates {
            match self.place(candidate, &mut schema, &mut room) {
                Ok(placed) => adopted.push(placed),
                Err(why) => self.left.push(candidate.left(why)),
            }
        }
        // Names give way to each other, so that this does not happen.
        if !adopted.is_empty()
            && let Err(error) = pin_names(&mut schema, Some(self.layout))
        {
            let why = LeftBecause::NoTables(error.to_string());
            let of = |Adopted { path, documents, .. }| LeftInExtra { path, documents, why: why.clone() };
            self.left.extend(adopted.into_iter().map(of));
            (schema, adopted) = (self.before, Vec::new());
        }
        Evolution { schema, adopted, widened: Vec::new(), left: self.left }
    }

    /// Gives a candidate its place: that of its type, or else as JSON.
    fn place(&self, candidate: &Candidate<'_>, schema: &mut Schema, room: &mut Room) -> Result<Adopted, LeftBecause> {
        let limits = &self.rules.inference.limits;
        let containers = self.layout.table(candidate.table).positions;
        let (field, findings) = field_alone(candidate.name(), &candidate.values, containers, &self.rules.inference);
        let field = match field {
            Some(field) => field,
            None if limits.columns == 0 => return Err(LeftBecause::TooManyColumns),
            None => return Err(LeftBecause::OnlyEmpty),
        };
        let taken = room.take(candidate.table, &field, limits);
        let field = taken.map(|()| field).or_else(|why| {
            let json = Field::from(ScalarType::Json);
            room.take(candidate.table, &json, limits).map(|()| json).map_err(|_| why)
        })?;
        let adopted = candidate.adopted(&field, &findings);
        if let Some(fields) = fields_at(&mut schema.fields, &candidate.steps) {
            fields.insert(candidate.name().to_owned(), field);
        }
        Ok(adopted)
    }
}

/// Whether a person has pinned the type of the field at these steps.
pub(super) fn is_pinned(fields: &mut Fields, steps: &[SchemaStep]) -> bool {
    field_at(fields, steps).is_some_and(|field| field.pinned)
}

/// The field at these steps.
fn field_at<'f>(fields: &'f mut Fields, steps: &[SchemaStep]) -> Option<&'f mut Field> {
    let (SchemaStep::Field(name), rest) = steps.split_first()? else { return None };
    let mut field = fields.get_mut(name)?;
    for step in rest {
        field = match (step, &mut field.node) {
            (SchemaStep::Field(name), Node::Document(fields)) => fields.get_mut(name)?,
            (SchemaStep::Inside, Node::Array(inside) | Node::NestedTable(inside) | Node::Map(inside)) => inside,
            _ => return None,
        };
    }
    Some(field)
}

/// The fields of the document at these steps.
fn fields_at<'f>(fields: &'f mut Fields, steps: &[SchemaStep]) -> Option<&'f mut Fields> {
    if steps.is_empty() {
        return Some(fields);
    }
    match &mut field_at(fields, steps)?.node {
        Node::Document(fields) => Some(fields),
        _ => None,
    }
}
