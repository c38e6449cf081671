//! Changing a schema by another one, or by what a load has found: `gizer schema merge` and `gizer schema patch`.

use std::fmt;

use crate::column_type::ScalarType;
use crate::model::{Dialect, Field, Fields, Node, Schema};

/// A change of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeChange {
    /// Field names from the root, joined by dots.
    pub path: String,
    /// What it was: a type's name, `DOCUMENT`, `ARRAY` or `MAP`.
    pub from: &'static str,
    /// What it is now.
    pub to: &'static str,
}

impl fmt::Display for TypeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.path, self.from, self.to)
    }
}

/// Takes the types of `secondary` over into the leaves of `primary`, unless `TINYINT`. Paths that only `secondary` has
/// are not added. A leaf is a value, and a document or an array of which nothing is known.
pub fn merge(primary: &mut Schema, secondary: &Schema) -> Vec<TypeChange> {
    let mut changes = Vec::new();
    merge_fields(&mut primary.fields, &secondary.fields, &mut Vec::new(), &mut changes);
    changes
}

fn merge_fields<'p>(
    primary: &'p mut Fields,
    secondary: &Fields,
    path: &mut Vec<&'p str>,
    changes: &mut Vec<TypeChange>,
) {
    for (name, field) in primary {
        path.push(name);
        if let Some(other) = secondary.get(name) {
            merge_field(field, other, path, changes);
        }
        path.pop();
    }
}

fn merge_field<'p>(field: &'p mut Field, other: &Field, path: &mut Vec<&'p str>, changes: &mut Vec<TypeChange>) {
    let differs = field.node != other.node && other.node != Node::Scalar(ScalarType::TinyInt);
    if is_leaf(&field.node) {
        // An empty document in the other file knows no more than a value does.
        if differs && !is_unknown(&other.node) {
            let (from, to) = (field.node.type_name(), other.node.type_name());
            changes.push(TypeChange { path: path.join("."), from, to });
            field.node = other.node.clone();
        }
        return;
    }
    match (&mut field.node, &other.node) {
        (Node::Document(fields), Node::Document(others)) => merge_fields(fields, others, path, changes),
        (Node::Array(element), Node::Array(other))
        | (Node::NestedTable(element), Node::NestedTable(other))
        | (Node::Map(element), Node::Map(other)) => {
            merge_field(element, other, path, changes);
        }
        // A whole sub-tree is not given up for a type.
        _ => {}
    }
}

fn is_leaf(node: &Node) -> bool {
    match node {
        Node::Scalar(_) | Node::List(_) | Node::Ignored => true,
        // One type in two fields, for the classic dialect.
        pair if pair.is_object_id_pair() => true,
        other => is_unknown(other),
    }
}

/// A document, or an array of documents, of which no field is known.
fn is_unknown(node: &Node) -> bool {
    match node {
        Node::Document(fields) => fields.is_empty(),
        Node::Array(element) | Node::NestedTable(element) | Node::Map(element) => is_unknown(&element.node),
        _ => false,
    }
}

/// Values that did not fit: a line of a load's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongValue {
    /// The collection and the path, joined by dots: `quotes.customer.title`.
    pub path: String,
    /// What came, by the name of reports.
    pub actual: String,
    /// What the schema had.
    pub expected: String,
    /// How often.
    pub count: u64,
}

impl WrongValue {
    /// Reads a line such as `'wrong value (STRING) for quotes.customer.title(TINYINT)': 59`, quoted or not, with a count
    /// behind it or not; or `quotes.customer.title: 59 values are STRING, expected TINYINT; …`. `None` for a line that says
    /// something else.
    pub fn parse(line: &str) -> Option<WrongValue> {
        WrongValue::parse_classic(line).or_else(|| WrongValue::parse_own(line))
    }

    fn parse_own(line: &str) -> Option<WrongValue> {
        let (before, expected) = line.rsplit_once(", expected ")?;
        let expected = expected.split(';').next()?.trim();
        let (before, actual) = before.rsplit_once(" value is ").or_else(|| before.rsplit_once(" values are "))?;
        let (path, count) = before.rsplit_once(": ")?;
        let count = count.replace(',', "").parse().ok()?;
        Some(WrongValue { path: path.to_owned(), actual: actual.to_owned(), expected: expected.to_owned(), count })
    }

    fn parse_classic(line: &str) -> Option<WrongValue> {
        let (_, rest) = line.split_once("wrong value (")?;
        let (actual, rest) = rest.split_once(") for ")?;
        // A name may hold brackets; what was expected is the last that stands in some.
        let close = rest.rfind(')')?;
        let (path, expected) = rest[..close].rsplit_once('(')?;
        let behind = rest[close + 1..].trim_start_matches(['\'', '"', ':', ' ', '\t']);
        let digits: String =
            behind.chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',').collect();
        Some(WrongValue {
            path: path.to_owned(),
            actual: actual.to_owned(),
            expected: expected.to_owned(),
            count: digits.parse().unwrap_or(1),
        })
    }
}

/// What became of a patch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patched {
    /// Paths that have another type now.
    pub changes: Vec<TypeChange>,
    /// What could not be done, with the reason.
    pub refused: Vec<(WrongValue, String)>,
}

/// Gives every path that is named the type of the values that came; of several for one path, the most frequent.
pub fn patch(schema: &mut Schema, wrong: &[WrongValue]) -> Patched {
    let mut wrong: Vec<&WrongValue> = wrong.iter().collect();
    wrong.sort_by(|a, b| a.path.cmp(&b.path).then(b.count.cmp(&a.count)).then(a.actual.cmp(&b.actual)));
    wrong.dedup_by(|next, first| next.path == first.path);
    let mut patched = Patched::default();
    for each in wrong {
        match patch_one(schema, each) {
            Ok(change) => patched.changes.extend(change),
            Err(reason) => patched.refused.push((each.clone(), reason)),
        }
    }
    patched
}

fn patch_one(schema: &mut Schema, wrong: &WrongValue) -> Result<Option<TypeChange>, String> {
    let classic = schema.dialect == Dialect::Classic;
    let inside = wrong.path.strip_prefix(schema.collection.as_str()).and_then(|rest| rest.strip_prefix('.'));
    let Some(path) = inside else { return Err(format!("it is not of the collection {}", schema.collection)) };
    let node = match wrong.actual.parse().ok() {
        Some(ScalarType::ObjectId) if classic => Node::object_id_pair(),
        Some(scalar) if scalar.is_classic() || !classic => Node::Scalar(scalar),
        Some(scalar) => return Err(format!("the classic dialect has no type {scalar}")),
        None => return Err(format!("no type follows from {}: infer the schema again", wrong.actual)),
    };
    // A path of an array means its elements; that of the entries of a map is marked.
    let is_entry = find(&mut schema.fields, path).is_none();
    let of_map = path.strip_suffix("{}").filter(|_| is_entry);
    let field = match find(&mut schema.fields, of_map.unwrap_or(path)) {
        Some(Field { node: Node::Map(entry), .. }) if is_entry => entry.as_mut(),
        Some(Field { node: Node::Array(element), .. }) if !is_entry => element.as_mut(),
        Some(field) if !is_entry => field,
        _ => return Err("the schema has no such path".to_owned()),
    };
    if !is_leaf(&field.node) {
        return Err(format!("it is a {} in the schema: infer the schema again", field.node.type_name()));
    }
    if field.node == node {
        return Ok(None);
    }
    let change = TypeChange { path: path.to_owned(), from: field.node.type_name(), to: node.type_name() };
    field.node = node;
    Ok(Some(change))
}

/// The field at a dotted path; names may hold dots themselves.
fn find<'s>(fields: &'s mut Fields, path: &str) -> Option<&'s mut Field> {
    fields.iter_mut().find_map(|(name, field)| match path.strip_prefix(name.as_str())? {
        "" => Some(field),
        rest => find(inner(field)?, rest.strip_prefix('.')?),
    })
}

fn inner(field: &mut Field) -> Option<&mut Fields> {
    match &mut field.node {
        Node::Document(fields) => Some(fields),
        Node::Array(element) | Node::NestedTable(element) | Node::Map(element) => inner(element),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;

    fn classic(text: &str) -> Schema {
        file::parse("quotes", text).unwrap()
    }

    #[test]
    fn merge_takes_types_and_adds_no_paths() {
        let mut primary = classic(
            r#"{"_id": "INT", "a": "TINYINT", "b": "INT", "c": "STRING", "d": {"e": "INT", "f": "TINYINT"},
                "l": ["TINYINT"], "m": [{"n": "INT"}], "only": "INT", "sub": {"x": "INT"}}"#,
        );
        let secondary = classic(
            r#"{"_id": "INT", "a": "STRING", "b": "TINYINT", "c": {"x": "INT"}, "d": {"e": "BIGINT", "f": ["INT"]},
                "l": ["INT"], "m": [{"n": "DOUBLE", "more": "INT"}], "new": "INT", "sub": "STRING"}"#,
        );
        let changes: Vec<String> = merge(&mut primary, &secondary).iter().map(ToString::to_string).collect();
        let expected = [
            "a: TINYINT → STRING",
            "c: STRING → DOCUMENT",
            "d.e: INT → BIGINT",
            "d.f: TINYINT → ARRAY",
            "l: TINYINT → INT",
            "m.n: INT → DOUBLE",
        ];
        assert_eq!(changes, expected);
        assert!(!primary.fields.contains_key("new"));
        assert!(merge(&mut primary, &secondary).is_empty(), "a second time changes nothing");
    }

    /// The classic tool deleted a leaf `{}` that had content in the other file.
    #[test]
    fn an_empty_document_takes_the_other_ones_content() {
        let mut primary = classic(r#"{"_id": "INT", "a": {}, "b": {"x": "INT"}, "c": {}, "d": [], "e": {}}"#);
        let secondary = classic(r#"{"_id": "INT", "a": {"x": "INT"}, "b": {}, "c": {}, "d": ["INT"], "e": "TINYINT"}"#);
        merge(&mut primary, &secondary);
        let expected =
            classic(r#"{"_id": "INT", "a": {"x": "INT"}, "b": {"x": "INT"}, "c": {}, "d": ["INT"], "e": {}}"#);
        assert_eq!(primary, expected);
    }

    #[test]
    fn report_lines_are_read() {
        let line = |text| WrongValue::parse(text).map(|w| (w.actual, w.path, w.expected, w.count));
        let expected = ("STRING".to_owned(), "quotes.customer.title".to_owned(), "TINYINT".to_owned());
        for text in [
            "'wrong value (STRING) for quotes.customer.title(TINYINT)': 59",
            "wrong value (STRING) for quotes.customer.title(TINYINT): 59",
            "\"wrong value (STRING) for quotes.customer.title(TINYINT)\": 59,",
            "wrong value (STRING) for quotes.customer.title(TINYINT): 59 times, first in _id 5",
            "quotes.customer.title: 59 values are STRING, expected TINYINT; kept in _extra",
        ] {
            let (actual, path, expected_type, count) = line(text).expect(text);
            assert_eq!((actual, path, expected_type), expected, "{text}");
            assert_eq!(count, 59, "{text}");
        }
        assert_eq!(line("wrong value (STRING) for quotes.a(b)(INT)").unwrap().1, "quotes.a(b)");
        assert_eq!(line("all is well"), None);
    }

    #[test]
    fn patch_sets_the_type_of_what_is_in_a_map() {
        let parse = |values: &str, n: &str| {
            let fields = format!(r#"{{"_id": "INT", "m": {{"$as": "map", "$values": {values}}}, "d": {{"m": {n}}}}}"#);
            file::parse("quotes", &format!(r#"{{"$gizer": 1, "fields": {fields}}}"#)).unwrap()
        };
        let mut schema = parse(r#""INT""#, r#"{"$as": "map", "$values": {"n": "INT"}}"#);
        let lines = [
            "quotes.m{}: 2 values are STRING, expected INT; kept in _extra",
            "quotes.m: 1 value is INT, expected MAP; kept in _extra",
            "quotes.d.m.n: 1 value is DOUBLE, expected INT; kept in _extra",
            "quotes.d.m{}: 1 value is INT, expected DOCUMENT; kept in _extra",
            "quotes.d{}: 1 value is INT, expected INT; kept in _extra",
        ];
        let wrong: Vec<WrongValue> = lines.iter().map(|line| WrongValue::parse(line).unwrap()).collect();
        let patched = patch(&mut schema, &wrong);
        let refused: Vec<&str> = patched.refused.iter().map(|(wrong, _)| wrong.path.as_str()).collect();
        assert_eq!(refused, ["quotes.d.m{}", "quotes.d{}", "quotes.m"]);
        assert_eq!(schema, parse(r#""STRING""#, r#"{"$as": "map", "$values": {"n": "DOUBLE"}}"#));
    }

    #[test]
    fn patch_sets_the_type_of_a_path() {
        let mut schema = classic(
            r#"{"_id": "INT", "customer": {"title": "TINYINT"}, "tags": ["INT"], "l": [{"a.b": "INT"}], "who": "STRING"}"#,
        );
        let lines = [
            "wrong value (STRING) for quotes.customer.title(TINYINT): 59",
            "wrong value (INT) for quotes.customer.title(TINYINT): 2",
            "wrong value (STRING) for quotes.tags(INT): 1",
            "wrong value (DOUBLE) for quotes.l.a.b(INT): 1",
            "wrong value (OBJECTID) for quotes.who(STRING): 1",
            "wrong value (DECIMAL) for quotes.who(STRING): 1",
            "wrong value (DOCUMENT) for quotes.customer.title(TINYINT): 1",
            "wrong value (STRING) for other.x(INT): 1",
            "wrong value (STRING) for quotes.nowhere(INT): 1",
            "wrong value (STRING) for quotes.customer(INT): 1",
        ];
        let wrong: Vec<WrongValue> = lines.iter().map(|line| WrongValue::parse(line).unwrap()).collect();
        let patched = patch(&mut schema, &wrong);
        let changes: Vec<String> = patched.changes.iter().map(ToString::to_string).collect();
        assert_eq!(changes.len(), 3, "{changes:?}");
        let who = patched.refused.iter().find(|(wrong, _)| wrong.path == "quotes.who");
        assert_eq!(who.unwrap().1, "the classic dialect has no type DECIMAL");
        assert_eq!(patched.refused.len(), 4, "{:?}", patched.refused);
        let expected = classic(
            r#"{"_id": "INT", "customer": {"title": "STRING"}, "tags": ["STRING"], "l": [{"a.b": "DOUBLE"}], "who": "STRING"}"#,
        );
        assert_eq!(schema, expected);
    }
}
