//! Schema files of the classic dialect.
//!
//! One JSON object a collection. A field is a type name in any case, an object (a nested document) or a list whose
//! first element describes every element of the array; further elements are ignored, as the classic tool did.
//! `[]` is an array of which no element was ever seen: a child table with positions and no value column.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use thiserror::Error;

use crate::model::{Fields, Node, ScalarType, Schema};

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

/// Reads a schema file of the classic dialect.
///
/// # Errors
/// [`ParseError`] with the place of: text that is not JSON, something other than an object at the top, a type name
/// that is not known, a field that stands twice in one object, a value that describes no field.
pub fn parse(collection: &str, text: &str) -> Result<Schema, ParseError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let fields = TopLevel
        .deserialize(&mut reader)
        .and_then(|fields| reader.end().map(|()| fields))
        .map_err(|error| from_json(&error))?;
    Ok(Schema { collection: collection.to_owned(), fields })
}

/// Writes a schema as a file of the classic dialect: fields in byte order, two blanks a level, a newline at the end.
pub fn write(schema: &Schema) -> String {
    let json = fields_to_json(&schema.fields);
    let mut text = serde_json::to_string_pretty(&json).expect("a tree of strings is always serializable");
    text.push('\n');
    text
}

fn fields_to_json(fields: &Fields) -> Json {
    Json::Object(fields.iter().map(|(name, node)| (name.clone(), node_to_json(node))).collect())
}

fn node_to_json(node: &Node) -> Json {
    match node {
        Node::Scalar(scalar) => Json::String(scalar.name().to_owned()),
        Node::Document(fields) => fields_to_json(fields),
        Node::Array(element) => match element.as_ref() {
            Node::Document(fields) if fields.is_empty() => Json::Array(Vec::new()),
            element => Json::Array(vec![node_to_json(element)]),
        },
    }
}

fn from_json(error: &serde_json::Error) -> ParseError {
    let full = error.to_string();
    // serde_json appends the place to its message; it is given in fields of its own here.
    let suffix = format!(" at line {} column {}", error.line(), error.column());
    let problem = full.strip_suffix(&suffix).unwrap_or(&full).to_owned();
    ParseError { line: error.line(), column: error.column(), problem }
}

struct TopLevel;

impl<'de> DeserializeSeed<'de> for TopLevel {
    type Value = Fields;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of fields and their types")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::new();
        while let Some(name) = map.next_key::<String>()? {
            if fields.contains_key(&name) {
                return Err(de::Error::custom(format!("the field {name:?} stands twice in this object")));
            }
            let node = map.next_value_seed(NodeSeed)?;
            fields.insert(name, node);
        }
        Ok(fields)
    }
}

struct NodeSeed;

impl<'de> DeserializeSeed<'de> for NodeSeed {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type name, an object (nested document) or a list (array)")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Node, E> {
        ScalarType::from_name(name).map(Node::Scalar).ok_or_else(|| {
            let known: Vec<&str> = ScalarType::ALL.iter().map(|t| t.name()).collect();
            E::custom(format!("unknown type {name:?}: expected one of {} (or LONG)", known.join(", ")))
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Node, A::Error> {
        FieldsVisitor.visit_map(map).map(Node::Document)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let element = seq.next_element_seed(NodeSeed)?.unwrap_or(Node::Document(Fields::new()));
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::Array(Box::new(element)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_classic_file_is_read_and_written_again() {
        let text = r#"{"_id": {"oid": "string", "bsontype": "Int"}, "n": "LONG",
                       "tags": ["STRING", "ignored"], "a": {"b": [{"c": "DOUBLE"}]}, "none": [], "nest": [["INT"]]}"#;
        let schema = parse("posts", text).unwrap();
        assert!(schema.fields["_id"].is_object_id_pair());
        assert_eq!(schema.fields["n"], Node::Scalar(ScalarType::BigInt));
        assert_eq!(schema.fields["tags"], Node::Array(Box::new(Node::Scalar(ScalarType::String))));
        let written = write(&schema);
        assert_eq!(parse("posts", &written).unwrap(), schema);
        assert!(written.ends_with("}\n"));
        assert!(written.contains("\"none\": []"), "{written}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let cases = [
            ("{\n  \"a\": \"STRNG\"\n}", 2, "unknown type \"STRNG\": expected one of STRING, INT"),
            ("{\"a\": 5}", 1, "expected a type name, an object (nested document) or a list (array)"),
            ("[]", 1, "expected an object of fields and their types"),
            ("{\"a\": \"INT\",\n \"a\": \"INT\"}", 2, "the field \"a\" stands twice"),
            ("{\"a\": \"INT\",\n}", 2, "trailing comma"),
            ("{\"a\": \"INT\"", 1, "EOF"),
            ("{\"a\": \"INT\"} x", 1, "trailing characters"),
        ];
        for (text, line, problem) in cases {
            let error = parse("c", text).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.problem.contains(problem), "{text}: {error}");
            assert!(!error.problem.contains(" at line "), "{error}");
        }
    }

    #[test]
    fn a_hundred_levels_are_read() {
        let text = format!("{}\"INT\"{}", "{\"a\":".repeat(100), "}".repeat(100));
        assert!(parse("c", &text).is_ok());
    }
}
