//! From counts to a schema.
//!
//! Types fall into families; nulls count for none. In the classic dialect the family with most values has the path
//! (among equals, the first of the table). In gizer's dialect a family has it that holds at least 99 % of the values;
//! below that the path is `JSON`. The values of other families are strays: NULL and counted in the classic dialect,
//! kept in `_extra` in gizer's.
//!
//! | family | BSON types | gizer's dialect | classic dialect |
//! |---|---|---|---|
//! | document | document | nested document | the same |
//! | array | array | array, of the type its elements get by the same rules | the same |
//! | text | string | `STRING` | the same |
//! | number | int32, int64, double, decimal128 | the widest seen (below) | `INT` < `BIGINT` < `DOUBLE` |
//! | time | date | `TIMESTAMP` | the same |
//! | truth | boolean | `BOOLEAN` | the same |
//! | id | ObjectId | `OBJECTID` | `{"oid": "STRING", "bsontype": "INT"}` |
//! | uuid | binary of subtype 4 | `UUID` | none |
//! | binary | binary of subtype 0 | `BINARY` | none |
//! | other | regex, code, other binary, … | `JSON` | none: `TINYINT`, and a [`Finding`] says so |
//!
//! Nothing but null: `TINYINT`. Numbers in gizer's dialect widen as `INT` < `BIGINT` < `DECIMAL` and
//! `INT` < `DOUBLE` < `DECIMAL`; an int64 that a double holds exactly does not widen `DOUBLE`.
//!
//! `_id` in gizer's dialect: one type and nothing awkward (text with NUL, more than 1,000 bytes, a date that
//! `timestamptz` does not hold): that type; everything else, `decimal128` included, and where no document was seen: `KEY`.
//! In both dialects an integer `_id` is `BIGINT`: ids count up, and one that no longer fits is a rejected document.
//!
//! An array inside of 31 others is `JSON` in gizer's dialect, because a key has no room for its position.
//!
//! A nested document with more than 1,000 different names uses data as names: it is `JSON` in gizer's dialect. Of the
//! collection's own fields the 1,000 that came most often have columns; the others stay in `_extra`.

use strum::VariantArray;

use super::{DocumentSeen, Inference, ValueSeen};
use crate::column_type::ScalarType;
use crate::layout::MAX_POSITIONS;
use crate::model::{Dialect, Field, Fields, Node, Schema};
use crate::raw::Kind;

/// More names than this in one document are taken for data.
const MAX_NAMES: usize = 1_000;

/// Most columns that a table gets from one schema: below PostgreSQL's 1,600, with room for keys and what is added.
const MAX_COLUMNS: usize = 1_500;

const NUMBERS: [Kind; 4] = [Kind::Int32, Kind::Int64, Kind::Double, Kind::Decimal128];

/// Families of types, in the order in which ties are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
enum TypeFamily {
    Document,
    Array,
    Text,
    Number,
    Time,
    Truth,
    Id,
    Uuid,
    Binary,
    Other,
}

/// Something about a path that a person should know: some of its values will not go into its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Field names from the root, joined by dots; an array's elements have its path.
    pub path: String,
    /// What was chosen: a type's name, `DOCUMENT` or `ARRAY`.
    pub chosen: &'static str,
    /// The types seen, nulls left out, with how often, in the order of their type numbers.
    pub seen: Vec<(Kind, u64)>,
    /// Fields that have no column because there are too many names.
    pub names_beyond_limit: u64,
}

pub(super) fn schema(inference: &Inference, collection: &str, dialect: Dialect) -> (Schema, Vec<Finding>) {
    let mut walk = Resolve { dialect, arrays: 0, path: Vec::new(), findings: Vec::new() };
    let mut fields = walk.fields(&inference.root);
    match dialect {
        Dialect::Classic => widen_id(&mut fields),
        Dialect::Gizer { .. } => {
            fields.insert("_id".to_owned(), key(inference).into());
            fit_columns(&mut fields);
        }
    }
    // Fields are walked in the order in which they were first seen, which must not show.
    walk.findings.sort_by(|a, b| a.path.cmp(&b.path));
    (Schema { collection: collection.to_owned(), dialect, table: None, fields }, walk.findings)
}

fn widen_id(fields: &mut Fields) {
    if let Some(id) = fields.get_mut("_id")
        && id.node == Node::Scalar(ScalarType::Int)
    {
        id.node = Node::Scalar(ScalarType::BigInt);
    }
}

/// The type of `_id` in gizer's dialect.
fn key(inference: &Inference) -> ScalarType {
    let seen = inference.root.names.names().position(|name| name == b"_id").map(|at| &inference.root.values[at]);
    let Some(seen) = seen else { return ScalarType::Key };
    let kinds: Vec<Kind> = Kind::ALL.iter().copied().filter(|kind| seen.count(*kind) > 0).collect();
    if inference.awkward_ids > 0 {
        return ScalarType::Key;
    }
    match kinds.as_slice() {
        [Kind::ObjectId] => ScalarType::ObjectId,
        [Kind::String] => ScalarType::String,
        [Kind::Int32] | [Kind::Int64] | [Kind::Int32, Kind::Int64] => ScalarType::BigInt,
        [Kind::Double] => ScalarType::Double,
        [Kind::DateTime] => ScalarType::Timestamp,
        [Kind::Boolean] => ScalarType::Boolean,
        [Kind::Binary] if seen.uuid == seen.count(Kind::Binary) => ScalarType::Uuid,
        [Kind::Binary] if seen.plain_binary == seen.count(Kind::Binary) => ScalarType::Binary,
        _ => ScalarType::Key,
    }
}

struct Resolve<'s> {
    dialect: Dialect,
    /// How many arrays enclose the current path.
    arrays: usize,
    path: Vec<&'s str>,
    findings: Vec<Finding>,
}

impl<'s> Resolve<'s> {
    fn fields(&mut self, document: &'s DocumentSeen) -> Fields {
        let mut known: Vec<(&str, &ValueSeen)> = Vec::with_capacity(document.names.len());
        for (name, value) in document.names.names().zip(&document.values) {
            // Nothing else is let in while documents are observed.
            known.extend(std::str::from_utf8(name).ok().map(|name| (name, value)));
        }
        let mut beyond = document.beyond_limit;
        if self.dialect != Dialect::Classic && known.len() > MAX_NAMES {
            // By counts, and then by name: the order of the documents does not matter.
            known.sort_by_key(|(name, value)| (*name != "_id", std::cmp::Reverse(value.all()), *name));
            beyond += known.drain(MAX_NAMES..).map(|(_, value)| value.all()).sum::<u64>();
        }
        let mut fields = Fields::new();
        for (name, value) in known {
            self.path.push(name);
            fields.insert(name.to_owned(), self.field(value));
            self.path.pop();
        }
        if beyond > 0 {
            self.find("DOCUMENT", Vec::new(), beyond);
        }
        fields
    }

    fn find(&mut self, chosen: &'static str, seen: Vec<(Kind, u64)>, names_beyond_limit: u64) {
        self.findings.push(Finding { path: self.path.join("."), chosen, seen, names_beyond_limit });
    }

    fn field(&mut self, value: &'s ValueSeen) -> Field {
        let family = value.ruling(self.dialect);
        let classic = self.dialect == Dialect::Classic;
        let (node, chosen) = match family {
            Ruling::Nothing => scalar(ScalarType::TinyInt),
            Ruling::Mixed => scalar(ScalarType::Json),
            Ruling::Family(TypeFamily::Text) => scalar(ScalarType::String),
            Ruling::Family(TypeFamily::Number) => scalar(value.number(self.dialect)),
            Ruling::Family(TypeFamily::Time) => scalar(ScalarType::Timestamp),
            Ruling::Family(TypeFamily::Truth) => scalar(ScalarType::Boolean),
            Ruling::Family(TypeFamily::Id) if classic => (Node::object_id_pair(), "OBJECTID"),
            Ruling::Family(TypeFamily::Id) => scalar(ScalarType::ObjectId),
            Ruling::Family(TypeFamily::Uuid | TypeFamily::Binary | TypeFamily::Other) if classic => {
                scalar(ScalarType::TinyInt)
            }
            Ruling::Family(TypeFamily::Uuid) => scalar(ScalarType::Uuid),
            Ruling::Family(TypeFamily::Binary) => scalar(ScalarType::Binary),
            Ruling::Family(TypeFamily::Other) => scalar(ScalarType::Json),
            Ruling::Family(TypeFamily::Document) => self.document(value),
            Ruling::Family(TypeFamily::Array) => self.array(value),
        };
        let mut field = Field::from(node);
        if value.is_worth_telling(self.dialect, &family) {
            let seen = value.seen();
            if !classic {
                field.seen = seen.iter().map(|(kind, count)| (kind.report_name().to_owned(), *count)).collect();
            }
            self.find(chosen, seen, 0);
        }
        field
    }

    fn document(&mut self, value: &'s ValueSeen) -> (Node, &'static str) {
        let Some(document) = &value.document else { return (Node::Document(Fields::new()), "DOCUMENT") };
        let names = document.names.len() as u64;
        if self.dialect != Dialect::Classic && (document.names.len() > MAX_NAMES || document.beyond_limit > 0) {
            self.find("JSON", Vec::new(), names);
            return scalar(ScalarType::Json);
        }
        (Node::Document(self.fields(document)), "DOCUMENT")
    }

    fn array(&mut self, value: &'s ValueSeen) -> (Node, &'static str) {
        if self.dialect != Dialect::Classic && self.arrays == MAX_POSITIONS {
            return scalar(ScalarType::Json);
        }
        self.arrays += 1;
        let element = match &value.elements {
            None => ScalarType::TinyInt.into(),
            Some(elements) => self.field(elements),
        };
        self.arrays -= 1;
        // An array directly in an array is JSON, unless somebody asks for a table.
        let element = match (self.dialect, &element.node) {
            (Dialect::Gizer { .. }, Node::Array(_)) => ScalarType::Json.into(),
            _ => element,
        };
        (Node::Array(Box::new(element)), "ARRAY")
    }
}

fn scalar(ty: ScalarType) -> (Node, &'static str) {
    (Node::Scalar(ty), ty.name())
}

/// Which family has a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ruling {
    /// Nothing but null was seen.
    Nothing,
    Family(TypeFamily),
    /// None holds enough of it.
    Mixed,
}

impl ValueSeen {
    fn count(&self, kind: Kind) -> u64 {
        self.counts[kind.index()]
    }

    /// All values, nulls among them.
    fn all(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn family_count(&self, family: TypeFamily) -> u64 {
        let sum = |kinds: &[Kind]| kinds.iter().map(|kind| self.count(*kind)).sum::<u64>();
        match family {
            TypeFamily::Document => self.count(Kind::Document),
            TypeFamily::Array => self.count(Kind::Array),
            TypeFamily::Text => self.count(Kind::String),
            TypeFamily::Number => sum(&NUMBERS),
            TypeFamily::Time => self.count(Kind::DateTime),
            TypeFamily::Truth => self.count(Kind::Boolean),
            TypeFamily::Id => self.count(Kind::ObjectId),
            TypeFamily::Uuid => self.uuid,
            TypeFamily::Binary => self.plain_binary,
            TypeFamily::Other => {
                // Null and the old `undefined` are of no family.
                let kinds = [
                    Kind::Regex,
                    Kind::DbPointer,
                    Kind::JavaScript,
                    Kind::Symbol,
                    Kind::CodeWithScope,
                    Kind::Timestamp,
                    Kind::MaxKey,
                    Kind::MinKey,
                ];
                sum(&kinds) + self.count(Kind::Binary).saturating_sub(self.uuid + self.plain_binary)
            }
        }
    }

    /// The family with most values that are not null; in gizer's dialect only if it holds at least 99 % of them.
    fn ruling(&self, dialect: Dialect) -> Ruling {
        let (mut largest, mut most, mut total) = (TypeFamily::Document, 0, 0);
        for family in TypeFamily::VARIANTS {
            let count = self.family_count(*family);
            total += count;
            if count > most {
                (largest, most) = (*family, count);
            }
        }
        match dialect {
            _ if most == 0 => Ruling::Nothing,
            Dialect::Gizer { .. } if u128::from(most) * 100 < u128::from(total) * 99 => Ruling::Mixed,
            Dialect::Gizer { .. } | Dialect::Classic => Ruling::Family(largest),
        }
    }

    fn number(&self, dialect: Dialect) -> ScalarType {
        let has = |kind| self.count(kind) > 0;
        match dialect {
            Dialect::Classic if has(Kind::Double) || has(Kind::Decimal128) => ScalarType::Double,
            Dialect::Gizer { .. } if has(Kind::Decimal128) => ScalarType::Decimal,
            Dialect::Gizer { .. } if has(Kind::Double) && self.wide_int64 > 0 => ScalarType::Decimal,
            Dialect::Gizer { .. } if has(Kind::Double) => ScalarType::Double,
            _ if has(Kind::Int64) => ScalarType::BigInt,
            _ => ScalarType::Int,
        }
    }

    /// The types seen, without null.
    fn seen(&self) -> Vec<(Kind, u64)> {
        let kinds = Kind::ALL.iter().copied().filter(|kind| !matches!(kind, Kind::Null | Kind::Undefined));
        kinds.map(|kind| (kind, self.count(kind))).filter(|(_, count)| *count > 0).collect()
    }

    /// Whether values were seen that the chosen type has no place for, or may not hold exactly.
    fn is_worth_telling(&self, dialect: Dialect, ruling: &Ruling) -> bool {
        let Ruling::Family(chosen) = *ruling else { return *ruling == Ruling::Mixed };
        let strays = TypeFamily::VARIANTS.iter().any(|family| *family != chosen && self.family_count(*family) > 0);
        let [int32, int64, double, decimal] = NUMBERS.map(|kind| self.count(kind) > 0);
        let inexact = match dialect {
            Dialect::Classic => decimal || (int64 && double),
            Dialect::Gizer { .. } => [int32, int64, double, decimal].into_iter().filter(|seen| *seen).count() > 1,
        };
        let no_type =
            dialect == Dialect::Classic && matches!(chosen, TypeFamily::Uuid | TypeFamily::Binary | TypeFamily::Other);
        strays || no_type || (chosen == TypeFamily::Number && inexact)
    }
}

/// Keeps every table below PostgreSQL's limit: the nested document with most columns becomes JSON, until they fit.
fn fit_columns(fields: &mut Fields) {
    while columns(fields) > MAX_COLUMNS {
        // At most MAX_NAMES of its own are left, which fit.
        let Some(name) = largest_document(fields) else { break };
        fields.insert(name, ScalarType::Json.into());
    }
    for field in fields.values_mut() {
        fit_tables(&mut field.node);
    }
}

fn fit_tables(node: &mut Node) {
    match node {
        Node::Document(fields) => fields.values_mut().for_each(|field| fit_tables(&mut field.node)),
        Node::Array(element) | Node::NestedTable(element) => match &mut element.node {
            Node::Document(fields) => fit_columns(fields),
            other => fit_tables(other),
        },
        _ => {}
    }
}

fn columns(fields: &Fields) -> usize {
    fields.values().map(|field| node_columns(&field.node)).sum()
}

fn node_columns(node: &Node) -> usize {
    match node {
        Node::Document(fields) => columns(fields),
        Node::Array(_) | Node::NestedTable(_) | Node::Ignored => 0,
        Node::Scalar(_) | Node::List(_) => 1,
    }
}

fn largest_document(fields: &Fields) -> Option<String> {
    let documents = fields.iter().filter(|(_, field)| matches!(field.node, Node::Document(_)));
    documents.max_by_key(|(name, field)| (node_columns(&field.node), *name)).map(|(name, _)| name.clone())
}
