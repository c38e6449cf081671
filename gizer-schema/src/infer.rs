//! Schema acquisition: what the documents of a collection look like.
//!
//! One streaming pass over raw BSON gathers, for every path, how often each BSON type came. The schema is computed
//! from these counts alone, so that neither the order of the documents nor how they are split among workers matters;
//! [`Inference::merge`] adds the parts. Memory grows with the number of distinct paths, not with the documents.
//!
//! # Which type a path gets
//! Types fall into families; nulls count for none. The family with most values has the path (equal counts: in the
//! order of the table); values of other families will be strays. Nothing but null: `TINYINT`.
//!
//! | family | BSON types | type |
//! |---|---|---|
//! | document | document | nested document |
//! | array | array | array, of the type its elements get by the same rules |
//! | text | string | `STRING` |
//! | number | int32, int64, double, decimal128 | the widest seen: `INT` < `BIGINT` < `DOUBLE` |
//! | time | date | `TIMESTAMP` |
//! | truth | boolean | `BOOLEAN` |
//! | id | ObjectId | `{"oid": "STRING", "bsontype": "INT"}` |
//! | other | binary, regex, code, … | none in the classic dialect: `TINYINT`, and a [`Finding`] says so |

use crate::field_index::{FieldIndex, Walk};
use crate::model::{Fields, Node, ScalarType, Schema};
use crate::raw::{Kind, Malformed, RawDoc, Value};

/// Nested documents and arrays below this are not looked into: MongoDB itself allows 100 levels.
const MAX_DEPTH: usize = 200;

/// Distinct field names that are kept of one document; a collection that uses data as field names has no end of them.
const MAX_FIELDS: usize = 10_000;

/// Families of types, in the order in which ties are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Document,
    Array,
    Text,
    Number,
    Time,
    Truth,
    Id,
    Other,
}

impl Family {
    const ALL: [Family; 8] = [
        Family::Document,
        Family::Array,
        Family::Text,
        Family::Number,
        Family::Time,
        Family::Truth,
        Family::Id,
        Family::Other,
    ];

    /// The family of a type; null and the old `undefined` have none.
    fn of(kind: Kind) -> Option<Family> {
        match kind {
            Kind::Null | Kind::Undefined => None,
            Kind::Document => Some(Family::Document),
            Kind::Array => Some(Family::Array),
            Kind::String => Some(Family::Text),
            Kind::Int32 | Kind::Int64 | Kind::Double | Kind::Decimal128 => Some(Family::Number),
            Kind::DateTime => Some(Family::Time),
            Kind::Boolean => Some(Family::Truth),
            Kind::ObjectId => Some(Family::Id),
            Kind::Binary
            | Kind::Regex
            | Kind::DbPointer
            | Kind::JavaScript
            | Kind::Symbol
            | Kind::CodeWithScope
            | Kind::Timestamp
            | Kind::MaxKey
            | Kind::MinKey => Some(Family::Other),
        }
    }
}

/// Something about a path that a person should know: some of its values will not go into its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Field names from the root, joined by dots; an array's elements have its path.
    pub path: String,
    /// What was chosen: a type's name, `DOCUMENT`, `ARRAY` or `OBJECTID`.
    pub chosen: &'static str,
    /// The types seen, nulls left out, with how often, in the order of their type numbers.
    pub seen: Vec<(Kind, u64)>,
    /// Distinct field names beyond the limit, which are not in the schema.
    pub names_beyond_limit: u64,
}

/// What has been seen of a collection so far.
#[derive(Debug, Clone, Default)]
pub struct Inference {
    documents: u64,
    root: DocumentSeen,
}

#[derive(Debug, Clone, Default)]
struct DocumentSeen {
    names: FieldIndex,
    values: Vec<ValueSeen>,
    beyond_limit: u64,
}

#[derive(Debug, Clone, Default)]
struct ValueSeen {
    counts: [u64; Kind::ALL.len()],
    document: Option<Box<DocumentSeen>>,
    elements: Option<Box<ValueSeen>>,
}

impl Inference {
    /// Looks at one more document.
    ///
    /// # Errors
    /// [`Malformed`] if its bytes cannot be walked to the end; what came before the fault has been counted.
    pub fn observe(&mut self, document: RawDoc<'_>) -> Result<(), Malformed> {
        self.documents += 1;
        self.root.observe(document, 0)
    }

    /// Adds what another pass has seen of the same collection.
    pub fn merge(&mut self, other: Inference) {
        self.documents += other.documents;
        self.root.merge(other.root);
    }

    /// How many documents have been looked at.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// The schema in the terms of the classic dialect, and what it cannot say.
    pub fn classic_schema(&self, collection: &str) -> (Schema, Vec<Finding>) {
        let mut findings = Vec::new();
        let fields = self.root.resolve(&mut Vec::new(), &mut findings);
        // Fields are walked in the order in which they were first seen, which must not show.
        findings.sort_by(|a, b| a.path.cmp(&b.path));
        (Schema { collection: collection.to_owned(), fields }, findings)
    }
}

impl DocumentSeen {
    fn observe(&mut self, document: RawDoc<'_>, depth: usize) -> Result<(), Malformed> {
        let mut walk = Walk::default();
        for element in document.elements() {
            let element = element?;
            let Some(index) = self.index(&mut walk, element.name) else { continue };
            self.values[index].observe(&element, depth)?;
        }
        Ok(())
    }

    fn index(&mut self, walk: &mut Walk, name: &[u8]) -> Option<usize> {
        if let Some(known) = self.names.find(walk, name) {
            return Some(known);
        }
        // A name that is not UTF-8 cannot stand in a schema file.
        if self.names.len() >= MAX_FIELDS || std::str::from_utf8(name).is_err() {
            self.beyond_limit += 1;
            return None;
        }
        self.values.push(ValueSeen::default());
        Some(self.names.add(name))
    }

    fn merge(&mut self, other: DocumentSeen) {
        self.beyond_limit += other.beyond_limit;
        let names: Vec<Box<[u8]>> = other.names.names().map(Box::from).collect();
        for (name, value) in names.iter().zip(other.values) {
            if let Some(index) = self.index(&mut Walk::default(), name) {
                self.values[index].merge(value);
            }
        }
    }

    fn resolve<'s>(&'s self, path: &mut Vec<&'s str>, findings: &mut Vec<Finding>) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in self.names.names().zip(&self.values) {
            // index() lets no other name in.
            let Ok(name) = std::str::from_utf8(name) else { continue };
            path.push(name);
            fields.insert(name.to_owned(), value.resolve(path, findings));
            path.pop();
        }
        if self.beyond_limit > 0 {
            findings.push(Finding {
                path: path.join("."),
                chosen: "DOCUMENT",
                seen: Vec::new(),
                names_beyond_limit: self.beyond_limit,
            });
        }
        fields
    }
}

impl ValueSeen {
    fn observe(&mut self, element: &crate::raw::Element<'_>, depth: usize) -> Result<(), Malformed> {
        self.counts[element.kind.index()] += 1;
        if !matches!(element.kind, Kind::Document | Kind::Array) || depth >= MAX_DEPTH {
            return Ok(());
        }
        match element.value()? {
            Value::Document(document) => {
                self.document.get_or_insert_default().observe(document, depth + 1)?;
            }
            Value::Array(array) => {
                let elements = self.elements.get_or_insert_default();
                for element in array.elements() {
                    elements.observe(&element?, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn merge(&mut self, other: ValueSeen) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        if let Some(document) = other.document {
            self.document.get_or_insert_default().merge(*document);
        }
        if let Some(elements) = other.elements {
            self.elements.get_or_insert_default().merge(*elements);
        }
    }

    fn count(&self, kind: Kind) -> u64 {
        self.counts[kind.index()]
    }

    fn family_count(&self, family: Family) -> u64 {
        Kind::ALL.into_iter().filter(|kind| Family::of(*kind) == Some(family)).map(|kind| self.count(kind)).sum()
    }

    /// The family with most values; among equals the first.
    fn family(&self) -> Option<Family> {
        let (family, count) = Family::ALL
            .into_iter()
            .map(|family| (family, self.family_count(family)))
            .reduce(|best, next| if next.1 > best.1 { next } else { best })?;
        (count > 0).then_some(family)
    }

    fn resolve<'s>(&'s self, path: &mut Vec<&'s str>, findings: &mut Vec<Finding>) -> Node {
        let family = self.family();
        let (node, chosen) = match family {
            None | Some(Family::Other) => scalar(ScalarType::TinyInt),
            Some(Family::Text) => scalar(ScalarType::String),
            Some(Family::Number) => scalar(self.number()),
            Some(Family::Time) => scalar(ScalarType::Timestamp),
            Some(Family::Truth) => scalar(ScalarType::Boolean),
            Some(Family::Id) => (Node::object_id_pair(), "OBJECTID"),
            Some(Family::Document) => {
                let fields = self.document.as_ref().map(|d| d.resolve(path, findings)).unwrap_or_default();
                (Node::Document(fields), "DOCUMENT")
            }
            Some(Family::Array) => {
                let element = match &self.elements {
                    Some(elements) => elements.resolve(path, findings),
                    None => Node::Scalar(ScalarType::TinyInt),
                };
                (Node::Array(Box::new(element)), "ARRAY")
            }
        };
        if self.leaves_something_out(family) {
            let seen = Kind::ALL.into_iter().filter(|kind| Family::of(*kind).is_some());
            let seen = seen.map(|kind| (kind, self.count(kind))).filter(|(_, count)| *count > 0).collect();
            findings.push(Finding { path: path.join("."), chosen, seen, names_beyond_limit: 0 });
        }
        node
    }

    fn number(&self) -> ScalarType {
        if self.count(Kind::Double) + self.count(Kind::Decimal128) > 0 {
            ScalarType::Double
        } else if self.count(Kind::Int64) > 0 {
            ScalarType::BigInt
        } else {
            ScalarType::Int
        }
    }

    /// Whether values were seen that the chosen family has no place for, or may not hold exactly.
    fn leaves_something_out(&self, chosen: Option<Family>) -> bool {
        let strays = Family::ALL.into_iter().any(|family| Some(family) != chosen && self.family_count(family) > 0);
        let inexact = self.count(Kind::Decimal128) > 0 || (self.count(Kind::Int64) > 0 && self.count(Kind::Double) > 0);
        strays || chosen == Some(Family::Other) || (chosen == Some(Family::Number) && inexact)
    }
}

fn scalar(ty: ScalarType) -> (Node, &'static str) {
    (Node::Scalar(ty), ty.name())
}
