//! Whether two documents are the same, but for what [`rebuild`](gizer_flatten::rebuild) does not promise; and where not.

use gizer_schema::raw::{Element, Malformed, RawDoc, Value};
use gizer_schema::{ColumnType, Dialect, DocumentPlan, Layout, Plan, TableId};

use super::number::{Number, same_decimal, same_double};

/// The names and positions that lead to a difference, the innermost first.
#[derive(Debug, Default)]
pub(super) struct Differs(Vec<String>);

impl Differs {
    fn under(mut self, step: &[u8]) -> Differs {
        self.0.push(String::from_utf8_lossy(step).into_owned());
        self
    }

    /// As MongoDB writes it.
    pub(super) fn path(self) -> String {
        self.0.into_iter().rev().collect::<Vec<_>>().join(".")
    }
}

impl From<Malformed> for Differs {
    fn from(_: Malformed) -> Differs {
        Differs::default()
    }
}

/// What the schema makes of a value, and in which table.
#[derive(Clone, Copy)]
struct Planned<'l> {
    plan: &'l Plan,
    table: TableId,
}

/// How closely numbers are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Those that MongoDB compares equal are the same: their column has made them one type.
    ByValue,
    /// Type and scale too: they were kept as they are.
    Exactly,
}

impl Numbers {
    /// In a column of this type.
    pub(super) fn of_column(layout: &Layout, ty: ColumnType) -> Numbers {
        let own = matches!(
            ty,
            ColumnType::SmallInt
                | ColumnType::Integer
                | ColumnType::BigInt
                | ColumnType::Double
                | ColumnType::Numeric
                | ColumnType::Key
                | ColumnType::List(_)
        );
        let exact = layout.dialect == Dialect::Gizer { exact_types: true };
        if own && !exact { Numbers::ByValue } else { Numbers::Exactly }
    }
}

/// Whether a rebuilt document is the source.
///
/// # Errors
/// The first difference, in the order of the fields' names.
pub(super) fn document(layout: &Layout, source: RawDoc<'_>, rebuilt: RawDoc<'_>) -> Result<(), Differs> {
    planned_document(layout, &layout.document, TableId(0), source, rebuilt)
}

fn planned_document(
    layout: &Layout,
    plan: &DocumentPlan,
    table: TableId,
    source: RawDoc<'_>,
    rebuilt: RawDoc<'_>,
) -> Result<(), Differs> {
    let planned = |name: &[u8]| field(plan, name).map(|plan| Planned { plan, table });
    let looked_at = |element: &Element<'_>| match field(plan, element.name) {
        Some(plan) => is_looked_at(plan, element),
        None => true,
    };
    each_field(source, rebuilt, looked_at, |a, b| match planned(a.name) {
        Some(planned) => planned_value(layout, planned, a, b),
        None => value(Numbers::Exactly, a, b),
    })
}

fn field<'l>(plan: &'l DocumentPlan, name: &[u8]) -> Option<&'l Plan> {
    let at = plan.fields.binary_search_by(|field| field.name.as_bytes().cmp(name)).ok()?;
    Some(&plan.fields[at].plan)
}

/// Whether a value is to come back: not if it is ignored, nor if it is a document of which all is.
fn is_looked_at(plan: &Plan, element: &Element<'_>) -> bool {
    match (plan, element.value()) {
        (Plan::Ignored, _) => false,
        (Plan::Document(plan), Ok(Value::Document(document))) if !document.is_empty() => {
            document.elements().any(|element| match element {
                Ok(element) => field(plan, element.name).is_none_or(|plan| is_looked_at(plan, &element)),
                Err(_) => true,
            })
        }
        _ => true,
    }
}

/// Goes through the fields of two documents by their names; of several with one name, in their order.
fn each_field<'b>(
    source: RawDoc<'b>,
    rebuilt: RawDoc<'b>,
    looked_at: impl Fn(&Element<'b>) -> bool,
    mut same: impl FnMut(&Element<'b>, &Element<'b>) -> Result<(), Differs>,
) -> Result<(), Differs> {
    let sorted = |document: RawDoc<'b>| -> Result<Vec<Element<'b>>, Malformed> {
        let mut elements = document.elements().collect::<Result<Vec<_>, _>>()?;
        elements.retain(&looked_at);
        elements.sort_by_key(|element| element.name);
        Ok(elements)
    };
    let (source, rebuilt) = (sorted(source)?, sorted(rebuilt)?);
    for (a, b) in source.iter().zip(&rebuilt) {
        if a.name != b.name {
            return Err(Differs::default().under(a.name.min(b.name)));
        }
        same(a, b).map_err(|differs| differs.under(a.name))?;
    }
    let common = source.len().min(rebuilt.len());
    match source[common..].iter().chain(&rebuilt[common..]).next() {
        Some(beyond) => Err(Differs::default().under(beyond.name)),
        None => Ok(()),
    }
}

/// Goes through the elements of two arrays by their positions; their names do not matter.
fn each_element<'b>(
    source: RawDoc<'b>,
    rebuilt: RawDoc<'b>,
    mut same: impl FnMut(&Element<'b>, &Element<'b>) -> Result<(), Differs>,
) -> Result<(), Differs> {
    let (mut source, mut rebuilt) = (source.elements(), rebuilt.elements());
    for position in 0.. {
        let under = |differs: Differs| differs.under(position.to_string().as_bytes());
        match (source.next(), rebuilt.next()) {
            (Some(a), Some(b)) => same(&a?, &b?).map_err(under)?,
            (None, None) => break,
            _ => return Err(under(Differs::default())),
        }
    }
    Ok(())
}

fn planned_value(layout: &Layout, planned: Planned<'_>, a: &Element<'_>, b: &Element<'_>) -> Result<(), Differs> {
    match (planned.plan, a.value()?, b.value()?) {
        (Plan::Ignored, ..) => Ok(()),
        (Plan::Document(plan), Value::Document(a), Value::Document(b)) => {
            planned_document(layout, plan, planned.table, a, b)
        }
        (Plan::Table { table, element }, Value::Array(a), Value::Array(b)) => {
            let planned = Planned { plan: element, table: *table };
            each_element(a, b, |a, b| planned_value(layout, planned, a, b))
        }
        (Plan::Map { table, value, .. }, Value::Document(a), Value::Document(b)) => {
            let planned = Planned { plan: value, table: *table };
            each_field(a, b, |_| true, |a, b| planned_value(layout, planned, a, b))
        }
        (Plan::Column(column), ..) => {
            let ty = layout.table(planned.table).columns[column.0].ty;
            value(Numbers::of_column(layout, ty), a, b)
        }
        // It has been kept aside, as it is.
        _ => value(Numbers::Exactly, a, b),
    }
}

/// Whether two values are the same.
pub(super) fn value(numbers: Numbers, a: &Element<'_>, b: &Element<'_>) -> Result<(), Differs> {
    let is = |same: bool| if same { Ok(()) } else { Err(Differs::default()) };
    match (a.value()?, b.value()?) {
        (Value::Document(a), Value::Document(b)) => each_field(a, b, |_| true, |a, b| value(numbers, a, b)),
        (Value::Array(a), Value::Array(b)) => each_element(a, b, |a, b| value(numbers, a, b)),
        (Value::CodeWithScope { code, scope }, Value::CodeWithScope { code: other, scope: b }) => {
            is(code == other)?;
            each_field(scope, b, |_| true, |a, b| value(numbers, a, b))
        }
        (a, b) if numbers == Numbers::ByValue => match (Number::of(a), Number::of(b)) {
            (Some(a), Some(b)) => is(a == b),
            (None, None) => is(a == b),
            _ => is(false),
        },
        (Value::Double(a), Value::Double(b)) => is(same_double(a, b)),
        (Value::Decimal128(a), Value::Decimal128(b)) => is(same_decimal(a, b)),
        _ => is(a.kind == b.kind && a.bytes == b.bytes),
    }
}
