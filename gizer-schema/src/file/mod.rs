//! Schema files: two dialects, one model.
//!
//! # The classic dialect
//! One JSON object a collection. A field is a type name in any case, an object (a nested document) or a list whose
//! first element describes every element of the array; further elements are ignored, as the classic tool did. `[]` is
//! an array of which no element was ever seen: a child table with positions and no value column.
//!
//! # gizer's dialect
//! The same inside of a frame that names version and collection, with more types, and with directives where there is
//! more to say:
//!
//! ```json
//! { "$gizer": 1,
//!   "collection": "orders",
//!   "fields": {
//!     "_id": "OBJECTID",
//!     "items": [{ "sku": "STRING", "tags": ["STRING"] }],
//!     "meta": { "$as": "json" },
//!     "scores": { "$as": "array", "$type": "INT" },
//!     "matrix": [{ "$as": "table", "$items": "DOUBLE" }],
//!     "visits": { "$as": "map", "$values": "INT" },
//!     "total": { "$type": "DECIMAL", "$seen": { "DECIMAL": 812, "INT": 3 } },
//!     "$$odd": "STRING" } }
//! ```
//!
//! | directive | says |
//! |---|---|
//! | `$as` | the policy: `columns` (nested documents; the default), `table` (arrays; the default; in a list: an array directly in an array), `array` (a PostgreSQL array of scalars), `map` (a document whose names are data), `json`, `ignore` |
//! | `$type` | the type of a value, or of the elements of `array` |
//! | `$items` | what the elements of an array are |
//! | `$values` | what the values of a map are |
//! | `$name` | the column's name, or that of an array's or a map's table |
//! | `$pinned` | `true`: the type of a value stays when the schema grows |
//! | `$seen` | what inference saw, by type; for people |
//!
//! A field whose own name begins with `$` is written with one `$` more. With `"$gizer": 1` there may be
//! `"exact_types": true`: numbers that are stored as another numeric type keep their own in `_extra`; and `"$name"`: the
//! name of the root table.

mod classic;
mod gizer;
mod write;

use serde_json::Value as Json;
use thiserror::Error;

use crate::model::{Dialect, Schema};

/// A schema file that cannot be read; lines and columns count from 1.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line}, column {column}: {problem}")]
pub struct ParseError {
    /// Line in the file.
    pub line: usize,
    /// Column in the line.
    pub column: usize,
    /// What was expected and what came.
    pub problem: String,
}

/// What is wrong with a file, in at most 600 characters: its beginning says what came, its end what was expected.
fn without_middle(problem: &str) -> String {
    let characters: Vec<char> = problem.chars().collect();
    if characters.len() <= 600 {
        return problem.to_owned();
    }
    let (beginning, end) = (&characters[..150], &characters[characters.len() - 400..]);
    beginning.iter().chain(&[' ', '…', ' ']).chain(end).collect()
}

/// Reads a schema file of either dialect; an object with `$gizer` in it is of gizer's.
///
/// # Errors
/// [`ParseError`] with the place of: text that is not JSON, something other than an object at the top, a type name,
/// directive or policy that is not known, a field that is in one object twice, a value that describes no field.
pub fn parse(collection: &str, text: &str) -> Result<Schema, ParseError> {
    let is_new = matches!(serde_json::from_str(text), Ok(Json::Object(top)) if top.contains_key("$gizer"));
    if is_new { gizer::parse(collection, text) } else { classic::parse(collection, text) }
}

/// Writes a schema in its dialect: fields in byte order, one a line, a newline at the end.
///
/// What the classic dialect has no form for (types, policies and names of gizer's) is written as gizer's would be; such
/// a schema should not say that it is classic.
pub fn write(schema: &Schema) -> String {
    match schema.dialect {
        Dialect::Classic => write::classic(schema),
        Dialect::Gizer { .. } => write::gizer(schema),
    }
}

impl From<serde_json::Error> for ParseError {
    fn from(error: serde_json::Error) -> ParseError {
        let full = error.to_string();
        // serde_json appends the place to its message; it is given in fields of its own here.
        let suffix = format!(" at line {} column {}", error.line(), error.column());
        let problem = full.strip_suffix(&suffix).unwrap_or(&full);
        // The reader quotes texts that stand where something else was expected, whatever their length.
        let problem = without_middle(problem);
        ParseError { line: error.line(), column: error.column(), problem }
    }
}

/// Every test of a dialect is also a test that what is written reads back.
#[cfg(test)]
mod tests;
