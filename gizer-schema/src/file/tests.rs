use super::*;
use crate::column_type::ScalarType;
use crate::model::{Field, Node};

/// Reads a file, and checks that what is written of it reads back the same.
fn read(text: &str) -> Schema {
    let schema = parse("posts", text).unwrap();
    let written = write(&schema);
    assert_eq!(parse("posts", &written).as_ref(), Ok(&schema), "{written}");
    assert_eq!(write(&parse("posts", &written).unwrap()), written);
    assert!(written.ends_with("}\n") && !written.contains(" \n"), "{written}");
    schema
}

#[test]
fn a_classic_file_is_read_and_written_again() {
    let schema = read(
        r#"{"_id": {"oid": "string", "bsontype": "Int"}, "n": "LONG",
            "tags": ["STRING", "ignored"], "a": {"b": [{"c": "DOUBLE"}]}, "none": [], "nest": [["INT"]], "$x": "INT"}"#,
    );
    assert_eq!(schema.dialect, Dialect::Classic);
    assert!(schema.fields["_id"].node.is_object_id_pair());
    assert_eq!(schema.fields["n"], ScalarType::BigInt.into());
    assert_eq!(schema.fields["tags"].node, Node::Array(Box::new(ScalarType::String.into())));
    assert!(write(&schema).contains("\"none\": []"), "{}", write(&schema));
    assert!(schema.fields.contains_key("$x"));
}

#[test]
fn every_directive_is_read_and_written_again() {
    let schema = read(
        r#"{"$gizer": 1, "collection": "shop.posts", "exact_types": true, "fields": {
            "_id": "KEY", "o": "objectid", "d": "DECIMAL", "b": "BINARY", "u": "UUID", "j": {"$as": "json"},
            "i": {"$as": "ignore"}, "list": {"$as": "array", "$type": "INT"},
            "matrix": [{"$as": "table", "$items": ["DOUBLE"]}], "plain": [["INT"]],
            "named": {"$type": "INT", "$name": "other", "$seen": {"INT": 5, "STRING": 1}},
            "table": {"$items": {"x": "INT"}, "$name": "things"}, "doc": {"$seen": {"DOCUMENT": 3}, "x": "INT"},
            "empty": {"$seen": {"DOCUMENT": 3}}, "elements": [{"$type": "INT", "$seen": {"INT": 2, "NULL": 1}}],
            "$$odd": "STRING", "$$$as": "INT", "": "INT", "a.b": {"$$type": "INT"}}}"#,
    );
    assert_eq!(schema.dialect, Dialect::Gizer { exact_types: true });
    let node = |name: &str| &schema.fields[name].node;
    assert_eq!(node("_id"), &Node::Scalar(ScalarType::Key));
    assert_eq!(node("j"), &Node::Scalar(ScalarType::Json));
    assert_eq!(node("i"), &Node::Ignored);
    assert_eq!(node("list"), &Node::List(ScalarType::Int));
    let inner: Field = Node::Array(Box::new(ScalarType::Double.into())).into();
    assert_eq!(node("matrix"), &Node::Array(Box::new(Node::NestedTable(Box::new(inner)).into())));
    assert_eq!(schema.fields["named"].name.as_deref(), Some("other"));
    assert_eq!(schema.fields["named"].seen["INT"], 5);
    assert_eq!(schema.fields["table"].name.as_deref(), Some("things"));
    assert_eq!(node("$odd"), &Node::Scalar(ScalarType::String));
    assert!(schema.fields.contains_key("$$as"));
    assert!(matches!(node("a.b"), Node::Document(fields) if fields.contains_key("$type")));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let new = |fields: &str| format!("{{\"$gizer\": 1,\n \"fields\": {fields}}}");
    let cases: Vec<(String, usize, &str)> = vec![
        ("{\n  \"a\": \"STRNG\"\n}".into(), 2, "unknown type \"STRNG\": expected one of STRING, INT"),
        ("{\"a\": 5}".into(), 1, "expected a type name, an object (nested document) or a list (array)"),
        ("[]".into(), 1, "expected an object of fields and their types"),
        ("{\"a\": \"INT\",\n \"a\": \"INT\"}".into(), 2, "the field \"a\" is in this object twice"),
        ("{\"a\": \"INT\",\n}".into(), 2, "trailing comma"),
        ("{\"a\": \"INT\"".into(), 1, "EOF"),
        ("{\"a\": \"INT\"} x".into(), 1, "trailing characters"),
        ("{\"a\": \"UUID\"}".into(), 1, "UUID is not of the classic dialect: expected \"$gizer\": 1"),
        ("{\"$gizer\": 2, \"fields\": {}}".into(), 1, "version 2 of the schema file: expected 1"),
        ("{\"$gizer\": 1}".into(), 1, "missing field `fields`"),
        ("{\"$gizer\": 1, \"felds\": {}}".into(), 1, "unknown key \"felds\""),
        (
            "{\"$gizer\": 1, \"collection\": \"x\", \"fields\": {}}".into(),
            1,
            "schema of \"x\": expected that of \"posts\"",
        ),
        (new("{\"a\": {\"$ass\": \"json\"}}"), 2, "unknown directive \"$ass\""),
        (new("{\"a\": {\"$as\": \"jsn\"}}"), 2, "unknown policy \"jsn\": expected columns, table"),
        (new("{\"a\": {\"$as\": \"array\"}}"), 2, "$as array: expected $type"),
        (new("{\"a\": {\"$as\": \"json\", \"$type\": \"INT\"}}"), 2, "$as json: expected neither"),
        (new("{\"a\": {\"$type\": \"INT\", \"b\": \"INT\"}}"), 2, "expected one of: fields, $type, $items"),
        (new("{\"a\": {\"$name\": \"x\", \"b\": \"INT\"}}"), 2, "only a column or a table has a name"),
        (new("{\"a\": [\"INT\", \"INT\"]}"), 2, "expected no second"),
        (new("{\"$as\": \"json\"}"), 2, "a directive where only fields can be"),
        (new("{\"a\": {\"$seen\": {\"INT\": \"x\"}}}"), 2, "invalid type"),
        (new("{\"a\": {\"$pinned\": true, \"b\": \"INT\"}}"), 2, "only the type of a value can be pinned"),
        (new("{\"a\": {\"$items\": \"INT\", \"$pinned\": true}}"), 2, "only the type of a value can be pinned"),
    ];
    for (text, line, problem) in cases {
        let error = parse("posts", &text).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.problem.contains(problem), "{text}: {error}");
        assert!(!error.problem.contains(" at line "), "{error}");
    }
}

#[test]
fn a_hundred_levels_are_read() {
    let text = format!("{}\"INT\"{}", "{\"a\":".repeat(100), "}".repeat(100));
    assert!(parse("c", &text).is_ok());
    let text = format!("{{\"$gizer\": 1, \"fields\": {{\"a\": {}\"INT\"{}}}}}", "[".repeat(100), "]".repeat(100));
    assert!(parse("c", &text).is_ok());
}
