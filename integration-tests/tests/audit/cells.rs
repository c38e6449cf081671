//! The ways in which a single cell can be wrong.

use integration_tests::random::Random;
use serde_json::{Value, json};

use super::rows::Column;

/// How a cell comes by its wrong value.
pub(crate) enum Change {
    /// An SQL expression: `{x}` is the value, `{r}` a random number.
    Sql(&'static str),
    /// A double from another one.
    Double(fn(f64) -> f64),
    /// A JSON value from another one.
    Json(fn(Value, &mut Random) -> Value),
    /// An array with this done to its elements `v` at positions `at`, one of which is `{p}`: what is selected, and from which of them.
    Elements(&'static str, &'static str),
    /// An array of which one element is altered as its type says.
    Element,
    /// A value of the type, where there was none.
    Value,
}

/// Which cells are meant.
pub(crate) enum Cells {
    /// Values of a type of this name in the catalog.
    Type(&'static str),
    /// Values in columns of arrays.
    Arrays,
    /// Values of any type.
    Values,
    /// No value, in a column of any type.
    Nulls,
    /// Values in `_extra`.
    Extra,
    /// No value in `_extra`.
    NoExtra,
}

/// A way in which a cell can be wrong.
pub(crate) struct CellFault {
    pub(crate) name: &'static str,
    pub(crate) cells: Cells,
    pub(crate) change: Change,
}

const fn fault(name: &'static str, cells: Cells, change: Change) -> CellFault {
    CellFault { name, cells, change }
}

const ONE_MORE_OR_LESS: &str =
    "{x} + CASE WHEN {x} > 30000 THEN -1 WHEN {x} < -30000 THEN 1 WHEN {r} % 2 = 0 THEN 1 ELSE -1 END";

/// Numbers that are not numbers stay what they are, and everything else changes.
const LAST_DIGIT: &str = "CASE WHEN {x} = 'NaN' THEN 0 ELSE {x} + ('1e-' || scale({x}))::numeric END";

const ONE_CHARACTER: &str = "CASE WHEN {x} = '' THEN 'x' ELSE overlay({x} PLACING \
    CASE substr({x}, 1 + {r} % length({x}), 1) WHEN 'x' THEN 'y' ELSE 'x' END FROM 1 + {r} % length({x}) FOR 1) END";

const ONE_BIT: &str = "CASE WHEN length({x}) = 0 THEN '\\x00' ELSE \
    set_bit({x}, {r} % (8 * length({x})), 1 - get_bit({x}, {r} % (8 * length({x})))) END";

const MICROSECOND: &str = "{x} + CASE WHEN {x} > '2000-01-01Z' THEN -1 ELSE 1 END * interval '1 microsecond'";

const ONE_DIGIT: &str = "overlay({x}::text PLACING CASE substr({x}::text, 1 + {r} % 8, 1) WHEN '0' THEN '1' ELSE '0' END \
    FROM 1 + {r} % 8 FOR 1)::uuid";

/// All of them.
pub(crate) static CELL_FAULTS: &[CellFault] = &[
    fault("int2: one more or less", Cells::Type("int2"), Change::Sql(ONE_MORE_OR_LESS)),
    fault("int4: one more or less", Cells::Type("int4"), Change::Sql(ONE_MORE_OR_LESS)),
    fault("int8: one more or less", Cells::Type("int8"), Change::Sql(ONE_MORE_OR_LESS)),
    fault("int8: an int32 of it", Cells::Type("int8"), Change::Sql("({x} % 4294967296) / 2")),
    fault("float8: one ulp", Cells::Type("float8"), Change::Double(|x| f64::from_bits(x.to_bits() ^ 1))),
    fault("float8: sign", Cells::Type("float8"), Change::Double(|x| f64::from_bits(x.to_bits() ^ (1 << 63)))),
    fault("float8: -0 or 0", Cells::Type("float8"), Change::Double(minus_zero)),
    fault("float8: NaN", Cells::Type("float8"), Change::Double(|_| f64::NAN)),
    fault("float8: infinity", Cells::Type("float8"), Change::Double(|_| f64::INFINITY)),
    fault("float8: as a float4", Cells::Type("float8"), Change::Double(|x| f64::from(x as f32))),
    fault("numeric: last digit", Cells::Type("numeric"), Change::Sql(LAST_DIGIT)),
    fault(
        "numeric: scale",
        Cells::Type("numeric"),
        Change::Sql("CASE WHEN {x} = 'NaN' THEN 0 ELSE {x} + ('0.' || repeat('0', scale({x}) + 1))::numeric END"),
    ),
    fault("numeric: shorter scale", Cells::Type("numeric"), Change::Sql("trim_scale({x})")),
    fault("numeric: NaN", Cells::Type("numeric"), Change::Sql("'NaN'")),
    fault("numeric: infinity", Cells::Type("numeric"), Change::Sql("'Infinity'")),
    fault("numeric: sign", Cells::Type("numeric"), Change::Sql("-{x}")),
    fault("text: one character", Cells::Type("text"), Change::Sql(ONE_CHARACTER)),
    fault("text: trailing blank", Cells::Type("text"), Change::Sql("{x} || ' '")),
    fault("text: leading blank", Cells::Type("text"), Change::Sql("' ' || {x}")),
    fault(
        "text: case",
        Cells::Type("text"),
        Change::Sql("CASE WHEN {x} <> upper({x}) THEN upper({x}) ELSE lower({x}) END"),
    ),
    fault("text: cut", Cells::Type("text"), Change::Sql("left({x}, -1)")),
    fault("text: empty", Cells::Type("text"), Change::Sql("''")),
    fault("timestamptz: a microsecond", Cells::Type("timestamptz"), Change::Sql(MICROSECOND)),
    fault(
        "timestamptz: a millisecond",
        Cells::Type("timestamptz"),
        Change::Sql("{x} + CASE WHEN {x} > '2000-01-01Z' THEN -1 ELSE 1 END * interval '1 millisecond'"),
    ),
    fault(
        "timestamptz: an hour",
        Cells::Type("timestamptz"),
        Change::Sql("{x} + CASE WHEN {x} > '2000-01-01Z' THEN -1 ELSE 1 END * interval '1 hour'"),
    ),
    fault("timestamptz: infinity", Cells::Type("timestamptz"), Change::Sql("'infinity'")),
    fault("bool: the other one", Cells::Type("bool"), Change::Sql("NOT {x}")),
    fault("bytea: one bit", Cells::Type("bytea"), Change::Sql(ONE_BIT)),
    fault("bytea: one byte more", Cells::Type("bytea"), Change::Sql("{x} || '\\x00'::bytea")),
    fault("uuid: one digit", Cells::Type("uuid"), Change::Sql(ONE_DIGIT)),
    fault("jsonb: a value", Cells::Type("jsonb"), Change::Json(alter)),
    fault("jsonb: one more", Cells::Type("jsonb"), Change::Json(add)),
    fault("jsonb: one less", Cells::Type("jsonb"), Change::Json(take_away)),
    fault("jsonb: null", Cells::Type("jsonb"), Change::Sql("'null'")),
    fault("array: an element", Cells::Arrays, Change::Element),
    fault("array: an element NULL", Cells::Arrays, Change::Elements("CASE at WHEN {p} THEN NULL ELSE v END", "true")),
    fault("array: an element less", Cells::Arrays, Change::Elements("v", "at <> {p}")),
    fault("array: one more element", Cells::Arrays, Change::Sql("array_append({x}, {x}[1])")),
    fault("array: one more NULL", Cells::Arrays, Change::Sql("array_append({x}, NULL)")),
    fault("array: empty", Cells::Arrays, Change::Sql("'{}'")),
    fault(
        "array: another lower bound",
        Cells::Arrays,
        Change::Sql(
            "CASE WHEN cardinality({x}) = 0 THEN {x} ELSE format('[0:%s]=%s', cardinality({x}) - 1, {x}::text)::{type} END",
        ),
    ),
    fault("NULL for a value", Cells::Values, Change::Sql("NULL")),
    fault("a value for NULL", Cells::Nulls, Change::Value),
    fault("_extra altered", Cells::Extra, Change::Json(alter)),
    fault("_extra with one more", Cells::Extra, Change::Json(add)),
    fault("_extra removed", Cells::Extra, Change::Sql("NULL")),
    fault("_extra added", Cells::NoExtra, Change::Sql(r#"'{"/added": {"$numberInt": "1"}}'"#)),
    fault("_extra empty", Cells::NoExtra, Change::Sql("'{}'")),
    fault("_extra without a name", Cells::NoExtra, Change::Sql(r#"'{"": null}'"#)),
];

impl CellFault {
    /// Its name, with the column's type if it can be in several.
    pub(crate) fn name_for(&self, column: &Column) -> String {
        if self.is_of_any_type() { format!("{} ({})", self.name, column.ty) } else { self.name.to_owned() }
    }

    pub(crate) fn is_of_any_type(&self) -> bool {
        matches!(self.cells, Cells::Values | Cells::Nulls | Cells::Arrays)
    }

    /// All names that it can have where columns are of these types.
    pub(crate) fn names(&self, types: &[&str], arrays: &[String]) -> Vec<String> {
        let types = types.iter().copied().chain(["jsonb"]);
        let arrays = arrays.iter().map(String::as_str);
        match self.cells {
            Cells::Values | Cells::Nulls => types.chain(arrays).map(|ty| format!("{} ({ty})", self.name)).collect(),
            Cells::Arrays => arrays.map(|ty| format!("{} ({ty})", self.name)).collect(),
            _ => vec![self.name.to_owned()],
        }
    }

    /// Whether it can be in such a column, with a value in it or none.
    pub(crate) fn fits(&self, column: &Column, has_value: bool) -> bool {
        match self.cells {
            Cells::Type(ty) => has_value && column.ty == ty,
            Cells::Arrays => has_value && column.ty.starts_with('_'),
            Cells::Values => has_value,
            Cells::Nulls => !has_value,
            Cells::Extra => has_value && column.name == "_extra",
            Cells::NoExtra => !has_value && column.name == "_extra",
        }
    }

    /// The expression for the new value of a column, and what goes into its parameter 3, if it has one.
    pub(crate) fn expression(&self, column: &Column, old: Option<&[u8]>, random: &mut Random) -> (String, Parameter) {
        let mut parameter = Parameter::None;
        let sql = match self.change {
            Change::Sql(sql) => sql.to_owned(),
            Change::Double(change) => {
                let old = f64::from_be_bytes(old.and_then(|old| old.try_into().ok()).unwrap());
                parameter = Parameter::Double(change(old));
                "$3::float8".to_owned()
            }
            Change::Json(change) => {
                // The version of the form, and the text.
                let old = serde_json::from_slice(&old.unwrap()[1..]).unwrap();
                parameter = Parameter::Json(change(old, random).to_string());
                "$3::text::jsonb".to_owned()
            }
            Change::Elements(what, of) => elements(column, what, of),
            Change::Element => {
                let altered = altered(&column.ty[1..]).replace("{x}", "v");
                elements(column, &format!("CASE at WHEN {{p}} THEN ({altered}) ELSE v END"), "true")
            }
            Change::Value => value(&column.ty).to_owned(),
        };
        let number = random.below(1 << 20).to_string();
        let sql = sql.replace("{p}", "(1 + {r} % greatest(cardinality({x}), 1))");
        let sql = sql.replace("{x}", &super::rows::quoted(&column.name));
        (sql.replace("{r}", &number).replace("{type}", &column.ty), parameter)
    }
}

/// What an expression takes beside the row.
pub(crate) enum Parameter {
    None,
    Double(f64),
    Json(String),
}

fn elements(column: &Column, what: &str, of: &str) -> String {
    format!(
        "coalesce((SELECT array_agg({what} ORDER BY at) FROM unnest({{x}}) WITH ORDINALITY AS u(v, at) WHERE {of}), '{{}}')::{}",
        column.ty
    )
}

/// Another value of an element's type. An element may be NULL.
fn altered(ty: &str) -> &'static str {
    match ty {
        "int2" | "int4" | "int8" => "coalesce({x} + CASE WHEN {x} > 0 THEN -1 ELSE 1 END, 0)",
        "float8" => "coalesce(CASE WHEN {x} = 0 THEN 1 ELSE -{x} END, 0)",
        "numeric" => "coalesce(CASE WHEN {x} = 'NaN' THEN 0 ELSE {x} + ('1e-' || scale({x}))::numeric END, 0)",
        "text" => "coalesce({x} || ' ', '')",
        "timestamptz" => {
            "coalesce({x} + CASE WHEN {x} > '2000-01-01Z' THEN -1 ELSE 1 END * interval '1 microsecond', 'epoch')"
        }
        "bool" => "coalesce(NOT {x}, false)",
        "bytea" => "coalesce({x} || '\\x00'::bytea, '')",
        "uuid" => {
            "CASE {x} WHEN '00000000-0000-0000-0000-000000000000' THEN '00000000-0000-0000-0000-000000000001'::uuid \
                   ELSE '00000000-0000-0000-0000-000000000000' END"
        }
        other => panic!("no other value of type {other} is known"),
    }
}

/// A value that reads like none in a sloppy comparison.
fn value(ty: &str) -> &'static str {
    match ty {
        "int2" | "int4" | "int8" | "numeric" => "0",
        "float8" => "'NaN'",
        "text" | "bytea" => "''",
        "timestamptz" => "'epoch'",
        "bool" => "false",
        "uuid" => "'00000000-0000-0000-0000-000000000000'",
        "jsonb" => "'null'",
        array if array.starts_with('_') => "'{}'",
        other => panic!("no value of type {other} is known"),
    }
}

fn minus_zero(old: f64) -> f64 {
    if old.to_bits() == (-0.0f64).to_bits() { 0.0 } else { -0.0 }
}

/// One value somewhere inside is another one.
fn alter(value: Value, random: &mut Random) -> Value {
    match value {
        Value::Null => json!("x"),
        Value::Bool(value) => json!(!value),
        Value::Number(number) => json!(number.as_i64().map_or(0, |number| number.wrapping_add(1))),
        Value::String(mut text) => {
            // Numbers stay numbers.
            match text.pop() {
                Some('1') => text.push('2'),
                Some(last) if last.is_ascii_digit() => text.push('1'),
                Some(last) => text.extend([last, ' ']),
                None => text.push(' '),
            }
            json!(text)
        }
        Value::Array(mut values) if !values.is_empty() => {
            let at = random.below(values.len() as u64) as usize;
            values[at] = alter(values[at].take(), random);
            Value::Array(values)
        }
        Value::Object(mut fields) if !fields.is_empty() => {
            let at = random.below(fields.len() as u64) as usize;
            let field = fields.values_mut().nth(at).unwrap();
            *field = alter(field.take(), random);
            Value::Object(fields)
        }
        Value::Array(_) => json!({}),
        Value::Object(_) => json!([]),
    }
}

fn add(value: Value, _: &mut Random) -> Value {
    match value {
        Value::Object(mut fields) => {
            let name = format!("/added{}", fields.len());
            fields.insert(name, Value::Null);
            Value::Object(fields)
        }
        Value::Array(mut values) => {
            values.push(Value::Null);
            Value::Array(values)
        }
        other => json!([other]),
    }
}

fn take_away(value: Value, _: &mut Random) -> Value {
    match value {
        Value::Object(mut fields) => match fields.keys().next().cloned() {
            Some(name) => {
                fields.remove(&name);
                Value::Object(fields)
            }
            None => Value::Null,
        },
        Value::Array(mut values) => {
            values.pop();
            Value::Array(values)
        }
        _ => json!({}),
    }
}
