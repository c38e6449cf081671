//! Which columns get a wider type.
//!
//! `INT` < `BIGINT` < `DECIMAL`, `INT` < `DOUBLE` < `DECIMAL`; any to `JSON` where its family of types holds less than 99 % of
//! the values, those in the column and those in `_extra`; `TINYINT` that holds nothing to what was seen; `_id` to `KEY`.
//!
//! A column of numbers has one type for all that are equal (1, 1.0). JSON has each number's own, so
//! that such a column becomes JSON by a load alone, unless the schema says `exact_types`: then
//! `_extra` has the types.

use super::super::types_seen::{Ruling, TypeFamily, TypesSeen};
use super::places::{Place, PlaceSeen, SchemaStep, values_of};
use super::{EvolveRules, LeftBecause, LeftInExtra, Unplaced, Verdict, Widened};
use crate::column_type::ScalarType;
use crate::layout::{ColumnId, KeySource, Layout, TableId};
use crate::model::Dialect;
use crate::raw::Kind;

/// A column that gets a wider type.
pub(super) struct Widening {
    /// Where it is in the schema.
    pub(super) steps: Vec<SchemaStep>,
    pub(super) widened: Widened,
}

impl Widening {
    pub(super) fn verdict<'s>(
        place: Place<'s>,
        column: ColumnId,
        layout: &Layout,
        seen: &Unplaced,
        rules: &EvolveRules,
    ) -> Verdict<'s> {
        let path = place.dotted();
        let PlaceSeen::Column { values, .. } = &place.seen else { return Verdict::Nothing };
        let is_key = is_key(layout, place.table, column);
        // Of an `_id` a document was rejected, whatever it is.
        let strays = if is_key { values.types.all() } else { values_of(&values.types) };
        if strays == 0 {
            return Verdict::Nothing;
        }
        // An array's elements have the path of the array itself, whose documents are counted with theirs.
        let documents = seen.documents(&place.path).min(strays);
        let left = |why| Verdict::Left(LeftInExtra { path: path.clone(), documents, why });
        let Some(from) = layout.table(place.table).columns[column.0].ty.scalar() else {
            return left(LeftBecause::TypesDiffer);
        };
        let held = seen.held.get(&(place.table, column)).copied().unwrap_or_default();
        let wider = if is_key { key(from, layout) } else { wider(from, held, &values.types) };
        let loses_types = held > 0 && layout.dialect != Dialect::Gizer { exact_types: true } && is_number(from);
        let (to, enough) = match wider {
            Ok((ScalarType::Json, _)) if loses_types => return left(LeftBecause::NeedsLoad { to: ScalarType::Json }),
            Ok(wider) => wider,
            Err(why) => return left(why),
        };
        if documents < rules.threshold || enough.is_some_and(|enough| enough < rules.threshold) {
            return left(LeftBecause::TooFew { threshold: rules.threshold });
        }
        if !rules.widens {
            return left(LeftBecause::WideningOff { to });
        }
        Verdict::Widening(Widening { steps: place.steps, widened: Widened { path, from, to, documents } })
    }
}

/// A wider type, and how many values ask for it if that is not all.
type Wider = Result<(ScalarType, Option<u64>), LeftBecause>;

/// Whether the column can widen, by how many values it holds.
pub(super) fn can_widen(layout: &Layout, table: TableId, column: ColumnId) -> bool {
    let ty = layout.table(table).columns[column.0].ty.scalar();
    !is_key(layout, table, column) && !matches!(ty, None | Some(ScalarType::Json | ScalarType::Key))
}

fn is_key(layout: &Layout, table: TableId, column: ColumnId) -> bool {
    table == TableId(0) && layout.table(table).key == column
}

fn key(from: ScalarType, layout: &Layout) -> Wider {
    if from == ScalarType::Key || layout.key.source != KeySource::UnderscoreId {
        return Err(LeftBecause::TypesDiffer);
    }
    Ok((ScalarType::Key, None))
}

/// The type for the values that a column holds and those that do not fit it.
fn wider(from: ScalarType, held: u64, strays: &TypesSeen) -> Wider {
    let Some((kind, family)) = holds(from) else { return Err(LeftBecause::TypesDiffer) };
    if from == ScalarType::TinyInt && held == 0 {
        return match strays.ruling(Dialect::NEW) {
            Ruling::Nothing => Err(LeftBecause::TypesDiffer),
            // A document or an array is none, and a table cannot take the place of a column.
            Ruling::Family(family) => {
                strays.scalar_of(family, Dialect::NEW).map(|to| (to, None)).ok_or(LeftBecause::TypesDiffer)
            }
            Ruling::Mixed => Ok((ScalarType::Json, None)),
        };
    }
    let mut all = types_held(from, kind, held);
    all.merge(strays);
    if all.ruling(Dialect::NEW) != Ruling::Family(family) {
        return Ok((ScalarType::Json, None));
    }
    let of_family = strays.family_count(family);
    if of_family == 0 {
        return Err(LeftBecause::TypesDiffer);
    }
    // The column is of its type even if it holds nothing.
    let mut numbers = types_held(from, kind, held.max(1));
    numbers.merge(strays);
    let to = if family == TypeFamily::Number { numbers.number(Dialect::NEW) } else { from };
    if to == from {
        let is_own = of_family == values_of(strays);
        return Err(if is_own { LeftBecause::NoForm } else { LeftBecause::TypesDiffer });
    }
    Ok((to, Some(of_family)))
}

/// The types of so many values in a column.
fn types_held(from: ScalarType, kind: Kind, held: u64) -> TypesSeen {
    let mut types = TypesSeen::default();
    types.add(kind, held);
    match from {
        // What no double holds may be among them.
        ScalarType::BigInt => types.wide_int64 = held,
        ScalarType::Binary => types.plain_binary = held,
        ScalarType::Uuid => types.uuid = held,
        _ => {}
    }
    types
}

fn is_number(scalar: ScalarType) -> bool {
    holds(scalar).is_some_and(|(_, family)| family == TypeFamily::Number)
}

/// The type of values in a column, and their family.
fn holds(scalar: ScalarType) -> Option<(Kind, TypeFamily)> {
    Some(match scalar {
        ScalarType::String => (Kind::String, TypeFamily::Text),
        ScalarType::TinyInt | ScalarType::Int => (Kind::Int32, TypeFamily::Number),
        ScalarType::BigInt => (Kind::Int64, TypeFamily::Number),
        ScalarType::Double => (Kind::Double, TypeFamily::Number),
        ScalarType::Decimal => (Kind::Decimal128, TypeFamily::Number),
        ScalarType::Boolean => (Kind::Boolean, TypeFamily::Truth),
        ScalarType::Timestamp => (Kind::DateTime, TypeFamily::Time),
        ScalarType::ObjectId => (Kind::ObjectId, TypeFamily::Id),
        ScalarType::Binary => (Kind::Binary, TypeFamily::Binary),
        ScalarType::Uuid => (Kind::Binary, TypeFamily::Uuid),
        ScalarType::Json | ScalarType::Key => return None,
    })
}
