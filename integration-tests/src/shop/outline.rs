//! Documents laid out for people, as JSON: what is short stands on one line, what is not is broken up.

use bson::{Bson, Document};
use serde_json::{Value, json};

/// Longest line, indentation included, unless a single value is longer.
const LINE: usize = 100;

const INDENT: usize = 2;

/// Lays out a document as Extended JSON in lines of at most 100 characters, where that can be done.
///
/// ```
/// let document = bson::doc! { "name": "Anna", "tags": ["a", "b"] };
/// assert_eq!(integration_tests::shop::outline(&document), r#"{ "name": "Anna", "tags": ["a", "b"] }"#);
/// ```
pub fn outline(document: &Document) -> String {
    let mut text = String::new();
    write(&of_document(document), 0, 0, &mut text);
    text
}

fn of_document(document: &Document) -> Value {
    document.iter().map(|(name, value)| (name.clone(), of_value(value))).collect()
}

fn of_value(value: &Bson) -> Value {
    match value {
        Bson::Document(document) => of_document(document),
        Bson::Array(elements) => elements.iter().map(of_value).collect(),
        Bson::DateTime(time) => json!({ "$date": time.try_to_rfc3339_string().unwrap_or_else(|_| time.to_string()) }),
        other => json!(other),
    }
}

/// Appends `value`, which begins in column `column` of a line that is indented by `indent`.
fn write(value: &Value, indent: usize, column: usize, text: &mut String) {
    let line = on_one_line(value);
    if column + line.chars().count() < LINE {
        text.push_str(&line);
        return;
    }
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let parts = fields.iter().map(|(name, value)| (format!("{}: ", Value::from(name.as_str())), value));
            write_broken(["{", "}"], parts, indent, text);
        }
        Value::Array(elements) if !elements.is_empty() => {
            write_broken(["[", "]"], elements.iter().map(|value| (String::new(), value)), indent, text);
        }
        _ => text.push_str(&line),
    }
}

/// Appends one part a line, each with a label in front.
fn write_broken<'v>(
    [open, close]: [&str; 2],
    parts: impl Iterator<Item = (String, &'v Value)>,
    indent: usize,
    text: &mut String,
) {
    let inner = indent + INDENT;
    text.push_str(open);
    for (number, (label, value)) in parts.enumerate() {
        text.push_str(if number > 0 { ",\n" } else { "\n" });
        text.extend(std::iter::repeat_n(' ', inner));
        text.push_str(&label);
        write(value, inner, inner + label.chars().count(), text);
    }
    text.push('\n');
    text.extend(std::iter::repeat_n(' ', indent));
    text.push_str(close);
}

fn on_one_line(value: &Value) -> String {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let fields =
                fields.iter().map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), on_one_line(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::Array(elements) => {
            format!("[{}]", elements.iter().map(on_one_line).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, doc};

    use super::*;

    #[test]
    fn what_is_long_is_broken_up_and_only_that() {
        let (x, y) = ("x".repeat(50), "y".repeat(50));
        let document = doc! {
            "a": { "b": [1, {}], "t": DateTime::from_millis(500) },
            "long": [&x, &y],
            "none": [],
            "many": 1i64 << 40,
        };
        let expected = format!(
            r#"{{
  "a": {{ "b": [1, {{}}], "t": {{ "$date": "1970-01-01T00:00:00.5Z" }} }},
  "long": [
    "{x}",
    "{y}"
  ],
  "none": [],
  "many": 1099511627776
}}"#
        );
        assert_eq!(outline(&document), expected);
    }
}
