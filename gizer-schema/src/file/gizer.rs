//! Reading gizer's dialect.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::ParseError;
use crate::column_type::ScalarType;
use crate::model::{Dialect, Field, Fields, Node, Schema};
use crate::names::shortened;

pub(super) fn parse(collection: &str, text: &str) -> Result<Schema, ParseError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let frame = reader.deserialize_map(FrameVisitor)?;
    reader.end()?;
    // A file that was copied for another collection, or whose collection is written with its database.
    let named = frame.collection.as_deref().unwrap_or(collection);
    if named != collection && named.split_once('.').map(|(_, rest)| rest) != Some(collection) {
        let named = shortened(named);
        let problem = format!("this is the schema of {named:?}: expected that of {collection:?}");
        return Err(ParseError { line: 1, column: 1, problem });
    }
    let dialect = Dialect::Gizer { exact_types: frame.exact_types };
    Ok(Schema { collection: collection.to_owned(), dialect, table: frame.table, fields: frame.fields })
}

#[derive(Default)]
struct Frame {
    collection: Option<String>,
    table: Option<String>,
    exact_types: bool,
    fields: Fields,
}

struct FrameVisitor;

impl<'de> Visitor<'de> for FrameVisitor {
    type Value = Frame;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with $gizer, collection and fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Frame, A::Error> {
        let mut frame = Frame::default();
        let mut has_fields = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "$gizer" => match map.next_value::<u64>()? {
                    1 => {}
                    other => {
                        let problem = format!("version {other} of the schema file: expected 1");
                        return Err(de::Error::custom(problem));
                    }
                },
                "collection" => frame.collection = Some(map.next_value()?),
                "$name" => frame.table = Some(map.next_value()?),
                "exact_types" => frame.exact_types = map.next_value()?,
                "fields" if has_fields => return Err(de::Error::custom("\"fields\" is there twice")),
                "fields" => {
                    frame.fields = map.next_value_seed(FieldsSeed)?;
                    has_fields = true;
                }
                other => {
                    let other = shortened(other);
                    let problem =
                        format!("unknown key {other:?}: expected $gizer, collection, $name, exact_types or fields");
                    return Err(de::Error::custom(problem));
                }
            }
        }
        if has_fields { Ok(frame) } else { Err(de::Error::missing_field("fields")) }
    }
}

struct FieldsSeed;

impl<'de> DeserializeSeed<'de> for FieldsSeed {
    type Value = Fields;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Fields, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FieldsSeed {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fields, A::Error> {
        let (fields, directives) = read_object(map)?;
        if directives.any() {
            return Err(de::Error::custom("a directive where only fields can be: expected fields and their types"));
        }
        Ok(fields)
    }
}

/// What an object says in addition to its fields.
#[derive(Default)]
struct Directives {
    policy: Option<String>,
    ty: Option<ScalarType>,
    items: Option<Field>,
    values: Option<Field>,
    name: Option<String>,
    seen: BTreeMap<String, u64>,
    pinned: bool,
}

impl Directives {
    fn any(&self) -> bool {
        self.policy.is_some()
            || self.ty.is_some()
            || self.items.is_some()
            || self.values.is_some()
            || self.name.is_some()
            || !self.seen.is_empty()
            || self.pinned
    }
}

fn read_object<'de, A: MapAccess<'de>>(mut map: A) -> Result<(Fields, Directives), A::Error> {
    let mut fields = Fields::new();
    let mut directives = Directives::default();
    while let Some(key) = map.next_key::<String>()? {
        if !key.starts_with('$') || key.starts_with("$$") {
            let name = key.strip_prefix('$').unwrap_or(&key).to_owned();
            if fields.contains_key(&name) {
                return Err(de::Error::custom(format!("the field {:?} is in this object twice", shortened(&name))));
            }
            let field = map.next_value_seed(FieldPlace::Field)?;
            fields.insert(name, field);
            continue;
        }
        match key.as_str() {
            "$as" => directives.policy = Some(map.next_value()?),
            "$type" => directives.ty = Some(scalar(&map.next_value::<String>()?)?),
            "$items" => directives.items = Some(map.next_value_seed(FieldPlace::Element)?),
            "$values" => directives.values = Some(map.next_value_seed(FieldPlace::Element)?),
            "$name" => directives.name = Some(map.next_value()?),
            "$seen" => directives.seen = map.next_value()?,
            "$pinned" => directives.pinned = map.next_value()?,
            other => {
                let other = shortened(other);
                return Err(de::Error::custom(format!(
                    "unknown directive {other:?}: expected $as, $type, $items, $values, $name, $pinned or $seen (a field of \
                     that name is written ${other})"
                )));
            }
        }
    }
    Ok((fields, directives))
}

/// Where a field's description is; reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FieldPlace {
    Field,
    Element,
}

impl<'de> DeserializeSeed<'de> for FieldPlace {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldPlace {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a type name, an object (nested document, or directives) or a list (array)")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Field, E> {
        scalar(name).map(Field::from)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Field, A::Error> {
        let (fields, mut directives) = read_object(map)?;
        let (name, seen) = (directives.name.take(), std::mem::take(&mut directives.seen));
        let pinned = std::mem::take(&mut directives.pinned);
        let node = node(fields, directives, self).map_err(de::Error::custom)?;
        if name.is_some() && matches!(node, Node::Document(_) | Node::Ignored) {
            return Err(de::Error::custom("$name: only a column or a table has a name of its own"));
        }
        if pinned && !matches!(node, Node::Scalar(_)) {
            return Err(de::Error::custom("$pinned: only the type of a value can be pinned"));
        }
        Ok(Field { node, name, seen, pinned })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        let element = seq.next_element_seed(FieldPlace::Element)?;
        let element = element.unwrap_or_else(|| Node::Document(Fields::new()).into());
        if seq.next_element::<de::IgnoredAny>()?.is_some() {
            return Err(de::Error::custom("a list describes its elements by one value: expected no second"));
        }
        Ok(Node::Array(Box::new(element)).into())
    }
}

fn node(fields: Fields, directives: Directives, place: FieldPlace) -> Result<Node, String> {
    let Directives { policy, ty, items, values, .. } = directives;
    match (policy.as_deref(), values) {
        (Some("map"), Some(value)) if ty.is_none() && items.is_none() && fields.is_empty() => {
            return Ok(Node::Map(Box::new(value)));
        }
        (Some("map"), _) => return Err("$as map: expected $values, and nothing else".to_owned()),
        (_, Some(_)) => return Err("$values: expected \"$as\": \"map\" next to it".to_owned()),
        (_, None) => {}
    }
    match (policy.as_deref(), ty, items, fields.is_empty()) {
        (None | Some("columns"), None, None, _) => Ok(Node::Document(fields)),
        (None, Some(ty), None, true) => Ok(Node::Scalar(ty)),
        (Some("json"), None, None, true) => Ok(Node::Scalar(ScalarType::Json)),
        (Some("ignore"), None, None, true) => Ok(Node::Ignored),
        (Some("array"), Some(ty), None, true) => match ty {
            ScalarType::Json | ScalarType::Key | ScalarType::TinyInt => {
                Err(format!("an array of {ty} in one column: expected another type"))
            }
            ty => Ok(Node::List(ty)),
        },
        (Some("table"), None, Some(items), true) if place == FieldPlace::Element => {
            Ok(Node::NestedTable(Box::new(items)))
        }
        (None | Some("table"), None, Some(items), true) => Ok(Node::Array(Box::new(items))),
        (Some("array"), ..) => Err("$as array: expected $type, and nothing else".to_owned()),
        (Some("table"), ..) => Err("$as table: expected $items, and nothing else".to_owned()),
        (Some(policy @ ("json" | "ignore" | "columns")), ..) => {
            Err(format!("$as {policy}: expected neither $type nor $items next to it"))
        }
        (Some(other), ..) => {
            Err(format!("unknown policy {:?}: expected columns, table, array, map, json or ignore", shortened(other)))
        }
        (None, ..) => Err("expected one of: fields, $type, $items".to_owned()),
    }
}

fn scalar<E: de::Error>(name: &str) -> Result<ScalarType, E> {
    name.parse().map_err(|_| {
        let known: Vec<&str> = ScalarType::ALL.iter().map(|t| t.name()).collect();
        E::custom(format!("unknown type {:?}: expected one of {} (or LONG)", shortened(name), known.join(", ")))
    })
}
