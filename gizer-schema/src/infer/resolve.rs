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
//! A nested document with more names than a table can have columns, or with one that is not UTF-8, is `JSON` in gizer's
//! dialect, unless it is a map. So are the widest nested documents of a collection that would have too many tables or
//! columns ([`narrow`](super::narrow)). Of the collection's own fields those that came most often have columns; the
//! others stay in `_extra`.

use std::collections::BTreeSet;

use super::maps::{MapSeen, map_of};
use super::narrow::{Crowded, SeenOf, narrow};
use super::together::{Names, Values};
use super::types_seen::{Ruling, TypeFamily};
use super::{Inference, InferenceRules};
use crate::column_type::ScalarType;
use crate::layout::MAX_POSITIONS;
use crate::model::{Dialect, Field, Fields, Node, Schema};
use crate::raw::Kind;

/// Something about a path that a person should know: some of its values will not go into its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Field names from the root, joined by dots; an array's elements have its path.
    pub path: String,
    /// What was chosen: a type's name, `DOCUMENT`, `ARRAY` or `MAP`.
    pub chosen: &'static str,
    /// The types seen, nulls left out, with how often, in the order of their type numbers.
    pub seen: Vec<(Kind, u64)>,
    /// Fields that have no column because there are too many names.
    pub names_beyond_limit: u64,
    /// Fields whose names are not UTF-8, so that a schema cannot name them.
    pub names_not_utf8: u64,
    /// Why it is a map, if it is one.
    pub map: Option<MapSeen>,
    /// Of what there would be too much if it were not JSON.
    pub crowded: Option<Crowded>,
}

impl Finding {
    pub(super) fn new(path: &[String], chosen: &'static str) -> Finding {
        let (seen, path) = (Vec::new(), path.join("."));
        Finding { path, chosen, seen, names_beyond_limit: 0, names_not_utf8: 0, map: None, crowded: None }
    }
}

pub(super) fn schema(
    inference: &Inference,
    collection: &str,
    dialect: Dialect,
    rules: &InferenceRules,
) -> (Schema, Vec<Finding>) {
    let (containers, path, findings, seen) = Default::default();
    let mut walk = Resolve { dialect, rules, containers, path, findings, seen };
    walk.seen.row(&[], inference.root.row_bytes);
    walk.seen.own(&[], inference.root.own_bytes);
    let mut fields = walk.fields(&Names::of(&[&inference.root]));
    match dialect {
        Dialect::Classic => widen_id(&mut fields),
        Dialect::Gizer { .. } => {
            fields.insert("_id".to_owned(), key(inference).into());
            let narrowed = narrow(&mut fields, &rules.limits, &walk.seen);
            walk.findings.extend(narrowed);
            leave_out_what_is_in_json(&mut walk.findings);
        }
    }
    // Fields are walked in the order in which they were first seen, which must not show.
    walk.findings.sort_by(|a, b| a.path.cmp(&b.path));
    (Schema { collection: collection.to_owned(), dialect, table: None, fields }, walk.findings)
}

/// The field of this name for some values, within the limits by itself, and what was found; `None` if nothing of it is, or
/// nothing is known of its type.
///
/// `containers` says how many arrays and maps it is in.
pub(super) fn field_alone(
    name: &str,
    values: &Values<'_>,
    containers: usize,
    rules: &InferenceRules,
) -> (Option<Field>, Vec<Finding>) {
    let (findings, seen) = Default::default();
    let path = vec![name.to_owned()];
    let mut walk = Resolve { dialect: Dialect::NEW, rules, containers, path, findings, seen };
    walk.seen.row(&[], values.row_bytes().0);
    let mut fields = Fields::from([(name.to_owned(), walk.field(values))]);
    leave_out_what_is_empty(&mut fields);
    let narrowed = narrow(&mut fields, &rules.limits, &walk.seen);
    walk.findings.extend(narrowed);
    (fields.remove(name), walk.findings)
}

/// Leaves out fields of which only null, `[]` or `{}` was seen: a later value says what they are.
fn leave_out_what_is_empty(fields: &mut Fields) {
    fields.retain(|_, field| match &mut field.node {
        Node::Scalar(scalar) => *scalar != ScalarType::TinyInt,
        Node::Document(fields) => {
            leave_out_what_is_empty(fields);
            !fields.is_empty()
        }
        Node::Array(inside) | Node::NestedTable(inside) | Node::Map(inside) => match &mut inside.node {
            Node::Document(fields) => {
                leave_out_what_is_empty(fields);
                true
            }
            node => *node != Node::Scalar(ScalarType::TinyInt),
        },
        Node::List(_) | Node::Ignored => true,
    });
}

/// Leaves out what was found below paths that became JSON.
fn leave_out_what_is_in_json(findings: &mut Vec<Finding>) {
    let json = findings.iter().filter(|finding| finding.crowded.is_some() && finding.chosen == "JSON");
    let json: BTreeSet<String> = json.map(|finding| finding.path.clone()).collect();
    let is_in_json = |path: &str| path.match_indices('.').any(|(end, _)| json.contains(&path[..end]));
    findings.retain(|finding| !is_in_json(&finding.path));
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
    let seen = &seen.types;
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

struct Resolve<'r> {
    dialect: Dialect,
    rules: &'r InferenceRules,
    /// How many arrays and maps enclose the current path.
    containers: usize,
    path: Vec<String>,
    findings: Vec<Finding>,
    seen: SeenOf,
}

impl Resolve<'_> {
    fn fields(&mut self, names: &Names<'_>) -> Fields {
        let mut known: Vec<(&str, Values<'_>)> =
            names.known.iter().map(|(name, values)| (*name, Values::of(values))).collect();
        let mut beyond = names.beyond_limit + names.folded_entries();
        let limit = self.rules.limits.columns;
        if self.dialect != Dialect::Classic && known.len() > limit {
            // By counts, and then by name: the order of the documents does not matter.
            known.sort_by_key(|(name, values)| (*name != "_id", std::cmp::Reverse(values.types.all()), *name));
            beyond += known.drain(limit..).map(|(_, values)| values.types.all()).sum::<u64>();
        }
        let mut fields = Fields::new();
        for (name, values) in known {
            self.path.push(name.to_owned());
            fields.insert(name.to_owned(), self.field(&values));
            self.path.pop();
        }
        let not_utf8 = names.not_utf8;
        if beyond + not_utf8 > 0 {
            let finding = Finding::new(&self.path, "DOCUMENT");
            self.findings.push(Finding { names_beyond_limit: beyond, names_not_utf8: not_utf8, ..finding });
        }
        fields
    }

    fn field(&mut self, values: &Values<'_>) -> Field {
        let family = values.types.ruling(self.dialect);
        let classic = self.dialect == Dialect::Classic;
        self.seen.values(&self.path, values.types.all());
        let (node, chosen) = match family {
            Ruling::Nothing => scalar(ScalarType::TinyInt),
            Ruling::Mixed => scalar(ScalarType::Json),
            Ruling::Family(TypeFamily::Id) if classic => (Node::object_id_pair(), "OBJECTID"),
            Ruling::Family(TypeFamily::Uuid | TypeFamily::Binary | TypeFamily::Other) if classic => {
                scalar(ScalarType::TinyInt)
            }
            Ruling::Family(TypeFamily::Document) => self.document(values),
            Ruling::Family(TypeFamily::Array) => self.array(values),
            Ruling::Family(family) => scalar(values.types.scalar_of(family, self.dialect).unwrap_or(ScalarType::Json)),
        };
        let mut field = Field::from(node);
        if values.types.is_worth_telling(self.dialect, &family) {
            let seen = values.types.seen();
            if !classic {
                field.seen = seen.iter().map(|(kind, count)| (kind.report_name().to_owned(), *count)).collect();
            }
            self.findings.push(Finding { seen, ..Finding::new(&self.path, chosen) });
        }
        field
    }

    fn document(&mut self, values: &Values<'_>) -> (Node, &'static str) {
        let names = Names::of(&values.documents);
        // A key has no room for more positions, and a document of the collection is no map.
        if let Some(rules) =
            self.rules.maps.as_ref().filter(|_| self.containers < MAX_POSITIONS && !self.path.is_empty())
            && let Some((seen, values)) = map_of(&names, rules)
        {
            return self.map(&values, seen);
        }
        let are_many = names.are_without_end() || names.known.len() > self.rules.limits.columns;
        if self.dialect != Dialect::Classic && (are_many || names.not_utf8 > 0) {
            let names_beyond_limit = if are_many { names.count() } else { 0 };
            let finding = Finding::new(&self.path, "JSON");
            self.findings.push(Finding { names_beyond_limit, names_not_utf8: names.not_utf8, ..finding });
            return scalar(ScalarType::Json);
        }
        self.seen.own(&self.path, values.row_bytes().1);
        (Node::Document(self.fields(&names)), "DOCUMENT")
    }

    fn map(&mut self, values: &Values<'_>, seen: MapSeen) -> (Node, &'static str) {
        self.findings.push(Finding { map: Some(seen), ..Finding::new(&self.path, "MAP") });
        (Node::Map(Box::new(self.inside(values))), "MAP")
    }

    fn array(&mut self, values: &Values<'_>) -> (Node, &'static str) {
        if self.dialect != Dialect::Classic && self.containers == MAX_POSITIONS {
            return scalar(ScalarType::Json);
        }
        let element = match values.elements() {
            None => ScalarType::TinyInt.into(),
            Some(elements) => self.inside(&elements),
        };
        (Node::Array(Box::new(element)), "ARRAY")
    }

    /// What is in an array or a map, and so in a table of its own. An array or a map directly in another is JSON, unless somebody
    /// asks for a table.
    fn inside(&mut self, values: &Values<'_>) -> Field {
        self.seen.row(&self.path, values.row_bytes().0);
        self.containers += 1;
        let told = self.findings.len();
        let inside = self.field(values);
        self.containers -= 1;
        if self.dialect == Dialect::Classic || !matches!(inside.node, Node::Array(_) | Node::Map(_)) {
            return inside;
        }
        self.findings.truncate(told);
        ScalarType::Json.into()
    }
}

fn scalar(ty: ScalarType) -> (Node, &'static str) {
    (Node::Scalar(ty), ty.name())
}
