//! Writing schema files: one field a line, so that a change of one field is a change of one line.

use serde_json::Value as Json;

use crate::column_type::ScalarType;
use crate::model::{Dialect, Field, Fields, Node, Schema};

const INDENT: &str = "  ";

pub(super) fn classic(schema: &Schema) -> String {
    let mut out = String::new();
    fields(&schema.fields, 0, false, &mut out);
    out.push('\n');
    out
}

pub(super) fn gizer(schema: &Schema) -> String {
    let mut out = String::from("{\n  \"$gizer\": 1,\n");
    out.push_str(&format!("  \"collection\": {},\n", quoted(&schema.collection)));
    if let Some(table) = &schema.table {
        out.push_str(&format!("  \"$name\": {},\n", quoted(table)));
    }
    if schema.dialect == (Dialect::Gizer { exact_types: true }) {
        out.push_str("  \"exact_types\": true,\n");
    }
    out.push_str("  \"fields\": ");
    fields(&schema.fields, 1, true, &mut out);
    out.push_str("\n}\n");
    out
}

fn fields(fields: &Fields, depth: usize, escape: bool, out: &mut String) {
    if fields.is_empty() {
        out.push_str("{}");
        return;
    }
    let mut lines = Vec::new();
    for (name, each) in fields {
        let dollar = if escape && name.starts_with('$') { "$" } else { "" };
        let mut line = format!("{}{}: ", INDENT.repeat(depth + 1), quoted(&format!("{dollar}{name}")));
        field(each, depth + 1, escape, &mut line);
        lines.push(line);
    }
    out.push_str(&format!("{{\n{}\n{}}}", lines.join(",\n"), INDENT.repeat(depth)));
}

fn field(each: &Field, depth: usize, escape: bool, out: &mut String) {
    let mut directives: Vec<String> = each.name.iter().map(|name| directive("$name", name)).collect();
    if !each.seen.is_empty() {
        let seen: Vec<String> = each.seen.iter().map(|(kind, count)| format!("{}: {count}", quoted(kind))).collect();
        directives.push(format!("\"$seen\": {{ {} }}", seen.join(", ")));
    }
    if each.pinned {
        directives.push("\"$pinned\": true".to_owned());
    }
    match &each.node {
        Node::Scalar(ScalarType::Json) if escape => object(vec![directive("$as", "json")], directives, out),
        Node::Scalar(scalar) if directives.is_empty() => out.push_str(&quoted(scalar.name())),
        Node::Scalar(scalar) => object(vec![directive("$type", scalar.name())], directives, out),
        Node::Document(inner) if directives.is_empty() => fields(inner, depth, escape, out),
        Node::Document(inner) => document_with(&directives, inner, depth, escape, out),
        Node::Array(element) if directives.is_empty() => {
            out.push('[');
            // `[]` says that no element was ever seen.
            if element.node != Node::Document(Fields::new()) || !element.seen.is_empty() {
                field(element, depth, escape, out);
            }
            out.push(']');
        }
        Node::Array(element) => object(directives, vec![inside("$items", element, depth, escape)], out),
        Node::NestedTable(element) => {
            directives.push(inside("$items", element, depth, escape));
            object(vec![directive("$as", "table")], directives, out);
        }
        Node::Map(value) => {
            directives.push(inside("$values", value, depth, escape));
            object(vec![directive("$as", "map")], directives, out);
        }
        Node::List(scalar) => {
            object(vec![directive("$as", "array"), directive("$type", scalar.name())], directives, out);
        }
        Node::Ignored => object(vec![directive("$as", "ignore")], directives, out),
    }
}

fn directive(name: &str, value: &str) -> String {
    format!("\"{name}\": {}", quoted(value))
}

/// The directive that describes what is in an array or a map.
fn inside(name: &str, each: &Field, depth: usize, escape: bool) -> String {
    let mut inside = format!("{}: ", quoted(name));
    field(each, depth, escape, &mut inside);
    inside
}

/// A nested document with directives in addition to its fields.
fn document_with(directives: &[String], inner: &Fields, depth: usize, escape: bool, out: &mut String) {
    let mut body = String::new();
    fields(inner, depth, escape, &mut body);
    let indent = INDENT.repeat(depth + 1);
    let head: String =
        directives.iter().map(|directive| format!("\n{indent}{directive}")).collect::<Vec<_>>().join(",");
    let comma = if inner.is_empty() { "" } else { "," };
    let rest = body.trim_start_matches('{');
    let end = if inner.is_empty() { format!("\n{}", INDENT.repeat(depth)) } else { String::new() };
    out.push_str(&format!("{{{head}{comma}{end}{rest}"));
}

fn object(mut directives: Vec<String>, more: Vec<String>, out: &mut String) {
    directives.extend(more);
    out.push_str(&format!("{{ {} }}", directives.join(", ")));
}

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}
