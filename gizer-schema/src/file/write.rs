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
    let mut directives = Vec::new();
    if let Some(name) = &each.name {
        directives.push(format!("\"$name\": {}", quoted(name)));
    }
    if !each.seen.is_empty() {
        let seen: Vec<String> = each.seen.iter().map(|(kind, count)| format!("{}: {count}", quoted(kind))).collect();
        directives.push(format!("\"$seen\": {{ {} }}", seen.join(", ")));
    }
    match &each.node {
        Node::Scalar(ScalarType::Json) if escape => policy("json", None, directives, out),
        Node::Scalar(scalar) if directives.is_empty() => out.push_str(&quoted(scalar.name())),
        Node::Scalar(scalar) => {
            directives.insert(0, format!("\"$type\": {}", quoted(scalar.name())));
            object(&directives, out);
        }
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
        Node::Array(element) => policy_items(None, element, directives, depth, escape, out),
        Node::NestedTable(element) => policy_items(Some("table"), element, directives, depth, escape, out),
        Node::List(scalar) => policy("array", Some(*scalar), directives, out),
        Node::Ignored => policy("ignore", None, directives, out),
    }
}

fn policy(policy: &str, ty: Option<ScalarType>, directives: Vec<String>, out: &mut String) {
    let mut all = vec![format!("\"$as\": {}", quoted(policy))];
    all.extend(ty.map(|ty| format!("\"$type\": {}", quoted(ty.name()))));
    all.extend(directives);
    object(&all, out);
}

fn policy_items(
    policy: Option<&str>,
    element: &Field,
    directives: Vec<String>,
    depth: usize,
    escape: bool,
    out: &mut String,
) {
    let mut all: Vec<String> = policy.map(|policy| format!("\"$as\": {}", quoted(policy))).into_iter().collect();
    all.extend(directives);
    let mut items = String::from("\"$items\": ");
    field(element, depth, escape, &mut items);
    all.push(items);
    object(&all, out);
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

fn object(parts: &[String], out: &mut String) {
    out.push_str(&format!("{{ {} }}", parts.join(", ")));
}

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}
